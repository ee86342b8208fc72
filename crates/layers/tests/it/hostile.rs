//! Archives that try to leave their root, to fake devices, or to use up the machine.

use crate::builder::{Builder, Head, record};
use crate::sandbox::Sandbox;
use layers::{Compression, UnpackLimits, WhiteoutMode};
use std::sync::atomic::{AtomicBool, Ordering};
use types::ErrorKind;

fn outside(sandbox: &Sandbox) -> String {
    sandbox.outside().to_str().expect("utf-8").to_owned()
}

#[test]
fn no_entry_gets_out_through_a_link() {
    for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
        let sandbox = Sandbox::new();
        let out = outside(&sandbox);
        let archive = Builder::default()
            .symlink("abs", &out)
            .symlink("rel", "../outside")
            .symlink("file", "../outside/sentinel")
            .symlink("p", "/proc/self/root")
            .symlink("cwd", "/proc/self/cwd")
            .file("abs/evil", b"1")
            .file("rel/evil", b"2")
            .file("rel/sentinel", b"3")
            .file("abs/.wh.sentinel", b"")
            .file("rel/.wh..wh..opq", b"")
            .file("p/evil", b"4")
            .dir("rel", 0o777)
            .dir("abs", 0o777)
            .file("file", b"5")
            .end();
        let limits = UnpackLimits::default();
        sandbox.unpack_as(&archive, Compression::None, mode, &limits).expect("all of it stays inside");
        assert_eq!(sandbox.read("file"), "5");
        assert_eq!(sandbox.node("rel").mode, 0o40777);
        assert_eq!(sandbox.read("proc/self/root/evil"), "4", "/proc is the root's own");
    }
}

#[test]
fn no_hard_link_reaches_out() {
    let sandbox = Sandbox::new();
    let target = format!("{}/sentinel", outside(&sandbox));
    // An absolute target is one below the root, where there is none: left for lower layers to answer.
    let archive = Builder::default().hardlink("h", &target).file("h", b"mine").end();
    let unpacked = sandbox.unpack(&archive).expect("unpack");
    assert!(unpacked.pending.lower_links.is_empty());
    let archive = Builder::default().symlink("d", "../outside").hardlink("h", "d/sentinel").end();
    assert!(sandbox.apply(&archive).is_err());
    // A hard link to a symbolic link is the link; writing to it replaces it.
    let archive = Builder::default()
        .symlink("s", &target)
        .hardlink("h", "s")
        .with(b'0', "h", |h| (h.mode, h.size) = (0o777, 4))
        .data(b"evil")
        .end();
    sandbox.unpack(&archive).expect("unpack");
    assert_eq!(sandbox.read("h"), "evil");
    // Of hard links into lower layers only the new name is removed.
    let sandbox = Sandbox::new();
    std::fs::hard_link(sandbox.outside().join("sentinel"), sandbox.root().join("lower")).expect("link");
    let archive = Builder::default().file("lower", b"replaced").end();
    layers::unpack(
        archive.as_slice(),
        Compression::None,
        std::os::fd::AsFd::as_fd(&sandbox.fd()),
        WhiteoutMode::Apply,
        &UnpackLimits::default(),
    )
    .expect("unpack");
    assert_eq!(sandbox.read("lower"), "replaced");
    sandbox.assert_untouched();
}

#[test]
fn names_that_lead_out_are_refused_and_absolute_ones_stay_inside() {
    for name in ["../evil", "a/../../evil", "..", "/../evil"] {
        let error = Sandbox::new().unpack(&Builder::default().file(name, b"x").end()).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let error = Sandbox::new().unpack(&Builder::default().hardlink("h", "../outside/sentinel").end());
    assert_eq!(error.expect_err("hard link").kind(), ErrorKind::InvalidArgument);
    let sandbox = Sandbox::new();
    let name = format!("{}/evil", outside(&sandbox));
    sandbox
        .unpack(&Builder::default().pax(b'x', &[("path", name.as_bytes())]).file("x", b"in").end())
        .expect("ok");
    assert_eq!(sandbox.read(&name[1..]), "in");
}

#[test]
fn a_fake_of_a_whiteout_is_refused() {
    for kind in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
        let sandbox = Sandbox::new();
        let fake = Builder::default().device(b'3', "gone", 0, 0).end();
        let error =
            sandbox.unpack_as(&fake, Compression::None, kind, &UnpackLimits::default()).expect_err("a fake");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(sandbox.tree().is_empty());
    }
}

