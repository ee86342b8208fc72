//! The same archive unpacked by GNU tar, entry by entry: mode, owner, time, content, links, devices, attributes.

use crate::sandbox::{Sandbox, full};
use proptest::prelude::*;
use std::path::Path;
use std::process::{Command, Output};

fn tar(arguments: &[&str], directory: &Path) -> Output {
    let output = Command::new("tar").args(arguments).arg("--directory").arg(directory).output().expect("tar");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What is on the disk already, with every kind of thing.
fn odd_tree() -> Sandbox {
    use crate::builder::Builder;
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let source = Sandbox::new();
    let long = ["a name that is quite long"; 12].join("/");
    let archive = Builder::default()
        .with(b'5', "etc", |h| (h.mode, h.uid, h.gid) = (0o2750, 1, 2))
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.user.text", b"v"),
                ("SCHILY.xattr.user.bytes", b"\0\xff\n="),
                ("mtime", b"12.345678901"),
            ],
        )
        .with(b'0', "etc/passwd", |h| (h.mode, h.uid, h.gid, h.size) = (0o4711, 3, 4, 5))
        .data(b"root:")
        .pax(b'x', &[("SCHILY.xattr.security.capability", &capability)])
        .file("etc/ping", b"icmp")
        .hardlink("etc/ping6", "etc/ping")
        .hardlink("etc/ping4", "etc/ping6")
        .symlink("etc/link", "../nowhere at all")
        .hardlink("etc/link2", "etc/link")
        .with(b'6', "etc/pipe", |h| h.mode = 0o620)
        .with(b'3', "etc/null", |h| (h.mode, h.uid, h.device) = (0o666, 5, (1, 3)))
        .with(b'4', "etc/disk", |h| (h.mode, h.gid, h.device) = (0o660, 6, (259, 300)))
        .pax(b'x', &[("path", long.as_bytes()), ("uid", b"3000000"), ("mtime", b"-7")])
        .file("x", b"deep")
        .pax(b'x', &[("path", b"f\xff\xfe\n odd")])
        .file("x", b"not UTF-8")
        .file("large", &(0..=250).cycle().take(700_000).collect::<Vec<u8>>())
        .with(b'5', "tmp", |h| h.mode = 0o1777)
        .pax(b'x', &[("SCHILY.xattr.user.dir", b"d")])
        .dir("tmp/empty", 0o500)
        .end();
    source.unpack(&archive).expect("unpack");
    source
}

