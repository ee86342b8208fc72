//! Honest archives become exactly the tree that they describe.

use crate::builder::Builder;
use crate::sandbox::{Sandbox, xattr};
use layers::{Compression, UnpackLimits, WhiteoutMode, detect};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

const CAP: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn every_kind_of_entry_is_made_with_its_owner_mode_time_and_attributes() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .dir("./", 0o700)
        .dir("bin/", 0o555)
        .with(b'0', "bin/su", |h| {
            (h.mode, h.uid, h.gid, h.size) = (0o4755, 1000, 1001, 3);
        })
        .data(b"elf")
        .pax(
            b'x',
            &[
                ("mtime", b"-5.25"),
                ("SCHILY.xattr.user.note", b"a\0b"),
                ("SCHILY.xattr.security.capability", CAP),
                ("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0"),
                ("LIBARCHIVE.xattr.user.other", b"eA=="),
            ],
        )
        .file("bin/ping", b"icmp")
        .hardlink("bin/ping6", "./bin/ping")
        .symlink("bin/sh", "../usr/bin/dash")
        .device(b'3', "dev/null", 1, 3)
        .device(b'4', "dev/loop0", 7, 300)
        .with(b'6', "run/pipe", |h| h.mode = 0o620)
        .with(b'5', "tmp", |h| h.mode = 0o1777)
        .end();
    let unpacked = sandbox.unpack(&archive).expect("unpack");
    assert_eq!((unpacked.bytes, unpacked.inodes), (7, 10));
    assert_eq!(unpacked.pending.implied_dirs, ["dev", "run"].map(std::path::PathBuf::from));
    assert!(unpacked.pending.lower_links.is_empty());
    let bin = sandbox.node("bin");
    assert_eq!((bin.mode, bin.mtime), (0o40555, (1_600_000_000, 0)));
    let su = sandbox.node("bin/su");
    assert_eq!((su.mode, su.uid, su.gid, su.content.as_slice()), (0o104755, 1000, 1001, &b"elf"[..]));
    let ping = sandbox.root().join("bin/ping");
    assert_eq!(sandbox.node("bin/ping").mtime, (-6, 750_000_000));
    assert_eq!(xattr(&ping, "user.note").as_deref(), Some(&b"a\0b"[..]));
    assert_eq!(xattr(&ping, "security.capability").as_deref(), Some(CAP));
    assert_eq!(xattr(&ping, "user.other"), None);
    assert_eq!(xattr(&ping, "security.selinux"), None);
    let ping6 = sandbox.root().join("bin/ping6").metadata().expect("ping6");
    assert_eq!((ping6.ino(), ping6.nlink()), (ping.metadata().expect("ping").ino(), 2));
    assert_eq!(sandbox.node("bin/sh").content, b"../usr/bin/dash");
    assert_eq!((sandbox.node("dev/null").mode, sandbox.node("dev/null").rdev), (0o20644, 0x103));
    assert_eq!(sandbox.node("dev/loop0").rdev, rustix::fs::makedev(7, 300));
    assert_eq!(sandbox.node("run/pipe").mode, 0o10620);
    assert_eq!(sandbox.node("tmp").mode, 0o41777);
    assert_eq!(sandbox.node("dev").mode, 0o40755);
    let root = sandbox.root().metadata().expect("root");
    assert_eq!(root.mode() & 0o7777, 0o755, "the root's own entry is passed over, as in containerd");
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .dir("a", 0o755)
        .file("a/b/c", b"1")
        .file("a", b"file")
        .file("x", b"old")
        .dir("x", 0o711)
        .file("x/y", b"2")
        .symlink("l", "nowhere")
        .file("l", b"no link now")
        .dir("d", 0o700)
        .file("d/keep", b"k")
        .dir("d", 0o750)
        .end();
    let unpacked = sandbox.unpack(&archive).expect("unpack");
    assert!(unpacked.pending.implied_dirs.is_empty(), "a/b is gone: {:?}", unpacked.pending);
    assert_eq!(sandbox.read("a"), "file");
    assert_eq!(sandbox.read("x/y"), "2");
    assert_eq!(sandbox.read("l"), "no link now");
    assert_eq!((sandbox.node("d").mode, sandbox.read("d/keep").as_str()), (0o40750, "k"));
}

#[test]
fn parents_that_are_links_are_followed_within_the_root() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .symlink("lib64", "/usr/../../../usr/lib64")
        .symlink("usr/up", "../var/deep")
        .file("lib/x.so", b"x")
        .file("lib64/y.so", b"y")
        .file("usr/up/z", b"z")
        .hardlink("h", "lib/x.so")
        .end();
    let unpacked = sandbox.unpack(&archive).expect("unpack");
    assert_eq!(sandbox.read("usr/lib/x.so"), "x");
    assert_eq!(sandbox.read("usr/lib64/y.so"), "y");
    assert_eq!(sandbox.read("var/deep/z"), "z");
    assert_eq!(sandbox.read("h"), "x");
    assert_eq!(unpacked.pending.implied_dirs, ["usr/lib64", "var", "var/deep"].map(std::path::PathBuf::from));
}

