//! `kill`.

use oci_suite::{Case, Kind, differs, lacks, output};

#[test]
fn signals_have_names_with_and_without_sig_and_numbers() {
    let Some(case) = Case::new("kill-names") else { return };
    case.script("trap 'echo one >> /told' USR1; touch /up; while :; do sleep 0.01; done");
    let _ = case.run_detached();
    output::until("the trap", || case.bundle.root().join("up").exists().then_some(()));
    for (count, name) in ["USR1", "SIGUSR1", "10", "usr1"].into_iter().enumerate() {
        let promise = || {
            case.kill(name);
            output::until("the signal", || {
                let told = std::fs::read_to_string(case.bundle.root().join("told")).unwrap_or_default();
                (told.lines().count() > count).then_some(())
            });
        };
        if name != "usr1" || !lacks(&[Kind::Crun], "names of signals in small letters") {
            promise();
        }
    }
}

#[test]
fn the_signal_is_term_where_none_is_given() {
    let Some(case) = Case::new("kill-default") else { return };
    case.script("trap 'echo told > /told; exit' TERM; touch /up; while :; do sleep 0.01; done");
    let _ = case.run_detached();
    output::until("the trap", || case.bundle.root().join("up").exists().then_some(()));
    let _ = case.call(&["kill", &case.id]).good();
    case.await_status("stopped");
    assert!(case.bundle.root().join("told").exists());
}

#[test]
fn a_signal_that_is_none_is_an_error_without_effect() {
    let Some(case) = Case::new("kill-wrong") else { return };
    let process = case.sleeps().run_detached();
    for wrong in ["NONESUCH", "999", "-1"] {
        let words =
            "runtime.md, Kill: \"This operation MUST send the specified signal\"; there is none of that name";
        let peers: &[Kind] = if wrong == "NONESUCH" { &[Kind::Crun] } else { &[] };
        differs(peers, words, || drop(case.call(&["kill", &case.id, wrong]).bad()));
    }
    assert!(process.lives());
}

#[test]
fn a_created_container_can_be_killed() {
    let Some(case) = Case::new("kill-created") else { return };
    let process = case.create();
    case.kill("KILL");
    output::until("the end", || (!process.lives()).then_some(()));
    case.await_status("stopped");
    let _ = case.call(&["delete", &case.id]).good();
    case.assert_nothing_left();
}

#[test]
fn kill_all_reaches_every_process_of_the_container() {
    let Some(case) = Case::new("kill-all") else { return };
    case.without_namespace("pid").script("sleep 1000 & sleep 1000 & touch /up; wait");
    let process = case.run_detached();
    output::until("the children", || case.bundle.root().join("up").exists().then_some(()));
    let groups = process.groups();
    let count = || groups.processes().len();
    output::until("three processes", || (count() == 3).then_some(()));
    let _ = case.call(&["kill", "--all", &case.id, "KILL"]).good();
    output::until("their end", || (count() == 0).then_some(()));
}

#[test]
fn kill_without_all_reaches_the_first_process_only() {
    let Some(case) = Case::new("kill-first") else { return };
    case.without_namespace("pid").script("sleep 1000 & touch /up; exec sleep 1001");
    let process = case.run_detached();
    output::until("the child", || case.bundle.root().join("up").exists().then_some(()));
    let groups = process.groups();
    case.kill("TERM");
    output::until("its end", || (!process.lives()).then_some(()));
    let left = groups.processes();
    // runc from 1.2 on kills the rest with the first one; the specification speaks of the one process.
    let words =
        "runtime.md, Kill: \"This operation MUST send the specified signal to the container process.\"";
    differs(&[], words, || assert_eq!(left.len(), 1));
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn a_paused_container_can_be_killed() {
    let Some(case) = Case::new("kill-paused") else { return };
    let process = case.sleeps().run_detached();
    let _ = case.call(&["pause", &case.id]).good();
    let promise = || {
        case.kill("KILL");
        output::until("its end", || (!process.lives()).then_some(()));
    };
    if oci_suite::Groups::unified() || !oci_suite::lacks(&[Kind::Crun], "killing a frozen group of version 1")
    {
        promise();
    }
}
