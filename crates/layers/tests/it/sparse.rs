//! Sparse files: GNU tar's four formats come out as the files that they were, and maps that lie are refused.

use crate::builder::{Builder, seal};
use crate::sandbox::Sandbox;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;
use types::ErrorKind;

#[test]
fn sparse_files_of_every_format_are_the_files_that_they_were() {
    let source = Sandbox::new();
    let make = |name: &str, size: u64, parts: &[(u64, usize)]| {
        let file = std::fs::File::create(source.root().join(name)).expect("create");
        file.set_len(size).expect("a length");
        for (offset, length) in parts {
            file.write_all_at(&vec![b'#'; *length], *offset).expect("write");
        }
    };
    make("holes only", 5 << 20, &[]);
    make("begins with a hole", 3 << 20, &[(1 << 20, 5000)]);
    make("ends with a hole", 3 << 20, &[(0, 4096), (2 << 20, 100_000)]);
    let many: Vec<_> = (0..60).map(|n| (n << 16, 4096)).collect();
    make("many parts", 4 << 20, &many);
    make("ends with data", (3 << 20) + 77, &[(3 << 20, 77)]);
    make(&format!("a long name {}", "n".repeat(120)), 1 << 20, &[(1 << 19, 10)]);
    make("no hole", 1000, &[(0, 1000)]);
    for format in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let output = Command::new("tar")
            .args(["--create", "--sparse", "--hole-detection=raw", "--numeric-owner", "--directory"])
            .arg(source.root())
            .args(format)
            .arg(".")
            .output()
            .expect("tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let sandbox = Sandbox::new();
        sandbox.unpack(&output.stdout).unwrap_or_else(|e| panic!("{format:?}: {}", e.chain()));
        let whole = format.iter().any(|word| word.starts_with("--sparse"));
        for (path, node) in source.tree() {
            let ours = crate::sandbox::node(&sandbox.root().join(&path));
            assert_eq!((ours.mode, ours.mtime.0), (node.mode, node.mtime.0), "{format:?} {path:?}");
            assert!(ours.content == node.content, "{format:?} {path:?}");
            assert!(!whole || ours.mtime == node.mtime, "PAX keeps fractions");
            if node.content.len() > 1 << 20 {
                let blocks = sandbox.root().join(&path).metadata().expect("stat").blocks();
                assert!(
                    blocks * 512 < node.content.len() as u64 / 2,
                    "{format:?} {path:?}: holes stay holes"
                );
            }
        }
    }
}

