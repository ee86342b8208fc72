//! Archives that want more than anybody should have: bombs, crowds of nothing, long names, no room.

use crate::builder::Builder;
use crate::sandbox::Sandbox;
use layers::{Budget, Compression, UnpackLimits, WhiteoutMode};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use types::ErrorKind;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

/// One member of a gzip stream of zeros, again and again.
struct Bomb {
    head: Vec<u8>,
    member: Vec<u8>,
    at: usize,
}

impl Read for Bomb {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let head = self.head.as_slice();
        let from = match self.at.checked_sub(head.len()) {
            None => &head[self.at..],
            Some(behind) => &self.member[behind % self.member.len()..],
        };
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        self.at += count;
        Ok(count)
    }
}

#[test]
fn a_bomb_that_inflates_a_thousandfold_ends_with_a_clear_error() {
    let head = gzip(&Builder::default().with(b'0', "zeros", |h| h.size = 8 << 30).0);
    let bomb = Bomb { head, member: gzip(&vec![0; 16 << 20]), at: 0 };
    // Without a place to write to: the first GiB is let pass.
    let error = layers::inspect(bomb, Compression::Gzip, &UnpackLimits::default()).expect_err("a bomb");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(error.message().contains("over 250 times as much, as a bomb does"), "{error}");
    assert!(error.message().contains("images.max_layer_ratio"), "{error}");

    let tar = Builder::default().file("zeros", &vec![0; 8 << 20]).end();
    let packed = [
        (Compression::Gzip, gzip(&tar)),
        (Compression::Zstd, zstd::encode_all(tar.as_slice(), 19).expect("zstd")),
    ];
    for (compression, bytes) in packed {
        let limits = UnpackLimits { ratio_from: 1 << 20, ..UnpackLimits::DEFAULT };
        let sandbox = Sandbox::new();
        let error =
            sandbox.unpack_as(&bytes, compression, WhiteoutMode::Overlay, &limits).expect_err("a bomb");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        assert!(sandbox.node("zeros").content.len() <= 2 << 20, "it ended early");
        for limits in [
            UnpackLimits { max_ratio: 0, ..limits.clone() },
            UnpackLimits { max_ratio: 100_000, ..limits },
            UnpackLimits::DEFAULT,
        ] {
            sandbox.unpack_as(&bytes, compression, WhiteoutMode::Overlay, &limits).expect("it is let pass");
        }
    }
}

#[test]
fn real_layers_are_far_from_the_ratio() {
    let text = "the same words again and again\n".repeat(40_000);
    let tar = Builder::default().file("log", text.as_bytes()).end();
    let limits = UnpackLimits { ratio_from: 0, max_ratio: 1032, ..UnpackLimits::DEFAULT };
    layers::inspect(gzip(&tar).as_slice(), Compression::Gzip, &limits).expect("text is no bomb");
}

#[test]
fn the_layers_of_an_image_share_one_budget() {
    let layer = Builder::default().file("f", &[1; 3000]).end();
    let budget = Budget::new(2 * layer.len() as u64);
    let limits = UnpackLimits { budget: Some(Arc::clone(&budget)), ..UnpackLimits::DEFAULT };
    let unpack =
        |bytes: &[u8]| Sandbox::new().unpack_as(bytes, Compression::None, WhiteoutMode::Overlay, &limits);
    let garbled = [&layer[..], &gzip(b"")[..5]].concat();
    assert!(layers::inspect(&gzip(&garbled)[..40], Compression::Gzip, &limits).is_err());
    unpack(&layer).expect("the first; what broke off before does not count");
    unpack(&layer).expect("the second");
    let error = unpack(&layer).expect_err("the third");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().contains("images.max_image_bytes"), "{error}");
}

#[test]
fn a_disk_that_must_keep_its_reserve_gets_nothing() {
    let sandbox = Sandbox::new();
    let limits = UnpackLimits { reserve: u64::MAX, ..UnpackLimits::DEFAULT };
    let layer = Builder::default().file("f", b"x").end();
    let error =
        sandbox.unpack_as(&layer, Compression::None, WhiteoutMode::Overlay, &limits).expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().contains("must stay free"), "{error}");
    assert!(sandbox.tree().is_empty());
}

