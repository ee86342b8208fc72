//! One name twice: whatever the two are, the later one is there, and a directory stays when it comes again.

use crate::builder::Builder;
use crate::sandbox::{Node, Sandbox};
use layers::{Compression, UnpackLimits, WhiteoutMode};
use std::os::unix::fs::MetadataExt;

const KINDS: [&str; 8] =
    ["file", "directory", "full directory", "link", "hard link", "pipe", "character device", "block device"];

fn add(builder: Builder, kind: &str, mode: u32) -> Builder {
    match kind {
        "file" => builder.with(b'0', "x", |h| (h.mode, h.size) = (mode, 4)).data(b"data"),
        "directory" => builder.dir("x", mode),
        "full directory" => {
            builder.dir("x", mode).file("x/in", b"side").dir("x/sub", 0o700).file("x/sub/f", b"")
        }
        "link" => builder.symlink("x", "t"),
        "hard link" => builder.hardlink("x", "t"),
        "pipe" => builder.with(b'6', "x", |h| h.mode = mode),
        "character device" => builder.with(b'3', "x", |h| (h.mode, h.device) = (mode, (1, 3))),
        _ => builder.with(b'4', "x", |h| (h.mode, h.device) = (mode, (7, 1))),
    }
}

fn unpacked(builder: Builder, mode: WhiteoutMode) -> Sandbox {
    let sandbox = Sandbox::new();
    let bytes = builder.file("last", b"").end();
    sandbox.unpack_as(&bytes, Compression::None, mode, &UnpackLimits::default()).expect("unpack");
    sandbox
}

/// Without the time, which a directory has from its last change.
fn nodes(sandbox: &Sandbox) -> Vec<(std::path::PathBuf, Node)> {
    sandbox.tree().into_iter().collect()
}

#[test]
fn the_later_entry_wins_in_every_combination_of_kinds() {
    for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
        for first in KINDS {
            for second in KINDS {
                let target = || Builder::default().file("t", b"target");
                let both = unpacked(add(add(target(), first, 0o640), second, 0o750), mode);
                let alone = unpacked(add(target(), second, 0o750), mode);
                let merged = first.contains("directory") && second.contains("directory");
                if merged {
                    assert_eq!(both.node("x"), alone.node("x"), "{first}, {second}");
                    assert_eq!(both.has("x/sub/f"), first == "full directory" || second == "full directory");
                } else {
                    assert_eq!(nodes(&both), nodes(&alone), "{first}, then {second}, {mode:?}");
                }
                let links = both.root().join("t").metadata().expect("t").nlink();
                assert_eq!(links, if second == "hard link" { 2 } else { 1 }, "{first}, {second}");
                assert_eq!(both.read("t"), "target", "nothing is written through a link");
            }
        }
    }
}

#[test]
fn a_whiteout_and_an_entry_of_one_name_leave_the_entry() {
    for kind in KINDS {
        for whiteout_first in [true, false] {
            let builder = Builder::default().file("t", b"target");
            let builder = if whiteout_first {
                add(builder.file(".wh.x", b""), kind, 0o750)
            } else {
                add(builder, kind, 0o750).file(".wh.x", b"")
            };
            let sandbox = unpacked(builder, WhiteoutMode::Overlay);
            let alone =
                unpacked(add(Builder::default().file("t", b"target"), kind, 0o750), WhiteoutMode::Overlay);
            assert_eq!(nodes(&sandbox), nodes(&alone), "{kind}, {whiteout_first}");
            // What is below a directory must not show through; below anything else nothing does.
            assert_eq!(sandbox.is_opaque("x"), kind.contains("directory"), "{kind}, {whiteout_first}");
        }
    }
}

#[test]
fn the_same_entry_many_times_is_one_thing() {
    for kind in KINDS {
        let builder = (0..50).fold(Builder::default().file("t", b"target"), |b, _| add(b, kind, 0o711));
        let sandbox = unpacked(builder, WhiteoutMode::Overlay);
        let alone =
            unpacked(add(Builder::default().file("t", b"target"), kind, 0o711), WhiteoutMode::Overlay);
        assert_eq!(nodes(&sandbox), nodes(&alone), "{kind}");
    }
}

#[test]
fn a_directory_that_comes_again_takes_the_later_attributes_only() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .pax(b'x', &[("SCHILY.xattr.user.first", b"1"), ("SCHILY.xattr.user.both", b"1")])
        .dir("d", 0o2770)
        .file("d/f", b"")
        .pax(b'x', &[("SCHILY.xattr.user.both", b"2"), ("mtime", b"7")])
        .with(b'5', "d", |h| (h.mode, h.uid) = (0o701, 9))
        .file("d/g", b"")
        .end();
    sandbox.unpack(&archive).expect("unpack");
    let node = sandbox.node("d");
    assert_eq!((node.mode, node.uid, node.mtime), (0o40701, 9, (7, 0)));
    let path = sandbox.root().join("d");
    assert_eq!(crate::sandbox::xattr(&path, "user.first"), None);
    assert_eq!(crate::sandbox::xattr(&path, "user.both").as_deref(), Some(&b"2"[..]));
    assert_eq!((sandbox.node("d/f").gid, sandbox.node("d/g").gid), (0, 0));
}