/// A header of the old format.
fn old(map: &[(u64, u64)], extended: bool, real: u64, data: &[u8]) -> Builder {
    let mut block =
        Builder::default().with(b'S', "s", |h| (h.size, h.magic) = (data.len() as u64, *b"ustar  \0")).0;
    for (n, (offset, length)) in map.iter().enumerate() {
        block[386 + 24 * n..][..12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
        block[398 + 24 * n..][..12].copy_from_slice(format!("{length:011o}\0").as_bytes());
    }
    block[482] = u8::from(extended);
    block[483..495].copy_from_slice(format!("{real:011o}\0").as_bytes());
    if let Some(block) = block.first_chunk_mut() {
        seal(block);
    }
    let builder = Builder::default().raw(&block);
    if extended { builder } else { builder.data(data) }
}

fn pax(records: &[(&str, &str)], data: &[u8]) -> Builder {
    let records: Vec<(&str, &[u8])> = records.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
    Builder::default().pax(b'x', &records).file("s", data)
}

#[test]
fn maps_that_lie_are_refused_with_a_sentence() {
    let v1 = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "100")];
    let lines = |text: &str| {
        let mut data = text.as_bytes().to_vec();
        data.resize(data.len().next_multiple_of(512), 0);
        data
    };
    let bad: Vec<(&str, Builder)> = vec![
        ("overlap", old(&[(0, 10), (5, 10)], false, 100, &[1; 20])),
        ("overlap", old(&[(50, 10), (0, 10)], false, 100, &[1; 20])),
        ("overlap", old(&[(95, 10)], false, 100, &[1; 10])),
        ("another amount", old(&[(0, 10)], false, 100, &[1; 20])),
        ("another amount", old(&[], false, 100, &[1; 20])),
        ("in a format that has none", Builder::default().with(b'S', "s", |_| {})),
        ("another amount", old(&[(0, 10)], true, 100, &[])),
        ("overlap", pax(&[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,10")], &[1; 10])),
        ("another amount", pax(&[("GNU.sparse.size", "99"), ("GNU.sparse.map", "0,10")], &[1; 9])),
        ("breaks off", pax(&[("GNU.sparse.size", "99"), ("GNU.sparse.map", "0,10,20")], &[1; 10])),
        ("what is no number", pax(&[("GNU.sparse.size", "99"), ("GNU.sparse.map", "0,-1")], b"")),
        ("how long", pax(&[("GNU.sparse.map", "0,1")], b"x")),
        (
            "another length",
            pax(&[("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "7"), ("GNU.sparse.map", "0,1")], b"x"),
        ),
        (
            "unknown format",
            pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.size", "1")], b"x"),
        ),
        ("unknown format", pax(&[("GNU.sparse.new", "2")], b"x")),
        ("two maps", pax(&[v1[0], v1[1], v1[2], ("GNU.sparse.map", "0,1")], b"x")),
        ("two offsets", pax(&[("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "1")], b"")),
        ("two different things", pax(&[("GNU.sparse.size", "1"), ("GNU.sparse.realsize", "2")], b"")),
        ("shorter than its map", pax(&v1, b"1\n0\n1\n")),
        ("shorter than its map", pax(&v1, &[b'1'; 0])),
        ("what is no number", pax(&v1, &lines("one\n0\n1\n"))),
        ("too long", pax(&v1, &lines(&"1".repeat(30)))),
        ("100000 parts", pax(&v1, &lines("100001\n"))),
        ("another amount", pax(&v1, &lines("1\n0\n5\n"))),
        ("overlap", pax(&v1, &[lines("2\n0\n5\n3\n5\n"), vec![1; 10]].concat())),
        ("something else than a file", {
            Builder::default()
                .pax(b'x', &[("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"0,0")])
                .dir("s", 0o755)
        }),
        ("same path or size", Builder::default().pax(b'g', &[("GNU.sparse.size", b"1")]).file("s", b"")),
        ("has the names", {
            Builder::default()
                .long(b'L', b"other")
                .pax(
                    b'x',
                    &[("GNU.sparse.name", b"mine"), ("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"0,1")],
                )
                .file("s", b"x")
        }),
    ];
    for (what, builder) in bad {
        let sandbox = Sandbox::new();
        let error = sandbox.unpack(&builder.end()).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}");
        assert!(error.message().contains(what), "{what}: {error}");
        assert!(sandbox.tree().is_empty(), "{what}");
    }
}

#[test]
fn holes_have_a_limit_and_take_no_space() {
    let hole = |size: &str| pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", "0,1")], b"x").end();
    let sandbox = Sandbox::new();
    let unpacked = sandbox.unpack(&hole("1073741824")).expect("a GiB of nothing");
    assert_eq!(unpacked.bytes, 1);
    let stat = sandbox.root().join("s").metadata().expect("stat");
    assert!(stat.len() == 1 << 30 && stat.blocks() < 100);
    for size in ["68719476739", "9223372036854775807", "18446744073709551615"] {
        let error = Sandbox::new().unpack(&hole(size)).expect_err(size);
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    }
    // All of them together count.
    let two =
        [pax(&[("GNU.sparse.size", "40000000000"), ("GNU.sparse.map", "0,1")], b"x").0; 1].concat().repeat(2);
    assert_eq!(Sandbox::new().unpack(&two).expect_err("80 GB").kind(), ErrorKind::ResourceExhausted);
}

#[test]
fn a_long_map_of_the_old_format_goes_on_in_blocks_of_its_own() {
    let parts: Vec<(u64, u64)> = (0..50).map(|n| (n * 1000, 10)).collect();
    let data: Vec<u8> = (0..500_u32).map(|n| (n / 10) as u8).collect();
    let mut builder = {
        let mut block = old(&parts[..4], true, 50_000, &data).0;
        block[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        if let Some(block) = block.first_chunk_mut() {
            seal(block);
        }
        Builder::default().raw(&block)
    };
    for (at, chunk) in parts[4..].chunks(21).enumerate() {
        let mut block = [0; 512];
        for (n, (offset, length)) in chunk.iter().enumerate() {
            block[24 * n..][..12].copy_from_slice(format!("{offset:011o}\0").as_bytes());
            block[24 * n + 12..][..12].copy_from_slice(format!("{length:011o}\0").as_bytes());
        }
        block[504] = u8::from(at < 2);
        builder = builder.raw(&block);
    }
    let sandbox = Sandbox::new();
    sandbox.unpack(&builder.data(&data).file("next", b"n").end()).expect("unpack");
    let content = sandbox.node("s").content;
    assert_eq!(content.len(), 50_000);
    for (n, (offset, _)) in parts.iter().enumerate() {
        let part = &content[*offset as usize..][..10];
        assert!(part.iter().all(|&b| b == n as u8), "{n}");
    }
    assert_eq!(sandbox.read("next"), "n");
}
