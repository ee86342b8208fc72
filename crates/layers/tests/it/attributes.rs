//! What an entry says of itself: extended attributes, capabilities, devices, times, names that are no text.

use crate::builder::{Builder, Head, seal};
use crate::sandbox::{Sandbox, xattr};
use layers::{Compression, UnpackLimits, WhiteoutMode};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use types::ErrorKind;

/// cap_net_raw+ep of version 2, and of version 3 with a user namespace's root.
const V2: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const V3: [u8; 24] = [1, 0, 0, 3, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0];

#[test]
fn attributes_that_steer_the_overlay_or_belong_to_the_host_never_pass() {
    const NEVER: &[&str] = &[
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "trusted.overlay.whiteout",
        "trusted.anything",
        "system.posix_acl_access",
        "system.posix_acl_default",
        "security.selinux",
        "security.SMACK64",
        "security.ima",
        "security.evm",
        "nonsense",
    ];
    let acl = [
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 0x20, 0, 5, 0, 255, 255,
        255, 255,
    ];
    for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
        for name in NEVER {
            let key = format!("SCHILY.xattr.{name}");
            let value: &[u8] = if name.contains("posix_acl") { &acl } else { b"y" };
            let records: &[(&str, &[u8])] = &[(key.as_str(), value), ("SCHILY.xattr.user.mine", b"1")];
            let archive = Builder::default()
                .pax(b'x', records)
                .dir("d", 0o755)
                .pax(b'x', records)
                .file("d/f", b"")
                .pax(b'x', records)
                .symlink("d/l", "f")
                .pax(b'x', records)
                .with(b'6', "d/p", |_| {})
                .pax(b'g', &[(key.as_str(), value)])
                .dir("e", 0o755)
                .end();
            let sandbox = Sandbox::new();
            sandbox.unpack_as(&archive, Compression::None, mode, &UnpackLimits::default()).expect(name);
            for path in ["", "d", "d/f", "d/l", "d/p", "e"] {
                assert_eq!(xattr(&sandbox.root().join(path), name), None, "{name} of {path:?}");
            }
            for path in ["d", "d/f"] {
                let mine = xattr(&sandbox.root().join(path), "user.mine");
                assert_eq!(mine.as_deref(), Some(&b"1"[..]), "{path}");
            }
        }
    }
}

#[test]
fn capabilities_of_versions_2_and_3_are_kept_and_nothing_else_is_taken() {
    let file = |value: &[u8]| {
        Builder::default()
            .pax(b'x', &[("SCHILY.xattr.security.capability", value)])
            .with(b'0', "ping", |h| (h.mode, h.uid, h.gid, h.size) = (0o755, 7, 8, 4))
            .data(b"icmp")
            .end()
    };
    for value in [&V2[..], &V3] {
        let sandbox = Sandbox::new();
        sandbox.unpack(&file(value)).expect("unpack");
        let found = xattr(&sandbox.root().join("ping"), "security.capability");
        assert_eq!(found.as_deref(), Some(value), "after the change of owner, and as it was");
    }
    let v1 = [1, 0, 0, 1, 0, 0x20, 0, 0, 0, 0, 0, 0];
    for bad in [&v1[..], b"", b"\0", &V2[..19], &V3[..20], &[7; 20], &[0xff; 24]] {
        let sandbox = Sandbox::new();
        let error = sandbox.unpack(&file(bad)).expect_err("no capabilities");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.chain());
        assert!(error.message().contains("file capabilities"), "{error}");
    }
}

#[test]
fn set_id_bits_are_set_once_the_owner_is() {
    let sandbox = Sandbox::new();
    let archive = [0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o4000]
        .iter()
        .fold(Builder::default(), |b, &mode| {
            let file = format!("f{mode:o}");
            b.with(b'0', &file, |h| (h.mode, h.uid, h.gid, h.size) = (mode, 5, 6, 3))
                .data(b"elf")
                .with(b'0', &format!("r{file}"), |h| h.mode = mode)
                .with(b'5', &format!("d{mode:o}"), |h| (h.mode, h.uid, h.gid) = (mode, 5, 6))
                .file(&format!("d{mode:o}/in"), b"")
        })
        .end();
    sandbox.unpack(&archive).expect("unpack");
    for mode in [0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o4000] {
        let node = sandbox.node(&format!("f{mode:o}"));
        assert_eq!((node.mode & 0o7777, node.uid, node.gid), (mode, 5, 6), "{mode:o}");
        let node = sandbox.node(&format!("rf{mode:o}"));
        assert_eq!((node.mode & 0o7777, node.uid, node.gid), (mode, 0, 0), "{mode:o} of root");
        let node = sandbox.node(&format!("d{mode:o}"));
        assert_eq!((node.mode & 0o7777, node.uid, node.gid), (mode, 5, 6), "{mode:o} of a directory");
        let inside = sandbox.node(&format!("d{mode:o}/in"));
        assert_eq!((inside.mode & 0o7777, inside.gid), (0o644, 0), "nothing is inherited");
    }
}

