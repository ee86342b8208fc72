//! What only btrfs has: subvolumes that a container makes in its own, writable or not, deep in each other.

use crate::builder::Builder;
use crate::case::Case;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open")
}

#[test]
fn subvolumes_that_a_container_made_go_with_it() {
    let Some(case) = Case::open("btrfs") else { return };
    let chain = case.stack([Builder::default().file("f", b"1")]);
    let root = {
        case.snapshotter.prepare("c", &chain).expect("prepare");
        case.path("containers/c/fs")
    };
    std::fs::create_dir(root.join("d")).expect("mkdir");
    // Three deep, the middle one read-only; and a snapshot of the root in itself.
    let mut at = root.join("d");
    for name in ["one", "two", "three"] {
        sys::btrfs::create(open(&at).as_fd(), name.as_bytes()).expect("create");
        at = at.join(name);
        std::fs::write(at.join("file"), name).expect("write");
    }
    sys::btrfs::set_read_only(open(&root.join("d/one/two")).as_fd(), true).expect("read-only");
    sys::btrfs::snapshot(open(&root).as_fd(), open(&root.join("d")).as_fd(), b"copy", true)
        .expect("snapshot");
    case.snapshotter.remove("c").expect("remove");
    assert_eq!((case.count("containers"), case.count("trash")), (0, 0));
    case.snapshotter.remove_layer(&chain[0]).expect("remove");
    assert_eq!((case.count("layers"), case.count("trash")), (0, 0));
}

#[test]
fn a_committed_layer_cannot_be_written_to() {
    let Some(case) = Case::open("btrfs") else { return };
    let chain = case.stack([Builder::default().file("f", b"1")]);
    let error = std::fs::write(case.layer_content(&chain[0]).join("f"), "2").expect_err("read-only");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
}

#[test]
fn a_folder_that_is_on_no_btrfs_is_refused_in_words() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let error = snapshots::open("btrfs", folder.path()).err().expect("tmpfs");
    assert_eq!(error.kind(), types::ErrorKind::FailedPrecondition);
    assert!(error.message().contains("is not on a btrfs"), "{error}");
}

#[test]
fn a_damaged_layer_is_found_and_the_one_in_its_place_cannot_be_written_to() {
    let Some(case) = Case::open("btrfs") else { return };
    let base = case.stack([Builder::default().dir("d", 0o755).file("d/low", b"1")]);
    let layer = || Builder::default().file("f", b"right").hardlink("d/link", "d/low");
    let chain = crate::case::fresh();
    let (draft, unpacked) = case.draft(&chain, base.first(), layer());
    case.snapshotter.commit_layer(draft, &chain, &base, &unpacked).expect("commit");
    let verify = || {
        let (draft, unpacked) = case.draft(&chain, base.first(), layer());
        case.snapshotter.verify_layer(&draft, &chain, &base, &unpacked).expect("verify")
    };
    assert_eq!(verify(), None);
    let path = case.layer_content(&chain);
    sys::btrfs::set_read_only(open(&path).as_fd(), false).expect("writable");
    std::fs::write(path.join("f"), "wrong").expect("damage");
    let words = verify().expect("damage");
    assert!(words.contains("/f"), "{words}");
    let (draft, unpacked) = case.draft(&chain, base.first(), layer());
    case.snapshotter.replace_layer(draft, &chain, &base, &unpacked, &Vec::new).expect("replace");
    assert_eq!(verify(), None);
    let error = std::fs::write(path.join("f"), "again").expect_err("read-only");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
    let all = [chain.clone(), base[0].clone()];
    assert_eq!(case.view("c", &all).read("f"), "right");
    assert_eq!((case.count("ingest"), case.count("replaced"), case.count("trash")), (0, 0, 0));
}