#[test]
fn loops_and_chains_of_links_end() {
    let mut chain = Builder::default().symlink("l0", "l0").file("l0/x", b"");
    assert!(Sandbox::new().unpack(&chain.clone().end()).is_err());
    chain = Builder::default().symlink("d", "..//./d2/../d3");
    chain = chain.symlink("d3", "/").file("d/ok", b"ok");
    let sandbox = Sandbox::new();
    sandbox.unpack(&chain.end()).expect("unpack");
    assert_eq!(sandbox.read("ok"), "ok");
    // Each link doubles the way: 2^40 steps if nobody counted.
    let mut bomb = Builder::default();
    for n in 0..50 {
        bomb = bomb.symlink(&format!("b{n}"), &format!("b{m}/../b{m}", m = n + 1));
    }
    assert!(Sandbox::new().unpack(&bomb.file("b0/x", b"").end()).is_err());
}

#[test]
fn a_file_is_no_parent() {
    for result in ["f", "p"].map(|parent| {
        Builder::default().file("f", b"").with(b'6', "p", |_| {}).file(&format!("{parent}/x"), b"").end()
    }) {
        let error = Sandbox::new().unpack(&result).expect_err("not a directory");
        assert!(error.chain().contains("Not a directory"), "{}", error.chain());
    }
}

#[test]
fn every_limit_ends_the_unpacking() {
    let limits = UnpackLimits {
        max_bytes: 20_000,
        max_entries: 5,
        max_path: 200,
        max_xattr_bytes: 100,
        ..UnpackLimits::DEFAULT
    };
    let bomb = {
        use std::io::Write;
        let tar = Builder::default().with(b'0', "bomb", |h| h.size = 50 << 20).data(&vec![0; 50 << 20]).0;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).expect("gzip");
        encoder.finish().expect("gzip")
    };
    let many = (0..6).fold(Builder::default(), |b, n| b.file(&format!("f{n}"), b"")).end();
    let headers = (0..6).fold(Builder::default(), |b, _| b.pax(b'g', &[])).end();
    let deep = vec!["d"; 150].join("/");
    let cases = [
        ("bytes", Compression::Gzip, bomb),
        ("entries", Compression::None, many),
        ("entries", Compression::None, headers),
        ("too long", Compression::None, Builder::default().long(b'L', deep.as_bytes()).file("x", b"").end()),
        (
            "attributes",
            Compression::None,
            Builder::default().pax(b'x', &[("SCHILY.xattr.user.x", &[7; 101])]).file("x", b"").end(),
        ),
        (
            "extended header",
            Compression::None,
            Builder::default().with(b'x', "x", |h| h.size = (1 << 20) + 1).end(),
        ),
        ("bytes", Compression::None, Builder::default().raw(&[0; 30_000]).0),
    ];
    for (what, compression, bytes) in cases {
        let sandbox = Sandbox::new();
        let error = sandbox.unpack_as(&bytes, compression, WhiteoutMode::Overlay, &limits).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{what}: {error}");
        assert!(error.message().contains(what), "{what}: {error}");
    }
}

#[test]
fn declared_sizes_cost_nothing_and_cut_streams_are_errors() {
    let giant = |size: &[u8]| Builder::default().pax(b'x', &[("size", size)]).file("big", b"little").end();
    for size in [&b"18446744073709551615"[..], b"9223372036854775807", b"1099511627776"] {
        let error = Sandbox::new().unpack(&giant(size)).expect_err("cut off");
        assert!(error.message().contains("cut off"), "{error}");
    }
    let mut head = Head::new(b'L', "x");
    head.size = 0o77777777777;
    assert!(Sandbox::new().unpack(&Builder::default().head(&head).end()).is_err());
    let gzip_cut = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&Builder::default().file("f", &[1; 9000]).end()).expect("gzip");
        let mut bytes = encoder.finish().expect("gzip");
        bytes.truncate(bytes.len() - 9);
        bytes
    };
    let limits = UnpackLimits::default();
    for (bytes, compression) in [
        (&gzip_cut[..], Compression::Gzip),
        (b"\x1f\x8bgarbage", Compression::Gzip),
        (b"zstd?", Compression::Zstd),
    ] {
        let error = Sandbox::new()
            .unpack_as(bytes, compression, WhiteoutMode::Overlay, &limits)
            .expect_err("a broken stream");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.chain());
    }
}