#[test]
fn a_tree_of_every_kind_equals_gnu_tars_in_every_format() {
    let source = odd_tree();
    for format in ["gnu", "pax", "posix"] {
        let attributes: &[&str] = if format == "gnu" { &[] } else { &["--xattrs", "--xattrs-include=*"] };
        let format = format!("--format={format}");
        let arguments = [&["--create", "--numeric-owner", "--sort=name", &format], attributes].concat();
        let mut command = Command::new("tar");
        let output =
            command.args(arguments).arg("--directory").arg(source.root()).arg(".").output().expect("tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        compare(&output.stdout, &format);
    }
}

fn compare(archive: &[u8], what: &str) {
    let ours = Sandbox::new();
    ours.unpack(archive).unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
    let theirs = Sandbox::new();
    let file = theirs.outside().join("../archive.tar");
    std::fs::write(&file, archive).expect("write");
    let name = file.to_str().expect("text");
    tar(
        &[
            "--extract",
            "--file",
            name,
            "--xattrs",
            "--xattrs-include=user.*",
            "--xattrs-include=security.capability",
            "--numeric-owner",
            "--same-owner",
            "--preserve-permissions",
            "--delay-directory-restore",
        ],
        &theirs.root(),
    );
    std::fs::remove_file(&file).expect("remove");
    let (ours, theirs) = (full(&ours.root()), full(&theirs.root()));
    for (path, node) in &theirs {
        assert_eq!(ours.get(path), Some(node), "{what}: {path:?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
}

#[derive(Debug, Clone)]
enum Thing {
    File(usize, u32, u32, i64),
    Dir(u32, u32, i64),
    Link(String, i64),
    Again(usize),
    Pipe(u32),
    Device(u32, u32),
}

fn thing() -> impl Strategy<Value = Thing> {
    let time = -5_000_000_000_i64..20_000_000_000;
    prop_oneof![
        4 => (0_usize..40_000, 0_u32..0o10000, 0_u32..3, time.clone()).prop_map(|(s, m, o, t)| Thing::File(s, m, o, t)),
        2 => (0_u32..0o10000, 0_u32..3, time.clone()).prop_map(|(m, o, t)| Thing::Dir(m, o, t)),
        2 => ("[a-z./]{1,150}", time).prop_map(|(target, t)| Thing::Link(target, t)),
        2 => (0_usize..8).prop_map(Thing::Again),
        1 => (0_u32..0o1000).prop_map(Thing::Pipe),
        1 => (1_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Thing::Device(major, minor)),
    ]
}

/// An archive that a careful writer could have made: parents first, no name twice.
fn written(things: &[(String, usize, Thing)]) -> Vec<u8> {
    use crate::builder::Builder;
    let mut builder = Builder::default();
    let (mut dirs, mut files): (Vec<String>, Vec<String>) = (vec![String::new()], Vec::new());
    for (n, (name, parent, thing)) in things.iter().enumerate() {
        let path = format!("{}{n}-{name}", dirs[parent % dirs.len()]);
        let mut records: Vec<(&str, Vec<u8>)> = vec![("path", path.clone().into_bytes())];
        let mtime = |t: &i64| format!("{t}.{:09}", (t.unsigned_abs() * 7919) % 1_000_000_000).into_bytes();
        let owner = |records: &mut Vec<(&str, Vec<u8>)>, o: &u32| {
            records.push(("uid", format!("{}", o * 70_000).into_bytes()))
        };
        let mut head = crate::builder::Head::new(b'0', "x");
        let mut data = Vec::new();
        match thing {
            Thing::File(size, mode, o, t) => {
                data = (0..*size).map(|b| (b * 31 + n) as u8).collect();
                (head.mode, head.size) = (*mode, *size as u64);
                records.push(("mtime", mtime(t)));
                records.push(("SCHILY.xattr.user.n", n.to_string().into_bytes()));
                owner(&mut records, o);
                files.push(path);
            }
            Thing::Dir(mode, o, t) => {
                (head.kind, head.mode) = (b'5', *mode);
                records.push(("mtime", mtime(t)));
                owner(&mut records, o);
                dirs.push(format!("{path}/"));
            }
            Thing::Link(target, t) => {
                (head.kind, head.mode) = (b'2', 0o777);
                records.push(("linkpath", target.clone().into_bytes()));
                records.push(("mtime", mtime(t)));
            }
            Thing::Again(which) if !files.is_empty() => {
                head.kind = b'1';
                records.push(("linkpath", files[which % files.len()].clone().into_bytes()));
            }
            Thing::Again(_) => head.mode = 0o600,
            Thing::Pipe(mode) => (head.kind, head.mode) = (b'6', *mode),
            Thing::Device(major, minor) => {
                (head.kind, head.device) = (if n % 2 == 0 { b'3' } else { b'4' }, (*major, *minor));
            }
        }
        let records: Vec<(&str, &[u8])> =
            records.iter().map(|(key, value)| (*key, value.as_slice())).collect();
        builder = builder.pax(b'x', &records).head(&head).data(&data);
    }
    builder.end()
}

fn seed() -> proptest::test_runner::TestRunner {
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let seed = std::env::var("CORTEN_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random =
        proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
    proptest::test_runner::TestRunner::new_with_rng(config, random)
}

/// `CORTEN_TEST_SEED` takes other archives.
#[test]
fn random_archives_equal_gnu_tars() {
    let things = prop::collection::vec(("[a-zA-Z0-9_ .é-]{1,40}", 0_usize..6, thing()), 1..25);
    let outcome = seed().run(&things, |things| {
        compare(&written(&things), "random");
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
