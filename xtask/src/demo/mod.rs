//! `cargo xtask demo`: what a new user sees first. It builds, packs a small program as an image, runs a pod
//! of it, uses the pod, stops everything, and asks the kernel whether anything is left.
//!
//! It needs Rust, root and nothing else: no registry, no other runtime, no plugins. It works in a folder
//! of its own and never touches an installed Corten.

mod node;
mod proof;
mod story;

use crate::build::{Profile, build};
use crate::steps::outlive_signals;
use node::Node;
use std::time::{Duration, Instant};
use story::{heading, say, show};
use test_support::{http, image, serve_oci};

/// The manifest, and the reference in it that is replaced by where the image really is.
const MANIFEST: &str = "examples/hello.yaml";
const REFERENCE: &str = "127.0.0.1:5055/hello-web:latest";
/// The port that the pod's web server listens on.
const PORT: u16 = 8080;

/// The command.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    let built = arguments.contains(&"--no-build");
    crate::no_arguments(&arguments.iter().copied().filter(|word| *word != "--no-build").collect::<Vec<_>>())?;
    if !crate::install::is_root() {
        return Err("the demonstration makes namespaces, mounts and cgroups: run it as root".to_owned());
    }
    if !built {
        heading("Build");
        build(Profile::Release)?;
        say(&format!("the programs are in {}", Profile::Release.dist().display()));
    }
    outlive_signals()?;

    heading("An image from examples/hello-web, served from this process");
    let hello =
        image::hello_web(&Profile::Release.dist().join("hello-web")).map_err(|why| why.to_string())?;
    let server = serve_oci(&[("hello-web", "latest", &hello)]).map_err(|why| why.to_string())?;
    let reference = server.reference("hello-web", "latest");
    say(&format!("{reference}, {} KiB: no registry is needed", hello.size() / 1024));

    let mut node = Node::new()?;
    let outcome = tell(&mut node, &reference);
    if outcome.is_err() {
        node.show_logs();
    }
    heading("What is left");
    let left = node.end()?;
    outcome?;
    proof::judge(&left)?;
    heading("Done");
    say("To go on: target/dist/corten --help, README.md, and ARCHITECTURE.md.");
    Ok(())
}

/// The story, as far as it goes well.
fn tell(node: &mut Node, reference: &str) -> Result<(), String> {
    heading("The daemon starts");
    let ready = node.start_daemon()?;
    say(&format!("it answers after {} ms", ready.as_millis()));

    heading("A pod from examples/hello.yaml: an init container, a web server, a counter");
    let manifest = write_manifest(node, reference)?;
    let output = node.run_pod(&manifest)?;
    show("corten run hello.yaml --timings", &output);

    heading("Its web page, over the pod's own address");
    let address = node.pod_address(PORT)?;
    let page = get(address, "/")?;
    show(&format!("GET http://{address}/"), &page);
    if !page.contains("Hello from hello") {
        return Err("the page is not the one that the init container wrote".to_owned());
    }

    heading("Pods, logs, and a command inside");
    show("corten pods", &node.corten(&["pods"])?);
    show("corten ps", &node.corten(&["ps"])?);
    let web = node.container("web")?;
    let ticker = node.container("ticker")?;
    let logs = node.corten(&["logs", &web])?;
    show("corten logs WEB", &logs);
    if !logs.contains("GET / 200") {
        return Err("the log of the web server does not hold our request".to_owned());
    }
    show("corten exec TICKER /hello-web write --dir /tmp", &node.exec(&ticker)?);

    heading("The daemon is killed; the pod does not notice");
    node.kill_daemon()?;
    show(&format!("GET http://{address}/healthz"), &get(address, "/healthz")?);
    let ready = node.start_daemon()?;
    say(&format!("a new daemon has found its pods after {} ms", ready.as_millis()));
    show("corten ps", &node.corten(&["ps"])?);

    heading("Stop");
    let begin = Instant::now();
    show("the end of corten run", &node.stop_pod()?);
    say(&format!(
        "both containers and the pod are stopped and removed after {} ms",
        begin.elapsed().as_millis()
    ));
    Ok(())
}

fn write_manifest(node: &Node, reference: &str) -> Result<std::path::PathBuf, String> {
    let path = crate::workspace().join(MANIFEST);
    let text =
        std::fs::read_to_string(&path).map_err(|said| format!("cannot read {}: {said}", path.display()))?;
    if !text.contains(REFERENCE) {
        return Err(format!("{MANIFEST} does not name {REFERENCE}"));
    }
    let path = node.root.path().join("hello.yaml");
    std::fs::write(&path, text.replace(REFERENCE, reference))
        .map_err(|said| format!("cannot write {}: {said}", path.display()))?;
    Ok(path)
}

/// A page, as soon as the server in the pod listens.
fn get(address: std::net::SocketAddr, path: &str) -> Result<String, String> {
    story::within(Duration::from_secs(20), "an answer from the pod", || {
        let answer = http::get(address, path).map_err(|why| why.to_string())?;
        if answer.status == 200 {
            Ok(answer.text())
        } else {
            Err(format!("the answer was {}", answer.status))
        }
    })
}