#[test]
fn a_reader_that_fails_is_told_from_a_layer_that_is_broken() {
    struct Gone;
    impl std::io::Read for Gone {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the registry hung up"))
        }
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let error = layers::inspect(Gone, compression, &UnpackLimits::default()).expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{compression:?}: {}", error.chain());
        assert!(error.chain().contains("hung up"));
    }
}

#[test]
fn a_directory_that_is_exchanged_for_a_link_meanwhile_leads_nowhere() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let (dir, link) = (root.join("d/sub"), root.join("link"));
    std::fs::create_dir_all(&dir).expect("dir");
    let stop = AtomicBool::new(false);
    // Each entry in another directory than the one before, so that the way is gone anew every time.
    let archive = (0..150)
        .fold(Builder::default(), |b, n| {
            b.with(b'0', &format!("d/sub/f{n}"), |h| h.mode = 0o6777)
                .file(&format!("other/e{n}"), b"")
                .file("d/sub/sentinel", b"evil")
                .file("other/x", b"")
                .file("d/sub/.wh.sentinel", b"")
                .file("other/y", b"")
                .dir("d/sub/inner", 0o777)
                .file("other/z", b"")
                .hardlink("d/sub/h", "other/z")
        })
        .end();
    /// Ends the other thread also where this one panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(Ordering::Relaxed) {
                let _ = std::os::unix::fs::symlink(sandbox.outside(), &link);
                let _ = std::fs::create_dir(&dir);
                let _ = renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE);
            }
        });
        for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
            for _ in 0..2 {
                // It may fail, and it may unpack into the directory moved aside; it may not get out.
                let limits = UnpackLimits::default();
                let _ = layers::unpack(
                    archive.as_slice(),
                    Compression::None,
                    std::os::fd::AsFd::as_fd(&sandbox.fd()),
                    mode,
                    &limits,
                );
                sandbox.assert_untouched();
            }
        }
    });
    sandbox.assert_untouched();
}

#[test]
fn deep_trees_are_made_and_removed_without_recursion() {
    let deep = vec!["d"; 2000].join("/");
    let records = [record("path", deep.as_bytes()), record("mtime", b"3")].concat();
    let archive = Builder::default()
        .with(b'x', "x", |h| h.size = records.len() as u64)
        .data(&records)
        .dir("x", 0o755)
        .file("d", b"now a file")
        .end();
    let sandbox = Sandbox::new();
    let unpacked = sandbox.unpack(&archive).expect("unpack");
    assert_eq!(sandbox.read("d"), "now a file");
    assert!(unpacked.pending.implied_dirs.is_empty());
}

#[test]
fn trees_deeper_than_any_path_and_immutable_files_are_removed() {
    use rustix::fs::{IFlags, Mode, OFlags};
    let sandbox = Sandbox::new();
    let mut dir = sandbox.fd();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "deep", Mode::RWXU).expect("mkdir");
        dir = rustix::fs::openat(&dir, "deep", flags, Mode::empty()).expect("open");
    }
    let file = rustix::fs::openat(&dir, "kept", OFlags::CREATE | OFlags::RDWR, Mode::RWXU).expect("create");
    match rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE) {
        Ok(()) => {}
        Err(error) => println!("skipped the immutable part: this file system says {error}"),
    }
    for n in 0..3000 {
        rustix::fs::mkdirat(&dir, format!("wide{n}"), Mode::RWXU).expect("mkdir");
    }
    let root = sandbox.fd();
    layers::tree::remove(std::os::fd::AsFd::as_fd(&root), std::ffi::OsStr::new("deep")).expect("remove");
    assert!(sandbox.tree().is_empty());
    layers::tree::remove(std::os::fd::AsFd::as_fd(&root), std::ffi::OsStr::new("deep"))
        .expect("gone is fine");
}