#[test]
fn a_link_that_became_a_directory_is_followed_no_more() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .symlink("lib", "usr/lib")
        .file("lib/x", b"x")
        .dir("lib", 0o755)
        .file("lib/y", b"y")
        .symlink("lib", "usr/lib")
        .file("lib/z", b"z")
        .end();
    sandbox.unpack(&archive).expect("unpack");
    assert!(sandbox.has("usr/lib/x") && sandbox.has("usr/lib/z") && !sandbox.has("usr/lib/y"));
    assert_eq!(sandbox.node("lib").content, b"usr/lib");
}

#[test]
fn the_diff_id_covers_the_whole_stream_in_every_compression() {
    let tar = Builder::default().file("f", &vec![7; 300_000]).raw(&[0; 1024]).raw(b"and some rest").0;
    let want = {
        use sha2::Digest;
        types::Digest::sha256(&sha2::Sha256::digest(&tar).into())
    };
    let gzip = |part: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).expect("gzip");
        encoder.finish().expect("gzip")
    };
    let members = [gzip(&tar[..1000]), gzip(&tar[1000..])].concat();
    let frames = [
        zstd::encode_all(&tar[..700], 1).expect("zstd"),
        vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3],
        zstd::encode_all(&tar[700..], 1).expect("zstd"),
    ]
    .concat();
    for (bytes, compression) in
        [(tar.clone(), Compression::None), (members, Compression::Gzip), (frames, Compression::Zstd)]
    {
        assert_eq!(detect(&bytes), compression);
        let sandbox = Sandbox::new();
        let limits = UnpackLimits::default();
        let unpacked =
            sandbox.unpack_as(&bytes, compression, WhiteoutMode::Overlay, &limits).expect("unpack");
        assert_eq!(unpacked.diff_id, want, "{compression:?}");
        assert_eq!(sandbox.node("f").content.len(), 300_000);
        assert_eq!(layers::inspect(bytes.as_slice(), compression, &limits).expect("inspect"), want);
    }
}

#[test]
fn the_umask_and_set_gid_parents_change_nothing() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .with(b'5', "g", |h| (h.mode, h.gid) = (0o2777, 50))
        .with(b'0', "g/f", |h| h.mode = 0o666)
        .with(b'6', "g/p", |h| h.mode = 0o666)
        .file("g/implied/f", b"")
        .with(b'5', "g/d", |h| h.mode = 0o777)
        .end();
    // The umask of the test process is 022 at least; nothing here may be masked by it.
    sandbox.unpack(&archive).expect("unpack");
    assert_eq!(sandbox.node("g").mode, 0o42777);
    for (path, mode) in [("g/f", 0o100666), ("g/p", 0o10666), ("g/implied", 0o40755), ("g/d", 0o40777)] {
        let node = sandbox.node(path);
        assert_eq!((node.mode, node.gid), (mode, 0), "{path}");
    }
}

#[test]
fn what_an_archive_occupies_is_what_its_tree_occupies_or_is_not_said() {
    let long = "a/".repeat(100);
    let whole = || {
        Builder::default()
            .dir("./", 0o755)
            .dir("bin/", 0o755)
            .file("bin/large", &[7; 300_000])
            .hardlink("bin/larger", "bin/large")
            .symlink("bin/short", "large")
            .symlink("bin/long", &long)
            .device(b'3', "bin/null", 1, 3)
            .dir("empty/", 0o700)
            .dir("bin/", 0o700)
    };
    let sandbox = Sandbox::new();
    let unpacked = sandbox.unpack(&whole().end()).expect("unpack");
    let mut blocks = sandbox.root().metadata().expect("root").blocks();
    for name in ["bin", "bin/large", "bin/short", "bin/long", "bin/null", "empty"] {
        blocks += sandbox.root().join(name).symlink_metadata().expect(name).blocks();
    }
    assert_eq!(unpacked.allocated, Some(blocks * 512));
    assert!(blocks * 512 >= 300_000);
    for (what, archive) in [
        ("replaced", whole().file("bin/large", b"x")),
        ("implied", whole().file("other/small", b"x")),
        ("whiteout", whole().file("bin/.wh.old", b"")),
        ("link to what is below", whole().hardlink("bin/there", "usr/there")),
    ] {
        assert_eq!(Sandbox::new().unpack(&archive.end()).expect(what).allocated, None, "{what}");
    }
}
