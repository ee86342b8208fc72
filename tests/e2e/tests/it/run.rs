//! `corten run`: with a daemon, and in its own process.

use crate::node::{Node, text};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

fn pod(node: &Node) -> String {
    let image = node.busybox();
    node.file(
        "pod.yaml",
        &format!(
            r#"apiVersion: v1
kind: Pod
metadata:
  name: shared
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  volumes:
    - name: data
      emptyDir: {{}}
  initContainers:
    - name: write
      image: {image}
      command: [sh, -c, "echo from-init > /data/file"]
      volumeMounts: [{{name: data, mountPath: /data}}]
  containers:
    - name: one
      image: {image}
      command: [sh, -c, "cat /data/file; touch /data/one"]
      volumeMounts: [{{name: data, mountPath: /data}}]
    - name: two
      image: {image}
      command: [sh, -c, "while [ ! -e /data/one ]; do sleep 0.05; done; echo seen; exit 3"]
      volumeMounts: [{{name: data, mountPath: /data}}]
"#
        ),
    )
}

#[test]
fn a_pod_runs_to_its_end_with_its_output_and_exit_code() {
    let Some(node) = Node::serving() else { return };
    let output = node.verb(&["run", &pod(&node)]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{out}{err}");
    assert!(out.contains("from-init") && out.contains("seen"), "{out}{err}");
    assert!(node.ok(&["pods", "-q"]).is_empty());
    node.assert_nothing_left();
}

#[test]
fn without_a_daemon_the_engine_runs_in_the_process() {
    let Some(node) = Node::new() else { return };
    let output =
        node.command(&["run", &pod(&node)]).env_remove("CONTAINER_RUNTIME_ENDPOINT").output().expect("runs");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{out}{err}");
    assert!(out.contains("from-init") && out.contains("seen"), "{out}{err}");
    node.assert_nothing_left();
}

#[test]
fn a_web_server_answers_on_the_pods_address_and_on_the_nodes_port() {
    let Some(node) = Node::serving() else { return };
    node.registry.push("nginx", "1", &test_support::image::nginx().expect("nginx-light")).expect("pushed");
    let port = 20_000 + std::process::id() % 10_000;
    let file = node.file(
        "web.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 5\n  containers:\n  - name: web\n    image: {}\n    ports: [{{containerPort: 80, hostPort: {port}}}]\n",
            node.registry.reference("nginx", "1")
        ),
    );
    node.ok(&["run", "--detach", &file]);
    let id = node.ok(&["pods", "-q"]);
    let json: serde_json::Value =
        serde_json::from_str(&node.ok(&["inspectp", "-o", "json", &id])).expect("JSON");
    let ip = json["status"]["network"]["ip"].as_str().expect("an address").to_owned();
    assert!(fetch(&format!("{ip}:80")).contains("200 OK"));
    assert!(fetch(&format!("127.0.0.1:{port}")).contains("200 OK"));
    node.ok(&["rmp", "-f", &id]);
    node.assert_nothing_left();
}

#[test]
fn an_interrupt_stops_the_pod_and_removes_it() {
    let Some(node) = Node::serving() else { return };
    let file = node.file(
        "long.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: long}}\nspec:\n  terminationGracePeriodSeconds: 5\n  containers:\n  - name: c\n    image: {}\n    command: [sh, -c, \"trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done\"]\n",
            node.busybox()
        ),
    );
    let mut run = node.command(&["run", &file]).stdout(std::process::Stdio::piped()).spawn().expect("runs");
    let mut output = std::io::BufReader::new(run.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("up") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut output, &mut line).expect("read") > 0, "it ended early");
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&run), rustix::process::Signal::INT)
        .expect("signal");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("read");
    run.wait().expect("waited");
    assert!(rest.contains("bye"), "the container was not asked to stop: {rest}");
    assert!(node.ok(&["pods", "-q"]).is_empty());
    node.assert_nothing_left();
}

fn fetch(address: &str) -> String {
    let address: SocketAddr = address.parse().expect("an address");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut answer = String::new();
            if stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
                && stream.read_to_string(&mut answer).is_ok()
                && !answer.is_empty()
            {
                return answer;
            }
        }
        assert!(Instant::now() < deadline, "nobody answers at {address}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
