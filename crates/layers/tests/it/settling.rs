//! What lower layers answer once they are there.

use crate::builder::Builder;
use crate::sandbox::{Sandbox, xattr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

fn layer(builder: Builder) -> (Sandbox, layers::Unpacked) {
    let sandbox = Sandbox::new();
    let unpacked = sandbox.unpack(&builder.end()).expect("unpack");
    (sandbox, unpacked)
}

fn settle(top: &(Sandbox, layers::Unpacked), lower: &[&(Sandbox, layers::Unpacked)]) -> types::Result<()> {
    let fds: Vec<_> = lower.iter().map(|layer| layer.0.fd()).collect();
    layers::settle(top.0.fd().as_fd(), &fds, &top.1.pending)
}

#[test]
fn implied_directories_take_after_the_topmost_lower_layer_that_has_them() {
    let low = layer(
        Builder::default()
            .pax(b'x', &[("SCHILY.xattr.user.k", b"v"), ("mtime", b"7.5")])
            .with(b'5', "home", |h| (h.mode, h.uid, h.gid) = (0o2750, 5, 6))
            .dir("opt", 0o700),
    );
    let middle = layer(Builder::default().dir("opt", 0o711));
    let top = layer(Builder::default().file("home/f", b"").file("opt/a/b", b""));
    settle(&top, &[&middle, &low]).expect("settle");
    settle(&top, &[&middle, &low]).expect("again");
    let home = top.0.node("home");
    assert_eq!((home.mode, home.uid, home.gid, home.mtime), (0o42750, 5, 6, (7, 500_000_000)));
    assert_eq!(xattr(&top.0.root().join("home"), "user.k").as_deref(), Some(&b"v"[..]));
    assert_eq!(top.0.node("opt").mode, 0o40711);
    assert_eq!(top.0.node("opt/a").mode, 0o40755, "nobody below has it");
}

#[test]
fn what_a_layer_between_hides_is_not_looked_at() {
    let low = layer(Builder::default().dir("a", 0o700).dir("b", 0o700).dir("c", 0o755).dir("c/d", 0o700));
    let middle = layer(
        Builder::default().file(".wh.a", b"").file("b", b"").dir("c", 0o755).file("c/.wh..wh..opq", b""),
    );
    let top = layer(Builder::default().file("a/f", b"").file("b/f", b"").file("c/d/f", b""));
    settle(&top, &[&middle, &low]).expect("settle");
    for path in ["a", "b", "c/d"] {
        assert_eq!(top.0.node(path).mode, 0o40755, "{path}");
    }
    // The same by the layer's own marks.
    let top = layer(Builder::default().dir("c", 0o755).file("c/.wh..wh..opq", b"").file("c/d/f", b""));
    settle(&top, &[&low]).expect("settle");
    assert_eq!(top.0.node("c/d").mode, 0o40755);
}

#[test]
fn hard_links_into_lower_layers_are_copied_up_once() {
    let low = layer(
        Builder::default()
            .dir("usr", 0o755)
            .pax(b'x', &[("SCHILY.xattr.user.k", b"v")])
            .with(b'0', "usr/tool", |h| (h.mode, h.uid, h.size) = (0o4755, 3, 4))
            .data(b"tool"),
    );
    let top = layer(
        Builder::default()
            .dir("bin", 0o755)
            .hardlink("bin/a", "usr/tool")
            .hardlink("bin/b", "bin/a")
            .hardlink("bin/c", "/usr/tool"),
    );
    assert_eq!(top.1.pending.lower_links.len(), 3);
    settle(&top, &[&low]).expect("settle");
    settle(&top, &[&low]).expect("again");
    let a = top.0.node("bin/a");
    assert_eq!((a.mode, a.uid, a.content.as_slice()), (0o104755, 3, &b"tool"[..]));
    assert_eq!(xattr(&top.0.root().join("bin/a"), "user.k").as_deref(), Some(&b"v"[..]));
    let inodes = ["a", "b", "c"].map(|n| top.0.root().join("bin").join(n).metadata().expect("link").ino());
    assert!(inodes.iter().all(|&ino| ino == inodes[0]));
    assert_eq!(top.0.node("bin").mtime.0, 1_600_000_000, "the directory keeps its time");
}

#[test]
fn names_of_one_file_below_are_copied_up_as_one() {
    let low = layer(Builder::default().file("one", b"same").hardlink("two", "one").file("other", b"same"));
    let top = layer(
        Builder::default()
            .hardlink("a", "one")
            .hardlink("b", "two")
            .hardlink("c", "other")
            .hardlink("d", "two"),
    );
    for _ in 0..2 {
        settle(&top, &[&low]).expect("settle");
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|n| top.0.root().join(n).metadata().expect("link").ino());
        assert!(a == b && b == d && a != c);
        assert_eq!(top.0.node("d").content, b"same");
    }
}

