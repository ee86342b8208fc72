//! What containerd's own client does with a runtime: everything that its shim can ask for.

use super::{Containerd, IMAGE};
use crate::machine::limited;
use std::process::{Output, Stdio};

const SPACE: &str = "plain";

/// `ctr run` with our runtime; it has no way to name one in its configuration.
fn run(containerd: &Containerd, options: &[&str], id: &str, words: &[&str]) -> Output {
    let program = crate::machine::runtime().display().to_string();
    let root = containerd.path("oci").display().to_string();
    let group = format!("/{}/{id}", containerd.cgroups().name);
    let all = ["run", "--runc-binary", &program, "--runc-root", &root, "--cgroup", &group];
    containerd.ctr(SPACE, &[&all[..], options, &[IMAGE, id], words].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

#[test]
fn ctr_runs_a_container_to_its_end() {
    let Some(containerd) = Containerd::new() else { return };
    let output = run(&containerd, &["--rm"], "one", &["sh", "-c", "echo out; echo err >&2; exit 6"]);
    assert_eq!(output.status.code(), Some(6));
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).contains("err")), ("out\n", true));
    let output = run(&containerd, &["--rm"], "two", &["no-such-command"]);
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("no-such-command"), "{error}");
    // The shim's own words for it; the runtime's message is behind them.
    assert!(error.contains("OCI runtime create failed") && error.contains("not found"), "{error}");
    containerd.end();
}

#[test]
fn ctr_has_terminals_for_containers_and_commands() {
    let Some(containerd) = Containerd::new() else { return };
    run(&containerd, &["-d"], "stays", &["sleep", "1000"]);
    let quoted = |words: &[&str]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let socket = containerd.path("s").display().to_string();
    let on_terminal = |words: &[&str]| {
        let line = format!("stty rows 33 cols 77; exec ctr {}", quoted(words));
        let mut child = limited(30, "script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        text(&output.stdout)
    };
    let script = "sleep 0.3; tty; stty size";
    let before = ["-a", &socket, "-n", SPACE];
    let exec = ["tasks", "exec", "-t", "--exec-id", "e1", "stays", "sh", "-c", script];
    let shown = on_terminal(&[&before[..], &exec[..]].concat());
    assert!(shown.contains("/dev/pts/0\n33 77\n"), "{shown:?}");
    let program = crate::machine::runtime().display().to_string();
    let root = containerd.path("oci").display().to_string();
    let group = format!("/{}/tty", containerd.cgroups().name);
    let run = [
        "run",
        "--rm",
        "-t",
        "--runc-binary",
        &program,
        "--runc-root",
        &root,
        "--cgroup",
        &group,
        IMAGE,
        "tty",
    ];
    let shown = on_terminal(&[&before[..], &run[..], &["sh", "-c", script]].concat());
    assert!(shown.contains("/dev/pts/0\n33 77\n"), "{shown:?}");
    containerd.ok(SPACE, &["tasks", "rm", "-f", "stays"]);
    containerd.ok(SPACE, &["containers", "rm", "stays"]);
    containerd.end();
}

#[test]
fn ctr_pauses_looks_at_and_kills_a_task() {
    let Some(containerd) = Containerd::new() else { return };
    let output = run(&containerd, &["-d", "--memory-limit", "33554432"], "task", &["sleep", "1000"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let status = || containerd.ok(SPACE, &["tasks", "list"]).lines().last().unwrap_or_default().to_owned();
    assert!(status().contains("RUNNING"), "{}", status());
    containerd.ok(SPACE, &["tasks", "pause", "task"]);
    assert!(status().contains("PAUSED"), "{}", status());
    containerd.ok(SPACE, &["tasks", "resume", "task"]);
    assert!(status().contains("RUNNING"), "{}", status());
    let output =
        containerd.ctr(SPACE, &["tasks", "exec", "--exec-id", "e1", "task", "sh", "-c", "echo in; exit 3"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(3), "in\n"));
    let output = containerd.ctr(SPACE, &["tasks", "exec", "--exec-id", "e2", "task", "no-such-command"]);
    let error = text(&output.stderr);
    assert!(error.contains("OCI runtime exec failed") && error.contains("no-such-command"), "{error}");
    let metrics = containerd.ok(SPACE, &["tasks", "metrics", "task"]);
    assert!(metrics.contains("memory"), "{metrics}");
    assert!(containerd.ok(SPACE, &["tasks", "ps", "task"]).lines().count() == 2);
    containerd.ok(SPACE, &["tasks", "kill", "-s", "SIGKILL", "task"]);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !status().contains("STOPPED") {
        assert!(std::time::Instant::now() < end, "{}", status());
    }
    // A second one finds nobody; the shim knows that by the runtime's words.
    let error = text(&containerd.ctr(SPACE, &["tasks", "kill", "-s", "SIGKILL", "task"]).stderr);
    assert!(error.is_empty() || error.contains("not found") || error.contains("already finished"), "{error}");
    containerd.ctr(SPACE, &["tasks", "rm", "task"]);
    containerd.ok(SPACE, &["containers", "rm", "task"]);
    containerd.end();
}
