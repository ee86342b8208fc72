//! Containers from their start to their removal.

use super::{IMAGE, Podman};
use crate::machine::until;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn a_run_gives_back_output_exit_code_and_input() {
    let Some(podman) = Podman::new() else { return };
    assert_eq!(podman.run(&[], &["echo", "hello"]), "hello");
    let (code, _) = podman.fails(&podman.making("run", &["--rm"], &["sh", "-c", "exit 7"]));
    assert_eq!(code, 7);
    let mut child = podman
        .command(&podman.making("run", &["--rm", "-i"], &["wc", "-c"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[b'x'; 100_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "100000");
    podman.end();
}

#[test]
fn commands_that_cannot_run_are_told_apart() {
    let Some(podman) = Podman::new() else { return };
    // Podman makes these codes from the words of the runtime's error (libpod/oci_util.go, `getOCIRuntimeError`).
    let (code, error) = podman.fails(&podman.making("run", &["--rm"], &["no-such-command"]));
    assert_eq!(code, 127, "{error}");
    assert!(error.contains("not found") && error.contains("no-such-command"), "{error}");
    // The message alone, out of the runtime's log in JSON.
    assert!(!error.contains("level="), "{error}");
    let (code, error) = podman.fails(&podman.making("run", &["--rm"], &["/etc/passwd"]));
    assert_eq!(code, 126, "{error}");
    podman.start("stays", &[], &["sleep", "1000"]);
    let (code, error) = podman.fails(&["exec", "stays", "no-such-command"]);
    assert_eq!(code, 127, "{error}");
    let (code, error) = podman.fails(&["exec", "stays", "/etc/passwd"]);
    assert_eq!(code, 126, "{error}");
    podman.end();
}

#[test]
fn a_container_lives_through_every_state() {
    let Some(podman) = Podman::new() else { return };
    let script =
        "trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; echo started; while :; do sleep 0.05; done";
    let id = podman.start("one", &[], &["sh", "-c", script]);
    assert!(
        podman.ok(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Status}}"]).starts_with(&format!("{id} Up"))
    );
    assert_eq!(podman.field("one", "{{.State.Status}}"), "running");
    let pid: i32 = podman.field("one", "{{.State.Pid}}").parse().unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("usr1"));
    until(|| podman.ok(&["logs", "one"]) == "started");
    podman.ok(&["kill", "-s", "USR1", "one"]);
    until(|| podman.ok(&["logs", "one"]) == "started\nusr1");
    assert_eq!(podman.ok(&["stop", "-t", "20", "one"]), "one");
    assert_eq!(podman.field("one", "{{.State.Status}} {{.State.ExitCode}}"), "exited 5");
    assert_eq!(podman.ok(&["wait", "one"]), "5");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    podman.ok(&["start", "one"]);
    let again: i32 = podman.field("one", "{{.State.Pid}}").parse().unwrap();
    assert!(again != pid && again > 0);
    podman.ok(&["restart", "-t", "20", "one"]);
    assert_eq!(podman.field("one", "{{.State.Status}}"), "running");
    podman.ok(&["kill", "one"]);
    assert_eq!(podman.ok(&["wait", "one"]), "137");
    podman.ok(&["rm", "one"]);
    assert_eq!(podman.ok(&["ps", "-a", "-q"]), "");
    podman.end();
}

#[test]
fn a_created_container_starts_later_and_can_be_attached_to() {
    let Some(podman) = Podman::new() else { return };
    let words =
        podman.making("create", &["--name", "later"], &["sh", "-c", "echo from the container; exit 3"]);
    podman.ok(&words);
    assert_eq!(podman.field("later", "{{.State.Status}}"), "created");
    podman.ok(&["init", "later"]);
    assert_eq!(podman.field("later", "{{.State.Status}}"), "initialized");
    let output = podman.podman(&["start", "--attach", "later"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from the container\n");
    podman.end();
}

#[test]
fn a_container_is_paused_and_goes_on() {
    let Some(podman) = Podman::new() else { return };
    podman.start("counts", &[], &["sh", "-c", "while :; do echo tick; sleep 0.02; done"]);
    podman.ok(&["pause", "counts"]);
    assert_eq!(podman.field("counts", "{{.State.Status}}"), "paused");
    let ticks = || podman.ok(&["logs", "counts"]).lines().count();
    let before = ticks();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(ticks(), before, "it went on while it was paused");
    let (_, error) = podman.fails(&["exec", "counts", "true"]);
    assert!(error.contains("running"), "{error}");
    podman.ok(&["unpause", "counts"]);
    until(|| ticks() > before);
    assert_eq!(podman.ok(&["exec", "counts", "echo", "again"]), "again");
    // Podman thaws before it kills.
    podman.ok(&["pause", "counts"]);
    podman.ok(&["rm", "-f", "-t", "0", "counts"]);
    podman.end();
}

#[test]
fn commands_run_inside_with_their_own_settings() {
    let Some(podman) = Podman::new() else { return };
    podman.start("host", &["--env", "FROM=container"], &["sleep", "1000"]);
    assert_eq!(podman.ok(&["exec", "host", "sh", "-c", "echo $FROM"]), "container");
    let script = "id -u; id -g; pwd; echo $FROM $NEW";
    let words =
        ["exec", "--user", "12:34", "--workdir", "/tmp", "--env", "NEW=exec", "host", "sh", "-c", script];
    assert_eq!(podman.ok(&words), "12\n34\n/tmp\ncontainer exec");
    let (code, _) = podman.fails(&["exec", "host", "sh", "-c", "exit 9"]);
    assert_eq!(code, 9);
    let mut child = podman
        .command(&["exec", "-i", "host", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through a pipe").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through a pipe");
    podman.ok(&["exec", "-d", "host", "sleep", "77"]);
    until(|| podman.ok(&["top", "host", "args"]).contains("sleep 77"));
    assert!(podman.ok(&["top", "host", "-ef"]).contains("sleep 1000"), "ps in the container");
    podman.end();
}

#[test]
fn descriptors_are_passed_on() {
    let Some(podman) = Podman::new() else { return };
    std::fs::write(podman.path("open"), "by descriptor").unwrap();
    let words = podman.making("run", &["--rm", "--preserve-fds", "1"], &["sh", "-c", "cat <&3"]);
    let command = podman.command(&words);
    let mut shell = podman.shell("exec 3<open; exec \"$@\"");
    shell.arg("sh").arg(command.get_program()).args(command.get_args());
    let output = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "by descriptor", "{}", crate::machine::said(&output));
    podman.end();
}

#[test]
fn health_checks_copies_and_statistics_work() {
    let Some(podman) = Podman::new() else { return };
    let health = ["--health-cmd", "test -e /well", "--health-interval", "disable"];
    podman.start("ward", &health, &["sleep", "1000"]);
    assert!(podman.fails(&["healthcheck", "run", "ward"]).0 == 1);
    std::fs::write(podman.path("well"), "yes").unwrap();
    podman.ok(&["cp", podman.path("well").to_str().unwrap(), "ward:/well"]);
    podman.ok(&["healthcheck", "run", "ward"]);
    assert_eq!(podman.field("ward", "{{.State.Health.Status}}"), "healthy");
    assert_eq!(podman.ok(&["exec", "ward", "cat", "/well"]), "yes");
    let stats = podman.ok(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "ward"]);
    assert!(stats.starts_with("1 ") && !stats.starts_with("1 0B"), "{stats}");
    assert!(podman.ok(&["diff", "ward"]).contains("A /well"));
    podman.end();
}

#[test]
fn several_containers_run_beside_each_other() {
    let Some(podman) = Podman::new() else { return };
    let names = ["a", "b", "c", "d"];
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let words = podman.making("run", &["-d", "--name", name], &["sleep", "1000"]);
            podman.command(&words).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(podman.ok(&["ps", "-q"]).lines().count(), names.len());
    assert_eq!(podman.ok(&["images", "-q", IMAGE]).lines().count(), 1);
    podman.ok(&["stop", "-a", "-t", "0"]);
    assert_eq!(podman.ok(&["ps", "-q"]), "");
    podman.end();
}
