//! Times the start of containers by a shim that runs already, as the engine does it: one request, one fork, one
//! answer once the program runs. Prints the median in microseconds. `cargo xtask bench oci` runs it beside the
//! command lines.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/pod.rs"]
mod pod;

use monitor::PidNamespace;
use std::time::Instant;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_usize).max(1);
    let Some(pod) = pod::Pod::start(0).await else { return };
    let plan = pod.plan(&["true"]);
    let mut micros = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let id = format!("c{round}");
        let begin = Instant::now();
        pod.run(&id, &plan, PidNamespace::Own).await.expect("starts");
        micros.push(begin.elapsed().as_micros());
        pod.exit(&id).await;
    }
    pod.end().await;
    micros.sort_unstable();
    println!("{}", micros[micros.len() / 2]);
}
