//! Processes on their way into a container, and hostile processes that wait for them there (CVE-2016-9962).

use crate::races::rounds;
use crate::{all_but_ptrace, attacker, quietly, without_ptrace};
use oci_suite::Case;
use oci_suite::attack::{install_attacker, loot, stop_attacker};
use std::process::Command;
use std::time::Instant;

/// What the attacker got.
#[track_caller]
fn stop(case: &Case, start: Instant) -> Vec<String> {
    let took = start.elapsed();
    println!("{took:?}; the attacker saw {} processes", stop_attacker(&case.bundle.root()));
    loot(&case.bundle.root(), "peek")
}

fn lies_in_wait(case: &Case) {
    install_attacker(&attacker(), &case.bundle.root());
    case.capabilities(&all_but_ptrace().iter().map(String::as_str).collect::<Vec<_>>());
    case.args(&["/oci-attacker", "peek"]);
}

/// Root in the container looks at each process that appears: its memory (writable), its descriptors, its root, its working
/// directory, its environment. What it gets of a process that is still the runtime is a way to the node. Comes in: `exec`,
/// 1,000 times, and 100 times the first process of a second container in the same PID namespace, which sees the node's files for a while.
/// Docker until 1.12.5 fell; Debian's peers hide themselves (`PR_SET_DUMPABLE`), so the next test shows with a careless
/// program that this attack works.
#[test]
fn cve_2016_9962_an_entering_process_cannot_be_traced_or_looked_into() {
    let Some(case) = Case::new("9962") else { return };
    lies_in_wait(&case);
    let process = case.run_detached();
    let Some(second) = Case::new("9962-second") else { return };
    second.namespace("pid", Some(process.path("ns/pid").to_str().unwrap())).args(&["/bin/busybox", "true"]);
    let start = Instant::now();
    for round in 0..rounds() {
        let _ = case
            .finish(&mut without_ptrace(&case.command(&["exec", &case.id, "/bin/busybox", "true"])))
            .good();
        if round % 10 == 0 {
            let _ = second.finish(&mut without_ptrace(&second.command(&["create", &second.id]))).good();
            let _ = second.finish(&mut without_ptrace(&second.command(&["start", &second.id]))).good();
            quietly(&mut second.command(&["delete", "--force", &second.id]));
        }
    }
    let got = stop(&case, start);
    assert!(got.is_empty(), "the attacker got at the runtime: {got:?}");
    case.delete_force();
    case.assert_nothing_left();
}

/// As above with a user namespace: there, root in the container has every capability, `CAP_SYS_PTRACE` among them.
#[test]
fn cve_2016_9962_root_of_a_user_namespace_cannot_look_into_an_entering_process_either() {
    let Some(case) = Case::new("9962-user") else { return };
    lies_in_wait(&case);
    case.user_namespace(200_000, 65_536).capabilities(&["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_KILL"]);
    let _ = case.run_detached();
    let start = Instant::now();
    for _ in 0..rounds() {
        let _ = case.call(&["exec", &case.id, "/bin/busybox", "true"]).good();
    }
    let got = stop(&case, start);
    assert!(got.is_empty(), "the attacker got at the runtime: {got:?}");
    case.delete_force();
    case.assert_nothing_left();
}

/// The same attacker, and a program that enters without care.
#[test]
fn control_of_cve_2016_9962_a_careless_process_is_looked_into() {
    let Some(case) = Case::new("9962-control") else { return };
    lies_in_wait(&case);
    let pid = case.run_detached().pid.to_string();
    let careless = case.bundle.aside().join("busybox-careless");
    std::fs::copy(oci_suite::bundle::BUSYBOX, &careless).unwrap();
    let start = Instant::now();
    for _ in 0..200 {
        // Without a program of the container it stays what it is: a shell of the node.
        let mut enter = Command::new(&careless);
        enter.args(["nsenter", "-t", &pid, "-p", careless.to_str().unwrap(), "true"]);
        quietly(&mut without_ptrace(&enter));
        if !loot(&case.bundle.root(), "peek").is_empty() {
            break;
        }
    }
    assert!(!stop(&case, start).is_empty(), "the attack does not work any more: mend the attacker");
    case.delete_force();
}

/// With `CAP_SYS_PTRACE` in the node's own user namespace (what debuggers are given) a container may look at any process that it sees.
/// So an entering process must not be seen before its root is the container's. It can still be traced, as with every runtime.
#[test]
fn an_entering_process_never_shows_the_root_of_the_node() {
    let Some(case) = Case::new("climb") else { return };
    install_attacker(&attacker(), &case.bundle.root());
    let witness = case.bundle.aside().join("witness");
    std::fs::write(&witness, "").unwrap();
    std::fs::write(case.bundle.root().join("out/witness"), witness.to_str().unwrap()).unwrap();
    case.capabilities(&["CAP_SYS_PTRACE"]).args(&["/oci-attacker", "climb"]);
    let _ = case.run_detached();
    let start = Instant::now();
    for _ in 0..rounds() {
        let _ = case.call(&["exec", &case.id, "/bin/busybox", "true"]).good();
    }
    stop(&case, start);
    let got = loot(&case.bundle.root(), "climb");
    assert!(got.is_empty(), "{} looks at the node's files: {:?}", got.len(), got.first());
    case.delete_force();
    case.assert_nothing_left();
}
