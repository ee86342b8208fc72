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

#[test]
fn a_daemon_or_shim_killed_at_any_moment_leaks_nothing() {
    let Some(mut node) = Node::serving() else { return };
    node.ok(&["pull", &node.busybox()]);
    let image = node.busybox();
    let logs = node.temp.path().join("logs");
    let whole = std::sync::atomic::AtomicU32::new(0);
    for round in 0..12_u64 {
        let files: Vec<_> = (0..3)
            .map(|n| {
                let name = format!("p{round}-{n}");
                let pod = format!(
                    r#"{{"metadata":{{"name":"{name}","namespace":"test","uid":"uid-{name}"}},"log_directory":{logs:?},"linux":{{}}}}"#
                );
                let container = format!(
                    r#"{{"metadata":{{"name":"c"}},"image":{{"image":"{image}"}},"command":["sleep","1000"],"log_path":"{name}.log","linux":{{"security_context":{{"namespace_options":{{"pid":1}}}}}}}}"#
                );
                (node.file(&format!("{name}-pod.json"), &pod), node.file(&format!("{name}.json"), &container))
            })
            .collect();
        std::thread::scope(|scope| {
            for (pod, container) in &files {
                let (node, whole) = (&node, &whole);
                scope.spawn(move || {
                    // Any of these may fail: the daemon is killed under them.
                    let made = node.verb(&["runp", pod]);
                    let id = crate::node::text(&made.stdout).trim().to_owned();
                    let created = node.verb(&["create", &id, container, pod]);
                    let container = crate::node::text(&created.stdout).trim().to_owned();
                    node.verb(&["start", &container]);
                    if node.verb(&["exec", "-s", &container, "true"]).status.success() {
                        whole.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    node.verb(&["stopp", &id]);
                });
            }
            // A different moment in each round, from the first step to the last.
            std::thread::sleep(Duration::from_millis(3 + round * 9));
            let pid = if round % 3 == 2 { node.a_shim() } else { None }
                .or(rustix::process::Pid::from_raw(node.pid()));
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        });
        node.end_daemon(Signal::KILL);
        node.start();
    }
    // Some came through whole and some did not, else nothing was tried.
    let whole = whole.into_inner();
    assert!((1..36).contains(&whole), "{whole} of 36 came through");
    node.ok(&["rmp", "-f", "-a"]);
    assert!(node.ok(&["pods", "-q"]).is_empty());
    assert!(node.ok(&["ps", "-a", "-q"]).is_empty());
    node.assert_nothing_left();
}