#[test]
fn device_numbers_out_of_range_are_refused_and_the_largest_are_made() {
    let sandbox = Sandbox::new();
    let archive =
        Builder::default().device(b'3', "c", 4095, (1 << 20) - 1).device(b'4', "b", 259, 70_000).end();
    sandbox.unpack(&archive).expect("Linux has these");
    assert_eq!(sandbox.node("c").rdev, rustix::fs::makedev(4095, (1 << 20) - 1));
    assert_eq!(sandbox.node("b").rdev, rustix::fs::makedev(259, 70_000));
    // The kernel would cut the first one to 0:0, a whiteout.
    for (major, minor) in [(4096, 0), (8192, 1), (0, 1 << 20), (1, 0o7777777)] {
        for kind in [b'3', b'4'] {
            let sandbox = Sandbox::new();
            let error = sandbox
                .unpack(&Builder::default().device(kind, "x", major, minor).end())
                .expect_err("out of range");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.message().contains("which Linux does not have"), "{error}");
            assert!(sandbox.tree().is_empty());
        }
    }
    let mut block = Head::new(b'3', "x").block();
    block[329..337].copy_from_slice(&[0x80, 0, 1, 0, 0, 0, 0, 0]);
    seal(&mut block);
    assert!(Sandbox::new().unpack(&Builder::default().raw(&block).end()).is_err(), "2^40 in base 256");
}

#[test]
fn names_that_are_not_utf8_are_kept_byte_by_byte() {
    let odd = |name: &[u8]| {
        let mut head = Head::new(b'0', "");
        head.name = name.to_vec();
        head
    };
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .head(&odd(b"f\xff\xfe"))
        .head(&odd(b"d\x80/f"))
        .pax(b'x', &[("path", b"p\xc3\x28"), ("hdrcharset", b"BINARY")])
        .file("x", b"")
        .long(b'L', b"l\xed\xa0\x80\n\x1b[31m")
        .long(b'K', b"t\xff")
        .symlink("x", "x")
        .pax(b'x', &[("linkpath", b"f\xff\xfe")])
        .hardlink("h", "x")
        .head(&odd(b"d\x80/.wh.w\xff"))
        .end();
    let unpacked = sandbox.unpack(&archive).expect("unpack");
    let at = |name: &[u8]| sandbox.root().join(OsStr::from_bytes(name));
    for name in [&b"f\xff\xfe"[..], b"d\x80/f", b"p\xc3\x28", b"h"] {
        assert!(at(name).is_file(), "{}", name.escape_ascii());
    }
    assert_eq!(at(b"l\xed\xa0\x80\n\x1b[31m").read_link().expect("a link").as_os_str().as_bytes(), b"t\xff");
    assert_eq!(unpacked.pending.implied_dirs, [OsStr::from_bytes(b"d\x80")]);
    assert_eq!(unpacked.pending.whiteouts, [OsStr::from_bytes(b"d\x80/w\xff")]);
    let error = Sandbox::new()
        .unpack(&Builder::default().file("f", b"").head(&odd(b"f/\x1b]0;\xff")).end())
        .expect_err("a file is no parent");
    assert!(error.chain().is_ascii() && !error.chain().contains('\x1b'), "{}", error.chain());
}

#[test]
fn times_of_any_size_are_taken() {
    let sandbox = Sandbox::new();
    let mut archive = Builder::default();
    let times =
        ["9223372036854775807", "-9223372036854775807.5", "0.9999999999999", "-0.5", "-0", "00012.25"];
    for (n, time) in times.iter().enumerate() {
        archive = archive.pax(b'x', &[("mtime", time.as_bytes())]).file(&format!("f{n}"), b"");
    }
    let mut block = Head::new(b'0', "base").block();
    block[136..148].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    seal(&mut block);
    sandbox.unpack(&archive.raw(&block).end()).expect("the file system takes what it can");
    assert_eq!(sandbox.node("f2").mtime, (0, 999_999_999));
    assert_eq!(sandbox.node("f3").mtime, (-1, 500_000_000));
    assert_eq!(sandbox.node("f4").mtime, (0, 0));
    assert_eq!(sandbox.node("f5").mtime, (12, 250_000_000));
    for bad in ["", "x", "1.", "1.5x", "--1", "9223372036854775808", "1e3", " 1", "-9223372036854775809"] {
        let archive = Builder::default().pax(b'x', &[("mtime", bad.as_bytes())]).file("f", b"").end();
        let taken = Sandbox::new().unpack(&archive).is_ok();
        assert_eq!(taken, matches!(bad, "" | "1."), "{bad:?}");
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let base = |from: usize, field: &[u8]| {
        let mut block = Head::new(b'0', "f").block();
        block[from..from + field.len()].copy_from_slice(field);
        seal(&mut block);
        Builder::default().raw(&block).end()
    };
    for (what, archive) in [
        ("a size below 0", base(124, &[0xff; 12])),
        ("a size above 2^63", base(124, &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("a user below 0", base(108, &[0xff; 8])),
        ("a user above 2^32", base(108, &[0x80, 0, 0, 1, 0, 0, 0, 0])),
        ("the user that means none", base(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
        ("a group that is no number", base(116, b"0000x00\0")),
        ("a mode below 0", base(100, &[0xff; 8])),
        ("a time above 2^63", base(136, &[0x80, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0])),
    ] {
        let error = Sandbox::new().unpack(&archive).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}");
    }
}

#[test]
fn an_empty_record_takes_nothing_away_and_unknown_ones_say_nothing() {
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .pax(
            b'x',
            &[
                ("path", b""),
                ("size", b""),
                ("uid", b""),
                ("mtime", b""),
                ("VENDOR.key", b"v"),
                ("hdrcharset", b"ISO-IR 10646 2000 UTF-8"),
                ("atime", b"nonsense"),
                ("SCHILY.dev", b"-1"),
            ],
        )
        .with(b'0', "f", |h| (h.uid, h.size) = (5, 2))
        .data(b"ok")
        .end();
    sandbox.unpack(&archive).expect("unpack");
    let node = sandbox.node("f");
    assert_eq!((node.uid, node.mtime, node.content.as_slice()), (5, (1_600_000_000, 0), &b"ok"[..]));
}
