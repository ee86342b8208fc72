//! A killed daemon: pods run on, logs go on, and the next daemon knows all of it.

use crate::node::Node;
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_killed_daemon_loses_no_pod_no_exit_and_no_line() {
    let Some(mut node) = Node::serving() else { return };
    node.ok(&["pull", &node.busybox()]);
    let (pod, lasting) = node
        .container("lasting", "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); done; sleep 1000");
    let (_, ending) = node.container("ending", "sleep 0.5; exit 42");
    let ip = node.ok(&["inspectp", "-o", "json", &pod]);
    node.end_daemon(Signal::KILL);
    std::thread::sleep(Duration::from_millis(800));
    node.start();
    assert_eq!(node.status(&lasting, "state"), "CONTAINER_RUNNING");
    assert_eq!(node.status(&ending, "exitCode"), 42);
    let address = |text: &str| -> serde_json::Value {
        let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
        json["status"]["network"]["ip"].clone()
    };
    assert_eq!(address(&node.ok(&["inspectp", "-o", "json", &pod])), address(&ip));
    for _ in 0..2 {
        node.end_daemon(Signal::KILL);
        node.start();
    }
    assert_eq!(node.ok(&["exec", "-s", &lasting, "echo", "alive"]), "alive");
    node.wait_for("the last line", |n| n.log("lasting").ends_with("line 99999\n"));
    let log = node.log("lasting");
    let mut expected = 0;
    for line in log.lines() {
        assert!(line.ends_with(&format!(" stdout F line {expected}")), "{line}, expected {expected}");
        expected += 1;
    }
    assert_eq!(expected, 100_000);
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}

#[test]
fn a_daemon_that_is_asked_to_end_leaves_pods_running() {
    let Some(mut node) = Node::serving() else { return };
    node.ok(&["pull", &node.busybox()]);
    let (_, id) = node.container("c", "sleep 1000");
    let pid = node.ok(&["inspect", "-o", "json", &id]);
    let pid: serde_json::Value = serde_json::from_str(&pid).expect("JSON");
    let pid = pid["info"]["pid"].clone();
    assert!(node.end_daemon(Signal::TERM), "{}", node.daemon_log());
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid}");
    node.start();
    assert_eq!(node.status(&id, "state"), "CONTAINER_RUNNING");
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}

#[test]
fn a_pod_under_a_daemon_of_another_version_is_kept() {
    // A shim that is stopped answers nobody, like one whose protocol the daemon does not speak.
    let Some(mut node) = Node::serving() else { return };
    node.ok(&["pull", &node.busybox()]);
    let (pod, id) = node.container("c", "sleep 1000");
    let json: serde_json::Value =
        serde_json::from_str(&node.ok(&["inspectp", "-o", "json", &pod])).expect("JSON");
    let shim = json["info"]["pid"].as_i64().or_else(|| json["info"]["monitorPid"].as_i64());
    let shim =
        shim.and_then(|pid| rustix::process::Pid::from_raw(pid as i32)).unwrap_or_else(|| panic!("{json}"));
    rustix::process::kill_process(shim, Signal::STOP).expect("stopped");
    node.end_daemon(Signal::KILL);
    node.start();
    assert!(node.ok(&["pods"]).contains("Ready"));
    assert_eq!(node.status(&id, "state"), "CONTAINER_RUNNING");
    rustix::process::kill_process(shim, Signal::CONT).expect("continued");
    node.wait_for("an exec", |n| n.verb(&["exec", "-s", &id, "true"]).status.success());
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}
