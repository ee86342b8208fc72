//! Terminals: the runtime makes one in the container and hands it over (`--console-socket`).

use super::Podman;

#[test]
fn a_run_and_a_command_have_a_terminal_of_the_callers_size() {
    let Some(podman) = Podman::new() else { return };
    let script =
        "tty; test -t 0 && test -t 1 && test -t 2 && echo three; stty size; ls -l /dev/console | cut -c1";
    let words = podman.making("run", &["--rm", "-it"], &["sh", "-c", script]);
    let shown = podman.on_terminal(&words, &[]);
    assert!(shown.contains("/dev/pts/0\nthree\n33 77\nc\n"), "{shown:?}");
    podman.start("stays", &[], &["sleep", "1000"]);
    let shown = podman.on_terminal(&["exec", "-it", "stays", "sh", "-c", script], &[]);
    assert!(shown.contains("/dev/pts/0\nthree\n33 77\n"), "{shown:?}");
    podman.end();
}

#[test]
fn what_is_typed_reaches_the_container_and_its_exit_code_comes_back() {
    let Some(podman) = Podman::new() else { return };
    let words =
        podman.making("run", &["--rm", "-it"], &["sh", "-c", "echo ready; read line; echo \"<$line>\""]);
    let shown = podman.on_terminal(&words, &[("ready", "typed\n")]);
    assert!(shown.contains("<typed>"), "{shown:?}");
    // Ctrl-C is the terminal's business: the foreground process group of the container gets it.
    let script = "trap 'echo interrupted; exit 0' INT; echo ready; while :; do sleep 0.05; done";
    let words = podman.making("run", &["--rm", "-it"], &["sh", "-c", script]);
    let shown = podman.on_terminal(&words, &[("ready", "\x03")]);
    assert!(shown.contains("interrupted"), "{shown:?}");
    podman.end();
}
