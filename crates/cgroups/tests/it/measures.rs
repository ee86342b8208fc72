//! How long the steps of the hot path take. The numbers are printed; only the order of magnitude is asserted.

use crate::Temporary;
use cgroups::Mode;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_group_comes_and_goes_quickly() {
    let Some(t) = Temporary::new("time") else { return };
    let (mut create, mut entry, mut remove) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..30 {
        let start = Instant::now();
        let group = t.cgroups.create(&format!("{}/{round}", t.group.path())).unwrap();
        create.push(start.elapsed());
        let start = Instant::now();
        let opened = group.entry().unwrap();
        entry.push(start.elapsed());
        drop(opened);
        let start = Instant::now();
        group.remove().unwrap();
        remove.push(start.elapsed());
    }
    let (create, entry, remove) = (median(create), median(entry), median(remove));
    eprintln!("medians: create {create:?}, entry {entry:?}, remove {remove:?}");
    assert!(create + entry + remove < Duration::from_millis(100));
}

#[test]
fn a_scope_comes_and_goes_quickly() {
    let Some(t) = Temporary::new("time-scope") else { return };
    let (mut create, mut entry, mut remove) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..100 {
        let start = Instant::now();
        let scope = t.group.scope(&format!("exec-{round}")).unwrap();
        create.push(start.elapsed());
        let start = Instant::now();
        let opened = scope.entry().unwrap();
        entry.push(start.elapsed());
        drop(opened);
        let start = Instant::now();
        scope.remove().unwrap();
        remove.push(start.elapsed());
    }
    let (create, entry, remove) = (median(create), median(entry), median(remove));
    eprintln!("scope, medians: create {create:?}, entry {entry:?}, remove {remove:?}");
    assert!(create + entry + remove < Duration::from_millis(20));
}

/// Why [`cgroups::Entry`] hands out descriptors: a thread that moves itself skips the lock of the whole machine.
#[test]
fn moving_oneself_is_not_slower_than_moving_another() {
    let Some(t) = Temporary::new("move") else { return };
    if t.cgroups.mode() == Mode::V2 {
        eprintln!("skipped: v2 processes are made in their group");
        return;
    }
    let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let group = t.cgroups.create(&format!("{}/{round}", t.group.path())).unwrap();
        let entry = group.entry().unwrap();
        let write = |text: String| {
            // The lock stays cheap for a while after it was taken (rcu_sync); starts of containers are further apart.
            std::thread::sleep(Duration::from_millis(30));
            let start = Instant::now();
            for fd in &entry.tasks {
                rustix::io::write(fd.as_fd(), text.as_bytes()).unwrap();
            }
            start.elapsed()
        };
        own.push(std::thread::scope(|scope| scope.spawn(|| write("0".to_owned())).join().unwrap()));
        other.push(write(child.id().to_string()));
    }
    let (own, other) = (median(own), median(other));
    eprintln!(
        "into all v1 hierarchies, medians: a thread moving itself {own:?}, moving another process {other:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(own <= other + Duration::from_millis(10), "{own:?} against {other:?}");
}
