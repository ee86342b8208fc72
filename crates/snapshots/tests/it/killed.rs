//! A process that is killed at any of its steps, with a real SIGKILL: what has its name is whole, and the rest goes.

use crate::builder::Builder;
use crate::case::{Case, View};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

every_snapshotter!(killed_at_any_step_all_that_has_a_name_is_whole);

const ROOT: &str = "SNAPSHOTS_KILLED_ROOT";
const NAME: &str = "SNAPSHOTS_KILLED_NAME";

fn id(number: u8) -> snapshots::ChainId {
    snapshots::ChainId::sha256(&[number; 32])
}

fn layer(number: u8) -> Builder {
    Builder::default()
        .dir("d", 0o755)
        .file(&format!("d/f{number}"), &[number; 5000])
        .hardlink(&format!("d/g{number}"), &format!("d/f{number}"))
}

/// What the process does that is killed.
#[test]
fn child() {
    if let Some(case) = of_child() {
        work(&case);
        done(&case);
    }
}

/// In the process that is killed, what it works on.
pub fn of_child() -> Option<Case> {
    let (Ok(root), Ok(name)) = (std::env::var(ROOT), std::env::var(NAME)) else { return None };
    let names = ["overlayfs", "erofs", "native", "btrfs", "devmapper"];
    let name = names.iter().find(|known| **known == name).expect("a known name");
    Some(Case::within(name, Path::new(&root)))
}

/// It came to its end.
pub fn done(case: &Case) {
    std::fs::write(case.top.path().join("done"), b"").expect("done");
}

fn work(case: &Case) {
    let mut chain = Vec::new();
    for number in [1, 2] {
        let (draft, unpacked) = case.draft(&id(number), chain.first(), layer(number));
        case.snapshotter.commit_layer(draft, &id(number), &chain, &unpacked).expect("commit");
        chain.insert(0, id(number));
    }
    case.snapshotter.prepare("a", &chain).expect("prepare");
    case.snapshotter.prepare("b", &chain[1..]).expect("prepare");
    case.snapshotter.remove("a").expect("remove");
    case.snapshotter.remove_layer(&chain[0]).expect("remove");
}

/// The calls that change something on the disk, in the middle of which it is killed.
const CALLS: [&str; 8] =
    ["mkdirat", "renameat2", "renameat", "fsync", "unlinkat", "pwrite64", "syncfs", "ioctl"];

/// Whether there is a strace, which sends the signal at a certain call.
pub fn has_strace() -> bool {
    let found = Command::new("strace").arg("-V").output().is_ok();
    if !found {
        println!("SKIPPED: there is no strace here, which sends the signal at a certain call");
    }
    found
}

/// Runs a test of this program in a process of its own, which is killed as it makes a call of this name for the
/// `count`th time. False where it came to its end before.
pub fn kill_at(test: &str, name: &str, folder: &Path, call: &str, count: u32) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={count}")])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--test-threads=1"])
        .env(ROOT, folder)
        .env(NAME, name)
        .output()
        .expect("strace")
        .status;
    if status.success() && folder.join("done").exists() {
        return false;
    }
    assert!(status.signal() == Some(9) || status.code() == Some(137), "{call} {count}: {status}");
    assert!(count < 500, "{call} is called without end");
    true
}

/// Kills it at its calls of each of these names, all of them or as many as `next` takes, in a folder of its own each time, and has a look at what that left.
/// How often it was killed.
pub fn at_calls(
    case: &Case,
    test: &str,
    calls: &[&str],
    next: impl Fn(u32) -> u32,
    prepare: impl Fn(&Path),
    look: impl Fn(&Path),
) -> usize {
    let mut kills = 0;
    for call in calls {
        let mut count = 1;
        loop {
            let folder = tempfile::tempdir_in(case.top.path()).expect("a folder");
            prepare(folder.path());
            if !kill_at(test, case.name, folder.path(), call, count) {
                break;
            }
            kills += 1;
            look(folder.path());
            count = next(count);
        }
    }
    println!("{kills} kills");
    kills
}

fn killed_at_any_step_all_that_has_a_name_is_whole(case: Case) {
    if !has_strace() {
        return;
    }
    let prepare = |folder: &Path| {
        if case.name == "devmapper" {
            // The signal would find mkfs.ext4, whose death is an error and no kill. See the tests of thin devices.
            Case::within(case.name, folder);
        }
    };
    // Calls of a kind are alike after some; the later ones are sampled.
    let next = |count| count + 1 + count / 4;
    let kills = at_calls(&case, "killed::child", &CALLS, next, prepare, |folder| {
        look(Case::within(case.name, folder));
    });
    assert!(kills > 20, "{kills}");
}

fn look(case: Case) {
    assert_eq!((case.count("ingest"), case.count("trash")), (0, 0));
    let there: Vec<_> = [2, 1].map(id).into_iter().filter(|id| case.snapshotter.has_layer(id)).collect();
    let mut listed = case.snapshotter.layers().expect("layers");
    listed.sort_by_key(|id| id.hex().to_owned());
    listed.reverse();
    assert_eq!(listed, there);
    for (number, at) in [(1, there.len().wrapping_sub(1)), (2, 0)] {
        if !there.contains(&id(number)) {
            continue;
        }
        let view = View::new(&case.snapshotter.view(&there[at..]).expect("view"));
        let content = std::fs::read(view.path(&format!("d/g{number}"))).expect("a whole layer");
        assert!(content == [number; 5000]);
    }
    for container in case.snapshotter.containers().expect("containers") {
        let layers = if container == "a" { &there[..] } else { &there[there.len().saturating_sub(1)..] };
        let view = View::new(&case.snapshotter.prepare(&container, layers).expect("prepare"));
        view.write("new", "1");
        case.snapshotter.remove(&container).expect("remove");
    }
    // What was begun can be begun again.
    work(&case);
}
