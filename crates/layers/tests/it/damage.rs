//! Streams that are cut, that have something behind their end, that come in pieces, or that hold nothing.

use crate::builder::Builder;
use crate::sandbox::Sandbox;
use layers::{Compression, UnpackLimits, WhiteoutMode, detect, inspect};
use std::io::Write;
use types::ErrorKind;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("zstd")
}

fn look(bytes: &[u8]) -> types::Result<types::Digest> {
    inspect(bytes, detect(bytes), &UnpackLimits::default())
}

fn of(tar: &[u8]) -> types::Digest {
    use sha2::Digest;
    types::Digest::sha256(&sha2::Sha256::digest(tar).into())
}

#[test]
fn an_archive_that_is_cut_anywhere_is_an_error_or_ends_between_entries() {
    let entries = [
        Builder::default().dir("d", 0o755).0,
        Builder::default().pax(b'x', &[("path", b"d/long")]).file("x", &[1; 700]).0,
        Builder::default().long(b'L', b"d/longer").file("x", b"").0,
        Builder::default().hardlink("h", "d/long").0,
    ];
    let whole = entries.concat();
    let mut borders = vec![0];
    for entry in &entries {
        borders.push(borders[borders.len() - 1] + entry.len());
    }
    for cut in 0..=whole.len() {
        let result = look(&whole[..cut]);
        assert_eq!(result.is_ok(), borders.contains(&cut), "cut at {cut}: {result:?}");
        if let Err(error) = result {
            assert!(error.message().contains("cut off"), "cut at {cut}: {error}");
        }
    }
    let sandbox = Sandbox::new();
    assert!(sandbox.unpack(&whole[..borders[2] - 100]).is_err());
}

#[test]
fn a_compressed_stream_that_is_cut_anywhere_is_an_error() {
    let tar = Builder::default().file("f", b"some content").end();
    for whole in [gzip(&tar), zstd(&tar)] {
        look(&whole).expect("whole");
        for cut in 4..whole.len() {
            let error = look(&whole[..cut]).expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "cut at {cut}: {}", error.chain());
        }
    }
}

#[test]
fn what_lies_behind_the_end_of_an_archive_counts_for_its_hash_alone() {
    let end = Builder::default().file("f", b"x").end();
    let more = Builder::default().file("behind", b"not taken").0;
    for rest in [&b"garbage"[..], &more, &[0; 700_000], &[0xff; 513]] {
        let tar = [&end[..], rest].concat();
        let sandbox = Sandbox::new();
        let unpacked = sandbox.unpack(&tar).expect("unpack");
        assert_eq!(unpacked.diff_id, of(&tar));
        assert_eq!(sandbox.tree().len(), 1);
        for packed in [gzip(&tar), zstd(&tar)] {
            assert_eq!(look(&packed).expect("whole"), of(&tar));
        }
    }
}

#[test]
fn garbage_behind_a_compressed_stream_is_an_error() {
    let tar = Builder::default().file("f", b"x").end();
    for packed in [gzip(&tar), zstd(&tar)] {
        for rest in [&b"garbage"[..], b"\x1f\x8b", &[0; 100]] {
            let error = look(&[&packed[..], rest].concat()).expect_err("garbage");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", error.chain());
        }
    }
    let mut damaged = gzip(&tar);
    let sum = damaged.len() - 6;
    damaged[sum] ^= 1;
    assert!(look(&damaged).is_err(), "the checksum of gzip is wrong");
}

#[test]
fn members_and_frames_one_behind_the_other_are_one_stream() {
    let tar = Builder::default().file("f", &vec![3; 600_000]).file("g", b"2").end();
    for pieces in [1, 7, 512, 100_000] {
        for pack in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
            let count = tar.len().div_ceil(pieces).min(300);
            let size = tar.len().div_ceil(count);
            let bytes: Vec<u8> = tar.chunks(size).flat_map(pack).collect();
            // Empty ones in between change nothing.
            let bytes = [bytes, pack(b"")].concat();
            let sandbox = Sandbox::new();
            let unpacked = sandbox
                .unpack_as(&bytes, detect(&bytes), WhiteoutMode::Overlay, &UnpackLimits::default())
                .expect("unpack");
            assert_eq!(unpacked.diff_id, of(&tar));
            assert_eq!((sandbox.node("f").content.len(), sandbox.read("g").as_str()), (600_000, "2"));
        }
    }
}