#[test]
fn a_hundred_thousand_entries_of_nothing_cost_seconds_and_more_are_refused() {
    const MANY: usize = 100_000;
    let files = |n: usize| Builder::default().file(&format!("{n}"), b"").0;
    let crowds: [(&str, Vec<u8>, u64); 5] = [
        ("files", (0..MANY).flat_map(files).collect(), MANY as u64),
        ("one file", files(0).repeat(MANY), MANY as u64),
        ("the root", Builder::default().dir("./", 0o755).0.repeat(MANY), 0),
        (
            "hard links",
            (0..MANY).fold(Builder::default().file("t", b""), |b, n| b.hardlink(&format!("l{n}"), "t")).0,
            1,
        ),
        ("global headers", Builder::default().pax(b'g', &[("comment", b"x")]).0.repeat(MANY), 0),
    ];
    for (what, bytes, inodes) in crowds {
        let Some(sandbox) = Sandbox::in_memory() else {
            println!("skipped: there is no /dev/shm, and a disk takes minutes");
            return;
        };
        let begin = Instant::now();
        let unpacked = sandbox.unpack(&bytes).expect(what);
        assert_eq!(unpacked.inodes, inodes, "{what}");
        // Alone each takes about a second, unoptimized.
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: {:?}", begin.elapsed());
        let limits = UnpackLimits { max_entries: 1000, ..UnpackLimits::DEFAULT };
        let error = layers::inspect(bytes.as_slice(), Compression::None, &limits).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{what}");
    }
}

#[test]
fn the_longest_names_are_made_and_longer_ones_refused() {
    let name = "n".repeat(255);
    let path = vec![name.as_str(); 16].join("/");
    assert_eq!(path.len(), 4095);
    let sandbox = Sandbox::new();
    let made = Builder::default().pax(b'x', &[("path", path.as_bytes())]).file("x", b"deep").end();
    sandbox.unpack(&made).expect("as long as a path may be");
    let mut dir = sandbox.fd();
    for _ in 0..15 {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(dir, &*name, flags, rustix::fs::Mode::empty()).expect("open");
    }
    let stat = rustix::fs::statat(dir, &*name, rustix::fs::AtFlags::empty()).expect("stat");
    assert_eq!(stat.st_size, 4);
    for (long, kind) in [
        ("n".repeat(256), ErrorKind::InvalidArgument),
        (format!("{}/x", "n".repeat(256)), ErrorKind::InvalidArgument),
        (format!("{path}/x"), ErrorKind::ResourceExhausted),
    ] {
        for builder in [
            Builder::default().pax(b'x', &[("path", long.as_bytes())]).file("x", b""),
            Builder::default().long(b'L', long.as_bytes()).dir("x", 0o755),
            Builder::default().file("t", b"").long(b'L', long.as_bytes()).hardlink("x", "t"),
        ] {
            let error = Sandbox::new().unpack(&builder.end()).expect_err("too long");
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.chain().len() < 600, "an error shows a part of a name");
        }
    }
    let target = "t/".repeat(2047);
    let link = Builder::default().long(b'K', target.as_bytes()).symlink("l", "x").end();
    let sandbox = Sandbox::new();
    sandbox.unpack(&link).expect("a link may be as long as a path");
    assert_eq!(sandbox.node("l").content, target.as_bytes());
}

#[test]
fn a_window_of_zstd_that_would_fill_the_memory_is_refused() {
    let tar = Builder::default().file("f", b"x").end();
    for (log, good) in [(23, true), (25, true), (27, false)] {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("zstd");
        encoder.window_log(log).expect("a window");
        encoder.write_all(&tar).expect("write");
        let bytes = encoder.finish().expect("zstd");
        let result = Sandbox::new().unpack_as(
            &bytes,
            Compression::Zstd,
            WhiteoutMode::Overlay,
            &UnpackLimits::default(),
        );
        match result {
            Ok(_) => assert!(good, "{log}"),
            Err(error) => {
                assert!(!good && error.kind() == ErrorKind::ResourceExhausted, "{log}: {}", error.chain());
                assert!(error.message().contains("window of 134217728 bytes"), "{error}");
            }
        }
    }
    // A later frame may not ask for more than the first.
    let small = zstd::encode_all(&tar[..512], 1).expect("zstd");
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("zstd");
    encoder.window_log(27).expect("a window");
    encoder.write_all(&tar[512..]).expect("write");
    let bytes = [small, encoder.finish().expect("zstd")].concat();
    let error =
        layers::inspect(bytes.as_slice(), Compression::Zstd, &UnpackLimits::default()).expect_err("large");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.chain());
}
