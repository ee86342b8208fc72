//! What scopes promise, on this machine's kernel: in all its hierarchies, and as if it had those of one version.

use crate::{Temporary, shell_with};
use cgroups::{Mode, Scope};
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};
use types::ErrorKind;

/// A tree with two processes that left its session, and the ids of all four.
fn tree(scope: &Scope) -> (Child, Vec<i32>) {
    let script =
        "setsid sh -c 'echo $$; setsid sleep 100 & echo $!; wait' & sleep 100 & echo $!; echo $$; wait";
    let mut child = shell_with(&scope.entry().unwrap(), script);
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut pids: Vec<i32> = lines.take(4).map(|line| line.unwrap().trim().parse().unwrap()).collect();
    pids.sort_unstable();
    (child, pids)
}

fn is_alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(") ").next().unwrap().starts_with(['Z', 'X'])
}

fn a_whole_tree_dies_alone(t: &Temporary) {
    let mut main = t.shell("exec sleep 100");
    let scope = t.group.scope("exec-1").unwrap();
    assert_eq!(scope.path(), format!("{}/exec-1", t.group.path()));
    let other = t.group.scope("exec-2").unwrap();
    let mut beside = shell_with(&other.entry().unwrap(), "exec sleep 100");
    let (mut child, pids) = tree(&scope);
    assert!(
        pids.iter().all(|pid| t.group.processes().unwrap().contains(pid)),
        "they count as the container's"
    );
    scope.kill().unwrap();
    child.wait().unwrap();
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    assert!(main.try_wait().unwrap().is_none(), "the container's process was killed");
    assert!(beside.try_wait().unwrap().is_none(), "the process of another exec was killed");
    scope.remove().unwrap();
    // Of what is gone.
    scope.remove().unwrap();
    scope.kill().unwrap();
    assert_eq!(scope.entry().unwrap_err().kind(), ErrorKind::NotFound);
    let mut all = vec![main.id() as i32, beside.id() as i32];
    all.sort_unstable();
    assert_eq!(t.group.processes().unwrap(), all);
    // The name is free again.
    t.group.scope("exec-1").unwrap();
    t.group.kill().unwrap();
    main.wait().unwrap();
    beside.wait().unwrap();
    t.group.remove().unwrap();
    assert!(t.cgroups.open(t.group.path()).unwrap().is_none());
}

#[test]
fn a_tree_that_left_its_session_is_killed_and_the_container_lives() {
    let Some(t) = Temporary::new("scope") else { return };
    a_whole_tree_dies_alone(&t);
}

#[test]
fn a_tree_is_killed_without_the_unified_hierarchy() {
    let Some(t) = Temporary::only("scope1", false) else { return };
    assert_eq!(t.cgroups.mode(), Mode::V1);
    a_whole_tree_dies_alone(&t);
}

#[test]
fn a_tree_is_killed_in_the_unified_hierarchy_alone() {
    let Some(t) = Temporary::only("scope2", true) else { return };
    assert_eq!(t.cgroups.mode(), Mode::V2);
    a_whole_tree_dies_alone(&t);
}

fn stays_and_goes_with_the_container(t: &Temporary) {
    let scope = t.group.scope("exec").unwrap();
    let (mut child, pids) = tree(&scope);
    let start = Instant::now();
    scope.remove().unwrap();
    assert!(start.elapsed() < Duration::from_millis(150), "it waited for processes that live");
    assert!(pids.iter().all(|pid| is_alive(*pid)), "removal must not kill");
    let again = t.group.scope("exec").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{}", again.chain());
    assert_eq!(t.group.remove().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    t.group.kill().unwrap();
    child.wait().unwrap();
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    t.group.remove().unwrap();
    assert_eq!(t.group.scope("exec").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_scope_with_processes_stays_until_the_container_goes() {
    let Some(t) = Temporary::new("scope-stay") else { return };
    stays_and_goes_with_the_container(&t);
}

#[test]
fn a_scope_with_processes_stays_without_the_unified_hierarchy_too() {
    let Some(t) = Temporary::only("scope-stay1", false) else { return };
    stays_and_goes_with_the_container(&t);
}

#[test]
fn a_scope_is_one_group_in_one_hierarchy() {
    let Some(t) = Temporary::new("scope-one") else { return };
    let count = || -> usize {
        let info = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts =
            info.lines().filter(|line| line.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
        mounts
            .filter(|mount| std::path::Path::new(&format!("{mount}{}/exec", t.group.path())).exists())
            .count()
    };
    let scope = t.group.scope("exec").unwrap();
    assert_eq!(count(), 1);
    let (entry, whole) = (scope.entry().unwrap(), t.group.entry().unwrap());
    assert_eq!(entry.tasks.len(), whole.tasks.len());
    assert_eq!(entry.directory.is_some(), whole.directory.is_some());
    // Groups below the scope that nobody lives in go with it; what another made of that name elsewhere does not.
    t.cgroups.create(&format!("{}/below", scope.path())).unwrap();
    scope.remove().unwrap();
    assert_eq!(count(), whole.tasks.len() - usize::from(t.cgroups.mode() == Mode::V1));
}

#[test]
fn names_that_are_not_one_plain_name_are_refused() {
    let Some(t) = Temporary::new("scope-name") else { return };
    for bad in ["", ".", "..", "../x", "a/b", "/a", "a\nb"] {
        assert_eq!(t.group.scope(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
    // The name of a file that the kernel keeps there.
    assert_eq!(t.group.scope("cgroup.procs").unwrap_err().kind(), ErrorKind::AlreadyExists);
}
