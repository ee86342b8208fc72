//! What only the overlay promises.

use crate::builder::Builder;
use crate::case::{Case, fresh};
use container::plan::RootSource;
use types::ErrorKind;

#[test]
fn layers_unpack_before_their_parents_and_settle_at_commit() {
    let case = Case::new("overlayfs");
    assert!(case.snapshotter.parallel());
    let (low, high) = (fresh(), fresh());
    let top = case.draft(&high, Some(&low), Builder::default().file("d/f", b"2").hardlink("l", "d/low"));
    let bottom = case.draft(&low, None, Builder::default().dir("d", 0o710).file("d/low", b"1"));
    case.snapshotter.commit_layer(bottom.0, &low, &[], &bottom.1).expect("commit");
    case.snapshotter.commit_layer(top.0, &high, std::slice::from_ref(&low), &top.1).expect("commit");
    let view = case.view("c", &[high, low]);
    assert_eq!((view.read("l"), view.names("d")), ("1".into(), vec!["f".to_owned(), "low".to_owned()]));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(view.path("d").metadata().expect("d").mode() & 0o7777, 0o710);
}

#[test]
fn a_layer_whose_parent_is_missing_is_not_committed() {
    let case = Case::new("overlayfs");
    let (low, high) = (fresh(), fresh());
    let (draft, unpacked) = case.draft(&high, Some(&low), Builder::default().file("d/f", b""));
    let error = case.snapshotter.commit_layer(draft, &high, &[low], &unpacked).expect_err("no parent");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!case.snapshotter.has_layer(&high));
    assert_eq!(case.count("ingest"), 0);
}

#[test]
fn the_node_never_sees_a_mount() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let case = Case::new("overlayfs");
    let chain = case.stack([Builder::default().file("f", b"")]);
    let source = case.snapshotter.prepare("c", &chain).expect("prepare");
    assert!(matches!(&source, RootSource::Overlay { lower, .. } if lower.len() == 1));
    assert!(!mounts().contains(case.top.path().to_str().expect("utf-8")));
}

/// A mount that ends with the test.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(mount: &std::os::fd::OwnedFd, place: &std::path::Path) -> Self {
        use rustix::mount::{MoveMountFlags, move_mount};
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mount, "", rustix::fs::CWD, place, flags).expect("move_mount");
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
}

#[test]
fn a_root_that_cannot_hold_overlays_is_refused_with_a_way_out_and_native_takes_over() {
    // An upper directory on an overlay is refused by the kernel: such a root is easy to have in a test.
    let case = Case::new("overlayfs");
    let chain = case.stack([Builder::default().dir("inner", 0o755)]);
    let view = case.view("c", &chain);
    let place = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let _mounted = Mounted::new(&view.0, place.path());
    let root = place.path().join("inner");
    match snapshots::open("overlayfs", &root) {
        Ok(_) => println!("skipped: this kernel takes an overlay as the upper layer of another"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
            assert!(error.message().contains("native"), "{error}");
            assert_eq!(snapshots::open_auto(&root).expect("native").name(), "native");
            // With layers from a time when it worked, changing over would lose every image.
            std::fs::create_dir(root.join("overlayfs/layers").join("ab".repeat(32))).expect("a layer");
            let error = snapshots::open_auto(&root).err().expect("layers from before");
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
            assert!(error.message().contains("overlayfs/layers"), "{error}");
        }
    }
    assert_eq!(snapshots::open_auto(case.top.path()).expect("overlayfs").name(), "overlayfs");
}

#[test]
fn a_root_too_long_for_mounts_is_refused() {
    let top = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let long = top.path().join("x".repeat(200));
    let error = snapshots::open("overlayfs", &long).err().expect("too long");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(snapshots::open("native", &long).is_ok());
}
