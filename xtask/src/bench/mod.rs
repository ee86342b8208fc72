//! `cargo xtask bench`: Corten and Debian's containerd side by side on this machine, in turns.
//!
//! Both are started with roots of their own, the same CNI configuration and the same image, and are ended
//! by their process ids. Nothing of an installed runtime is touched. Needs root and the packages of
//! `cargo xtask test`.

mod containerd;
mod corten;
mod images;
mod oci;

use crate::build::{Profile, build};
use crate::steps::{outlive_signals, run};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use test_support::kernel::{Baseline, Watch};
use test_support::{TempRoot, image, serve_oci};

/// How long a daemon may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command; `oci` measures the OCI runtimes instead ([`oci`]), `images` pulls ([`images`]). Further arguments go to `corten bench`; `--only-corten` and `--only-containerd` leave one
/// out, `--no-build` takes what is in target/dist.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    if let Some((&"oci", rest)) = arguments.split_first() {
        return oci::command(rest);
    }
    if let Some((&"images", rest)) = arguments.split_first() {
        return images::command(rest);
    }
    let flag = |name: &str| arguments.contains(&name);
    let ours = !flag("--only-containerd");
    let theirs = !flag("--only-corten");
    let passed: Vec<_> = arguments
        .iter()
        .filter(|word| !["--only-corten", "--only-containerd", "--no-build"].contains(word))
        .collect();
    if !flag("--no-build") {
        build(Profile::Release)?;
    }
    let corten_program = Profile::Release.dist().join("corten");

    outlive_signals()?;
    let root = TempRoot::new().map_err(said)?;
    let busybox = image::busybox().map_err(said)?;
    let pause = image::pause().map_err(said)?;
    let nginx = image::nginx().map_err(said)?;
    let images = [("busybox", "bench", &busybox), ("pause", "bench", &pause), ("nginx", "bench", &nginx)];
    let server = serve_oci(&images).map_err(said)?;
    let conf_dir = root.config().join("cni");
    write_network(&conf_dir, &root.path().join("addresses"))?;
    let baseline = Baseline::take(Watch::root(root.path())).map_err(said)?;

    let mut command = Command::new(&corten_program);
    command.arg("bench");
    let corten = match ours {
        true => Some(corten::start(&corten_program, &root, &root.root(), &conf_dir)?),
        false => None,
    };
    let containerd = match theirs {
        true => Some(containerd::start(
            &root,
            &root.path().join("containerd/root"),
            &conf_dir,
            &server.reference("pause", "bench"),
        )?),
        false => None,
    };
    let sockets: Vec<_> = [&corten, &containerd].into_iter().flatten().map(|daemon| &daemon.socket).collect();
    match sockets[..] {
        [one] => command.arg("--endpoint").arg(one),
        [one, other] => command.arg("--endpoint").arg(one).arg("--vs").arg(other),
        _ => return Err("--only-corten and --only-containerd leave nothing to measure".to_owned()),
    };
    command.arg("--image").arg(server.reference("busybox", "bench"));
    command.arg("--pull-image").arg(server.reference("nginx", "bench")).args(passed);
    let outcome = run(&mut command, "What the daemons said is printed above.");
    let outcome = outcome.inspect_err(|_| {
        for daemon in [&corten, &containerd].into_iter().flatten() {
            print_tail(&daemon.log);
        }
    });
    drop((corten, containerd));
    end_monitors(&root);
    remove_bridge();
    let left = baseline.diff_within(Duration::from_secs(10)).map_err(said)?;
    outcome?;
    if left.is_empty() { Ok(()) } else { Err(format!("left behind:\n  {}", left.join("\n  "))) }
}

/// A daemon that was started for the measurement, ended when dropped.
struct Daemon {
    socket: std::path::PathBuf,
    log: std::path::PathBuf,
    _process: test_support::Supervised,
}

/// The bridge of the benchmark's pods.
const BRIDGE: &str = "corten-bench0";

/// The same list for both: bridge and host-local, with addresses kept below our root.
fn write_network(conf_dir: &Path, addresses: &Path) -> Result<(), String> {
    let conf = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "bench",
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "dataDir": addresses,
                "ranges": [[{ "subnet": "10.97.0.0/16" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    let path = conf_dir.join("10-bench.conflist");
    std::fs::create_dir_all(conf_dir)
        .and_then(|()| std::fs::write(&path, conf.to_string()))
        .map_err(|why| format!("cannot write {}: {why}", path.display()))
}

/// Monitors that a failed run left: each is ended by its id, known by the paths of our root in its arguments.
fn end_monitors(root: &TempRoot) {
    let place = root.path().display().to_string();
    for process in test_support::kernel::processes::all().unwrap_or_default() {
        if process.name.contains("shim") && process.arguments.contains(&place) {
            eprintln!("ending {process}");
            let _ = Command::new("kill").args(["-KILL", &process.pid.to_string()]).status();
        }
    }
}

/// CNI plugins leave their bridge on the node. Without `ip` it stays, and costs nothing.
fn remove_bridge() {
    let _ = Command::new("ip").args(["link", "delete", BRIDGE]).stderr(std::process::Stdio::null()).status();
}

/// Waits until something listens on a socket.
fn wait_for(socket: &Path, log: &Path) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if Instant::now() > end {
            print_tail(log);
            return Err(format!("nothing listens on {} after {PATIENCE:?}", socket.display()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The last lines of a log, for a failure.
fn print_tail(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    eprintln!("\nthe end of {}:", log.display());
    lines[lines.len().saturating_sub(20)..].iter().for_each(|line| eprintln!("  {line}"));
}

fn said(problem: impl std::fmt::Display) -> String {
    problem.to_string()
}
