//! `run` and `start`.

use oci_suite::{Case, Kind, Process, differs, lacks, output};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;

#[test]
fn the_exit_status_is_the_programs() {
    let Some(case) = Case::new("run-status") else { return };
    for status in [0, 1, 7, 255] {
        assert_eq!(case.shell(&format!("exit {status}")).code, status);
    }
    case.assert_nothing_left();
}

#[test]
fn the_exit_status_of_a_killed_program_is_128_and_the_signal() {
    let Some(case) = Case::new("run-killed") else { return };
    // Without a pid namespace of its own it may kill itself.
    let said = case.without_namespace("pid").shell("kill -9 $$");
    assert_eq!(said.code, 137, "{said:?}");
    case.assert_nothing_left();
}

#[test]
fn a_signal_to_run_goes_to_the_container() {
    let Some(case) = Case::new("run-signal") else { return };
    if lacks(&[Kind::Crun], "how to pass a signal on (the shell around it)") {
        return;
    }
    case.script("trap 'exit 3' TERM; touch /up; while :; do sleep 0.02; done");
    let mut child = case.command(&["run", &case.id]).stdout(Stdio::null()).spawn().unwrap();
    output::until("the program", || case.bundle.root().join("up").exists().then_some(()));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = output::wait(&mut child, output::PATIENCE).expect("an end");
    assert_eq!(status.code(), Some(3));
    case.assert_nothing_left();
}

#[test]
fn a_detached_container_outlives_run() {
    let Some(case) = Case::new("run-detach") else { return };
    for flag in ["--detach", "-d"] {
        let _ = case.sleeps().call(&["run", flag, &case.id]).good();
        assert_eq!(case.status(), "running");
        assert!(case.process().lives());
        case.delete_force();
    }
    case.assert_nothing_left();
}

#[test]
fn run_keeps_the_container_with_keep() {
    let Some(case) = Case::new("run-keep") else { return };
    if lacks(&[Kind::Crun], "--keep") {
        return;
    }
    assert_eq!(case.script("exit 4").call(&["run", "--keep", &case.id]).code, 4);
    assert_eq!(case.status(), "stopped");
    let _ = case.call(&["delete", &case.id]).good();
    case.assert_nothing_left();
}

#[test]
fn run_writes_the_pid_file() {
    let Some(case) = Case::new("run-pid") else { return };
    let file = case.bundle.aside().join("pid");
    let _ = case.sleeps().call(&["run", "--detach", "--pid-file", file.to_str().unwrap(), &case.id]).good();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), case.process().pid.to_string());
}

#[test]
fn run_takes_no_subreaper() {
    let Some(case) = Case::new("run-subreaper") else { return };
    let _ = case.script("true").call(&["run", "--no-subreaper", &case.id]).good();
    case.assert_nothing_left();
}

#[test]
fn a_container_that_run_waits_for_is_gone_even_if_it_left_children() {
    let Some(case) = Case::new("run-orphans") else { return };
    let _ = case.shell("sleep 1000 & sleep 1000 & exit 0").good();
    case.assert_nothing_left();
    if lacks(&[Kind::Crun], "how to end what the first process left without a pid namespace") {
        return;
    }
    // Without a pid namespace its children would live on in the cgroup.
    let said = case.without_namespace("pid").shell("sleep 1000 >/dev/null 2>&1 & exit 0");
    let words = "runtime.md, Delete: it MUST delete the resources that were created; processes of its group are among them";
    assert_eq!(said.code, 0, "{said:?}");
    differs(&[], words, || case.assert_nothing_left());
}

#[test]
fn a_program_that_ends_at_once_is_no_error() {
    let Some(case) = Case::new("run-quick") else { return };
    for _ in 0..10 {
        let _ = case.script("true").run().good();
    }
    let _ = case.script("true").create();
    case.start();
    case.await_status("stopped");
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn a_failed_run_leaves_neither_descriptors_nor_processes() {
    let Some(case) = Case::new("run-failed") else { return };
    case.mount("/x", "bind", "/no/such/source", &["bind"]);
    let before = Process::own().read("mountinfo").lines().count();
    for _ in 0..5 {
        let _ = case.run().bad();
    }
    assert_eq!(before, Process::own().read("mountinfo").lines().count());
    case.assert_nothing_left();
}

#[test]
fn a_terminal_is_passed_through_by_run_in_the_foreground() {
    let Some(case) = Case::new("run-tty") else { return };
    case.edit(|config| config["process"]["terminal"] = true.into());
    case.script("tty; test -t 0 && test -t 1 && echo both");
    let program = case.runtime.command();
    if oci_suite::needs(std::path::Path::new("/usr/bin/script").exists(), "script(1)") {
        return;
    }
    let words: Vec<_> = [program.get_program()]
        .into_iter()
        .chain(program.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let line = format!("{} --root {} run {}", words.join(" "), case.state_dir.path().display(), case.id);
    let mut command = std::process::Command::new("/usr/bin/script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(case.bundle.path()).stdin(Stdio::null());
    let said = case.finish(&mut command).good();
    assert!(said.out.contains("/dev/pts/0") && said.out.contains("both"), "{said:?}");
}
