//! Writable layers that are full at a set size, while the pod beside is not.

use super::keepers::{BASE, Pool};
use super::{apart, assert_goes_without_a_trace, folders, place, served};
use crate::node::{Node, corten, text};
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::TempRoot;

const BOUND: u64 = 24 << 20;

/// Fills a container's layer to its bound, and looks at it and at the one beside.
fn full_at(temp: TempRoot, snapshotter: &str, more: &str, bound: u64, empty: &[PathBuf]) {
    let Some((_server, image)) = served() else { return };
    let config = format!("[snapshots]\nsnapshotter = {snapshotter:?}\n{more}");
    let mut node = Node::bare(temp, &config, empty);
    node.start();
    node.ok(&["pull", &image]);
    let script = "dd if=/dev/zero of=/big bs=65536; echo ended; sleep 1000";
    let (_, full) = node.container_of(&image, "full", script);
    let (_, beside) = node.container_of(&image, "beside", "sleep 1000");
    node.wait_for("a full disk", |n| n.log("full").contains("stdout F ended"));
    let log = node.log("full");
    assert!(log.contains("No space left on device"), "{log}");
    // Some of it is the file system's own, and on a thin device the image's.
    let allowed = bound / 3 * 2..=bound;
    let number = |words: &[&str]| -> u64 {
        let said = node.ok(&[&["exec", "-s", full.as_str()][..], words].concat());
        let kib = said.lines().last().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        said.parse().ok().or(kib.map(|kib| kib << 10)).unwrap_or_else(|| panic!("{words:?}: {said}"))
    };
    let (written, shown) = (number(&["stat", "-c", "%s", "/big"]), number(&["df", "-P", "-k", "/"]));
    assert!(allowed.contains(&written), "{written} bytes of {bound} were written");
    assert!(allowed.contains(&shown), "df shows {shown} of {bound} bytes");
    let write = "head -c 8000000 /dev/zero > /fits && stat -c %s /fits";
    assert_eq!(node.ok(&["exec", "-s", &beside, "sh", "-c", write]), "8000000");
    // The bound outlives the daemon, and what is deleted is free again.
    node.end_daemon(Signal::KILL);
    node.start();
    node.fails(&["exec", "-s", &full, "sh", "-c", "head -c 4000000 /dev/zero > /more"]);
    let again = "rm /big /more; head -c 8000000 /dev/zero > /again && stat -c %s /again";
    assert_eq!(node.ok(&["exec", "-s", &full, "sh", "-c", again]), "8000000");
    assert_goes_without_a_trace(node, &image, empty);
}

fn has_mkfs() -> bool {
    let found = Command::new("mkfs.ext4").arg("-V").output().is_ok();
    if !found {
        println!("skipped: there is no mkfs.ext4 here");
    }
    found
}

#[test]
fn a_container_on_overlayfs_is_full_at_the_quota_and_the_one_beside_it_is_not() {
    apart(|| {
        if !has_mkfs() {
            return;
        }
        let temp = place();
        let empty = folders(&temp, "overlayfs");
        full_at(temp, "overlayfs", "writable_quota = \"24MiB\"\n", BOUND, &empty);
    });
}

#[test]
fn a_container_on_erofs_is_full_at_the_quota_and_the_one_beside_it_is_not() {
    apart(|| {
        if !has_mkfs() {
            return;
        }
        let temp = place();
        let empty = folders(&temp, "erofs");
        full_at(temp, "erofs", "writable_quota = \"24MiB\"\n", BOUND, &empty);
    });
}

#[test]
fn a_container_on_a_thin_device_is_full_at_its_size_and_the_one_beside_it_is_not() {
    apart(|| {
        let Some(pool) = Pool::new() else { return };
        let temp = place();
        let empty = folders(&temp, "devmapper");
        full_at(temp, "devmapper", &pool.config(), BASE, &empty);
        assert_eq!(pool.active(), [""; 0]);
    });
}

#[test]
fn with_a_quota_that_the_snapshotter_cannot_keep_the_daemon_does_not_start_and_says_why() {
    apart(|| {
        let config = "[snapshots]\nsnapshotter = \"native\"\nwritable_quota = \"24MiB\"\n";
        let node = Node::bare(place(), config, &[]);
        let mut daemon = Command::new(corten())
            .args(["daemon", "--config"])
            .arg(node.config())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let end = Instant::now() + Duration::from_secs(60);
        while daemon.try_wait().expect("waited").is_none() {
            if Instant::now() > end {
                let _ = daemon.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = daemon.wait_with_output().expect("waited");
        let said = text(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code != 0), "{said}");
        assert!(said.contains("writable_quota") && said.contains("native"), "{said}");
        node.assert_nothing_left();
    });
}