#[test]
fn copying_up_has_a_limit() {
    let low = layer(Builder::default().file("huge", b""));
    let file = std::fs::File::options().write(true).open(low.0.root().join("huge")).expect("open");
    file.set_len((64 << 30) + 1).expect("a hole");
    let top = layer(Builder::default().hardlink("a", "huge"));
    let error = settle(&top, &[&low]).expect_err("too much");
    assert_eq!(error.kind(), types::ErrorKind::ResourceExhausted, "{error}");
    assert!(!top.0.has("a"));
}

#[test]
fn a_hard_link_to_what_is_nowhere_is_refused() {
    let low = layer(Builder::default().dir("d", 0o755));
    for target in ["none", "d"] {
        let top = layer(Builder::default().hardlink("l", target));
        let error = settle(&top, &[&low]).expect_err(target);
        assert_eq!(error.kind(), types::ErrorKind::InvalidArgument, "{error}");
    }
    let hidden = Builder::default().file(".wh.f", b"").hardlink("l", "f").end();
    assert!(Sandbox::new().unpack(&hidden).is_err(), "the layer deletes the target itself");
    let under = Builder::default().file(".wh.d", b"").hardlink("l", "d/f").end();
    assert!(Sandbox::new().unpack(&under).is_err(), "the layer deletes the target's parent");
}

#[test]
fn pending_paths_that_lead_out_are_refused() {
    let top = layer(Builder::default().dir("d", 0o755));
    for bad in ["../outside", "/etc", "d/../../outside", ""] {
        let pending = layers::Pending { implied_dirs: vec![PathBuf::from(bad)], ..Default::default() };
        assert!(layers::settle(top.0.fd().as_fd(), &[], &pending).is_err(), "{bad}");
        let links = vec![(PathBuf::from("d/x"), PathBuf::from(bad))];
        let pending = layers::Pending { lower_links: links, ..Default::default() };
        assert!(layers::settle(top.0.fd().as_fd(), &[], &pending).is_err(), "{bad}");
        let pending = layers::Pending { whiteouts: vec![PathBuf::from(bad)], ..Default::default() };
        assert!(layers::settle(top.0.fd().as_fd(), &[], &pending).is_err(), "{bad}");
    }
}

#[test]
fn only_whiteouts_that_hide_something_stay() {
    let low = layer(Builder::default().dir("d", 0o755).file("d/f", b"").file("gone", b""));
    let middle = layer(Builder::default().file(".wh.gone", b""));
    let top = layer(
        Builder::default()
            .file("d/.wh.f", b"")
            .file("d/.wh.never", b"")
            .file(".wh.gone", b"")
            .dir("new", 0o755)
            .file("new/.wh.f", b""),
    );
    settle(&middle, &[&low]).expect("settle");
    for _ in 0..2 {
        settle(&top, &[&middle, &low]).expect("settle");
        assert!(top.0.is_whiteout("d/f") && middle.0.is_whiteout("gone"));
        assert!(!top.0.has("d/never") && !top.0.has("gone") && !top.0.has("new/f"));
        assert_eq!(top.0.node("new").mtime.0, 1_600_000_000, "the directory keeps its time");
    }
}
