//! Roots as a user namespace sees them, and views.

use crate::builder::Builder;
use crate::case::{Case, View};
use container::plan::{IdMap, RootIds};
use snapshots::Writable;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

every_snapshotter!(
    a_mapped_root_is_the_containers_and_nothing_is_chowned,
    a_view_has_all_layers_and_takes_no_writes,
    a_view_can_be_mapped,
    views_and_containers_do_not_disturb_each_other,
);

const FIRST: u32 = 100_000;

fn ids() -> RootIds {
    let map = vec![IdMap { inside: 0, outside: FIRST, length: 65536 }];
    RootIds { uids: map.clone(), gids: map }
}

/// Owner and time of change of everything below a path.
pub fn stamps(path: &std::path::Path) -> Vec<(std::path::PathBuf, u32, u32, i64, i64)> {
    let stat = path.symlink_metadata().expect("stat");
    let mut all = vec![(path.to_owned(), stat.uid(), stat.gid(), stat.ctime(), stat.ctime_nsec())];
    if stat.is_dir() {
        for entry in std::fs::read_dir(path).expect("read_dir") {
            all.extend(stamps(&entry.expect("entry").path()));
        }
    }
    all.sort();
    all
}

fn a_mapped_root_is_the_containers_and_nothing_is_chowned(case: Case) {
    let chain = case.stack([
        Builder::default().dir("d", 0o755).file("d/f", b"old").with(b'0', "own", |h| (h.uid, h.gid) = (7, 8)),
        Builder::default().file("g", b"2").symlink("l", "g"),
    ]);
    let before: Vec<_> = chain.iter().map(|layer| stamps(&case.layer_content(layer))).collect();
    let writable = Writable { owner: Some((FIRST, FIRST)), ..Writable::default() };
    let source = case.snapshotter.prepare_with("c", &chain, &writable).expect("prepare");
    let view = View::with_ids(&source, &ids());
    let owner = |name: &str| {
        let stat = view.path(name).symlink_metadata().expect("stat");
        (stat.uid(), stat.gid())
    };
    for name in ["", "d", "d/f", "g", "l"] {
        assert_eq!(owner(name), (FIRST, FIRST), "{name:?}");
    }
    assert_eq!(owner("own"), (FIRST + 7, FIRST + 8));
    // The container's root is nobody on the node, and all of it is its own.
    let output = Command::new("sh")
        .args(["-c", "echo new > new && echo more >> d/f && mkdir made && cat d/f"])
        .current_dir(view.path(""))
        .uid(FIRST)
        .gid(FIRST)
        .output()
        .expect("sh");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"oldmore\n");
    assert_eq!((owner("new"), owner("d/f")), ((FIRST, FIRST), (FIRST, FIRST)));
    // From inside it is root's.
    let namespace =
        sys::userns::with_mappings("0 100000 65536\n", "0 100000 65536\n").expect("a user namespace");
    let path = format!("--user=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    let inside = Command::new("nsenter")
        .args([&*path, "--setuid", "0", "--setgid", "0", "stat", "-c", "%u:%g", ".", "d/f", "own", "new"])
        .current_dir(view.path(""))
        .output()
        .expect("nsenter");
    assert_eq!(String::from_utf8_lossy(&inside.stdout), "0:0\n0:0\n7:8\n0:0\n", "{inside:?}");
    let unmapped = (case.name == "devmapper").then(|| View::new(&source).path("new").metadata());
    let disk = unmapped.unwrap_or_else(|| case.path("containers/c/fs/new").metadata());
    let disk = disk.expect("new").uid();
    assert_eq!(
        disk,
        if case.whole() { 0 } else { FIRST },
        "an overlay's writable layer is not mapped itself"
    );
    let after: Vec<_> = chain.iter().map(|layer| stamps(&case.layer_content(layer))).collect();
    assert_eq!(before, after, "no file of a layer was given to anybody");
    // Another pod has other ids, on the same layers.
    let plain = case.view("plain", &chain);
    assert_eq!(plain.path("d/f").metadata().expect("d/f").uid(), 0);
    assert_eq!(plain.read("d/f"), "old");
}

fn a_view_has_all_layers_and_takes_no_writes(case: Case) {
    let chain = case.stack([
        Builder::default().file("low", b"1").file("gone", b"").file(".wh.never", b""),
        Builder::default().file("high", b"2").file(".wh.gone", b""),
    ]);
    for layers in [&chain[..], &chain[1..]] {
        let source = case.snapshotter.view(layers).expect("view");
        let view = View::new(&source);
        let wanted: &[&str] = if layers.len() == 2 { &["high", "low"] } else { &["gone", "low"] };
        assert_eq!(view.names(""), wanted);
        assert_eq!(view.read("low"), "1");
        let error = std::fs::write(view.path("new"), b"").expect_err("read-only");
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    assert!(case.snapshotter.containers().expect("containers").is_empty());
    assert!(case.snapshotter.view(&[]).is_err());
    let missing = case.snapshotter.view(&[crate::case::fresh()]).expect_err("no layer");
    assert_eq!(missing.kind(), types::ErrorKind::NotFound);
}

fn a_view_can_be_mapped(case: Case) {
    let layer = Builder::default().file("f", b"1").with(b'0', "own", |h| (h.uid, h.gid) = (7, 8));
    let chain = case.stack([layer, Builder::default().dir("d", 0o755)]);
    let view = View::with_ids(&case.snapshotter.view(&chain).expect("view"), &ids());
    for (name, uid, gid) in [("f", FIRST, FIRST), ("d", FIRST, FIRST), ("own", FIRST + 7, FIRST + 8)] {
        let stat = view.path(name).metadata().expect("stat");
        assert_eq!((stat.uid(), stat.gid()), (uid, gid), "{name}");
    }
}

fn views_and_containers_do_not_disturb_each_other(case: Case) {
    let chain = case.stack([Builder::default().file("f", b"image"), Builder::default().dir("d", 0o755)]);
    let source = case.snapshotter.view(&chain).expect("view");
    let (view, again) = (View::new(&source), View::new(&source));
    let container = case.view("c", &chain);
    container.write("f", "container");
    assert_eq!((view.read("f"), again.read("f")), ("image".into(), "image".into()));
    case.snapshotter.remove("c").expect("remove");
    assert_eq!(view.read("f"), "image");
}