#[test]
fn layers_of_nothing_are_layers() {
    for tar in [&b""[..], &[0; 512], &[0; 1024], &[0; 10_240], &[0; 1 << 20]] {
        for bytes in [tar.to_vec(), gzip(tar), zstd(tar)] {
            for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
                let sandbox = Sandbox::new();
                let unpacked = sandbox
                    .unpack_as(&bytes, detect(&bytes), mode, &UnpackLimits::default())
                    .expect("nothing is fine");
                assert_eq!((unpacked.diff_id, unpacked.inodes, unpacked.bytes), (of(tar), 0, 0));
                assert!(sandbox.tree().is_empty());
            }
        }
    }
    assert!(Sandbox::new().unpack(&[0; 100]).is_err(), "less than a record");
}

#[test]
fn a_stream_is_the_same_however_its_reader_gives_it() {
    /// A byte, then many, and interruptions.
    struct Odd<'a>(&'a [u8], usize);
    impl std::io::Read for Odd<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let count = [1, 70_000, 13][self.1 % 3].min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }
    let tar = Builder::default().file("f", &(0..=255).cycle().take(2_000_000).collect::<Vec<u8>>()).end();
    for bytes in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let sandbox = Sandbox::new();
        let unpacked = layers::unpack(
            Odd(&bytes, 0),
            detect(&bytes),
            std::os::fd::AsFd::as_fd(&sandbox.fd()),
            WhiteoutMode::Overlay,
            &UnpackLimits::default(),
        )
        .expect("unpack");
        assert_eq!(unpacked.diff_id, of(&tar));
        assert_eq!(of(&sandbox.node("f").content), of(&tar[512..512 + 2_000_000]));
    }
}

#[test]
fn a_refusal_in_the_middle_of_a_long_stream_ends_at_once() {
    let tar = Builder::default()
        .file("f", &vec![1; 3 << 20])
        .file("../out", b"")
        .file("g", &vec![1; 9 << 20])
        .end();
    for bytes in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let sandbox = Sandbox::new();
        let compression = detect(&bytes);
        let error = sandbox
            .unpack_as(&bytes, compression, WhiteoutMode::Overlay, &UnpackLimits::default())
            .expect_err("it leads out");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(!sandbox.has("g"));
    }
    let cut = gzip(&tar);
    let error = Sandbox::new()
        .unpack_as(&cut[..cut.len() / 2], Compression::Gzip, WhiteoutMode::Overlay, &UnpackLimits::default())
        .expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_link_makes_no_directory_with_the_name_of_a_whiteout() {
    for target in [".wh.x", "d/.wh..wh..opq", "/.wh..wh.plnk/1"] {
        for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
            let archive = Builder::default().dir("d", 0o755).symlink("l", target).file("l/x", b"").end();
            let sandbox = Sandbox::new();
            let error = sandbox
                .unpack_as(&archive, Compression::None, mode, &UnpackLimits::default())
                .expect_err(target);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert_eq!(sandbox.tree().len(), 2, "the directory and the link");
        }
    }
}

#[test]
fn a_hard_link_to_a_whiteouts_name_is_refused_and_one_by_that_name_is_a_whiteout() {
    for target in [".wh.x", "d/.wh.x", ".wh..wh..opq", "d/.wh..wh..opq", ".wh..wh.plnk"] {
        for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
            let archive = Builder::default()
                .dir("d", 0o755)
                .file("d/.wh.x", b"")
                .file(".wh.x", b"")
                .hardlink("h", target)
                .end();
            let error = Sandbox::new()
                .unpack_as(&archive, Compression::None, mode, &UnpackLimits::default())
                .expect_err(target);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
    }
    let sandbox = Sandbox::new();
    let archive =
        Builder::default().file("f", b"").hardlink(".wh.gone", "../../outside").dir(".wh.too", 0o755).end();
    sandbox.unpack(&archive).expect("what a whiteout is made of says nothing");
    assert!(sandbox.is_whiteout("gone") && sandbox.is_whiteout("too"));
}
