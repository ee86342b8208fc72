//! Archives: seeds with every kind of entry, and changes that keep most headers whole.
//!
//! A change of a header ends with a new checksum most of the time: otherwise nothing behind the checksum is tried.

use crate::tree::Ground;
use crate::{Random, mutate};
use layers::{Compression, UnpackLimits, WhiteoutMode};
use std::io::Write;

const BLOCK: usize = 512;

const LIMITS: UnpackLimits = UnpackLimits {
    max_bytes: 1 << 20,
    max_entries: 300,
    max_path: 300,
    max_xattr_bytes: 4096,
    max_ratio: 0,
    ..UnpackLimits::DEFAULT
};

/// Names that meet each other, leave, hide, and are too long.
const NAMES: &[&str] = &[
    "a",
    "b",
    "b/c",
    "b/l",
    "a/b",
    "l",
    "l/x",
    "l/../x",
    "c/d/e",
    "./a",
    "/a",
    "a/",
    "b/",
    ".",
    "/",
    "..",
    "../outside/evil",
    "a/../../outside/evil",
    "outside/sentinel",
    ".wh.a",
    "b/.wh.l",
    ".wh..wh..opq",
    "b/.wh..wh..opq",
    ".wh.",
    ".wh..",
    ".wh..wh.plnk/1",
    ".wh.b/x",
    "\u{fc}",
    "b/c/d/e/f/g/h/i/j",
    "",
];
const TARGETS: &[&str] = &[
    "a",
    "b",
    "../outside",
    "../outside/sentinel",
    "/",
    "..",
    "l",
    "b/../..",
    "/proc/self/root",
    ".",
    "l2",
    "b/c",
    "/b/l",
    "",
    ".wh.a",
    "b/.wh..wh..opq",
    "c/.wh.x/y",
];
const KINDS: &[u8] = b"0000555522221111346xgLKS7\0VMDNX";
const KEYS: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.trusted.overlay.opaque",
    "SCHILY.xattr.trusted.overlay.redirect",
    "SCHILY.xattr.security.capability",
    "SCHILY.xattr.system.posix_acl_access",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
    "GNU.sparse.size",
    "GNU.sparse.realsize",
    "GNU.sparse.map",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.numblocks",
    "comment",
    "hdrcharset",
];
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "512",
    "600",
    "-1",
    "1.5",
    "-0.000000001",
    "4294967295",
    "18446744073709551615",
    "y",
    "/etc",
    "0,512",
    "0,100,512,100",
    "0,0",
    "1,",
    "a",
    "b/c",
    "../outside/evil",
    ".wh.a",
    "\u{1}\u{0}\u{0}\u{2}",
];

fn field(block: &mut [u8], at: usize, length: usize, value: u64) {
    let text = format!("{value:0width$o}\0", width = length - 1);
    if text.len() == length {
        block[at..at + length].copy_from_slice(text.as_bytes());
    }
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn entry(kind: u8, name: &str, link: &str, device: (u64, u64), data: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let put = |block: &mut Vec<u8>, at: usize, text: &[u8]| {
        let length = text.len().min(100);
        block[at..at + length].copy_from_slice(&text[..length]);
    };
    put(&mut block, 0, name.as_bytes());
    put(&mut block, 157, link.as_bytes());
    for (at, length, value) in [
        (100, 8, 0o755),
        (108, 8, 0),
        (116, 8, 0),
        (124, 12, data.len() as u64),
        (136, 12, 1_600_000_000),
        (329, 8, device.0),
        (337, 8, device.1),
    ] {
        field(&mut block, at, length, value);
    }
    block[156] = kind;
    let magic: &[u8] = if matches!(kind, b'L' | b'K' | b'S') { b"ustar  \0" } else { b"ustar\x0000" };
    block[257..265].copy_from_slice(magic);
    seal(&mut block);
    block.extend_from_slice(data);
    block.resize(block.len().next_multiple_of(BLOCK), 0);
    block
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    entry(kind, "PaxHeaders/x", "", (0, 0), &data)
}

/// A sparse file in GNU tar's old format.
fn old_sparse() -> Vec<u8> {
    let mut all = entry(b'S', "sparse", "", (0, 0), &[7; 600]);
    for (at, value) in [(386, 0), (398, 512), (410, 4096), (422, 88), (483, 8192)] {
        field(&mut all[..BLOCK], at, 12, value);
    }
    seal(&mut all[..BLOCK]);
    all
}

/// One archive of each kind of trick.
pub fn seeds() -> Vec<Vec<u8>> {
    let file = |name: &str, data: &[u8]| entry(b'0', name, "", (0, 0), data);
    let none = (0, 0);
    let plain = [
        entry(b'5', "b", "", none, &[]),
        file("b/c/d", &[1; 700]),
        entry(b'2', "l", "b/c", none, &[]),
        file("l/x", b"x"),
        entry(b'1', "h", "b/c/d", none, &[]),
        entry(b'6', "p", "", none, &[]),
        entry(b'3', "null", "", (1, 3), &[]),
        entry(b'4', "disk", "", (8, 300), &[]),
    ];
    let hides = [
        file(".wh.a", b""),
        entry(b'5', "b", "", none, &[]),
        file("b/.wh..wh..opq", b""),
        file("b/.wh.l", b""),
        entry(b'1', "m", "b/c", none, &[]),
        entry(b'1', "n", "a", none, &[]),
        file("gone/.wh.x", b""),
    ];
    let leaves = [
        entry(b'2', "l", "../outside", none, &[]),
        entry(b'2', "l2", "/proc/self/root", none, &[]),
        entry(b'2', "l3", "b/.wh..wh..opq", none, &[]),
        file("l/evil", b"1"),
        file("l2/evil", b"1"),
        entry(b'1', "h", "l/sentinel", none, &[]),
    ];
    let long = [
        entry(b'L', "././@LongLink", "", none, format!("{}\0", "b/c/".repeat(40)).as_bytes()),
        file("short", b"1"),
        entry(b'K', "././@LongLink", "", none, b"target\0"),
        entry(b'2', "s", "", none, &[]),
        pax(b'g', &[("mtime", b"1.5"), ("uid", b"7")]),
        pax(
            b'x',
            &[("path", b"b/long"), ("size", b"3"), ("mtime", b"-1.25"), ("SCHILY.xattr.user.a", b"\0v")],
        ),
        file("x", b"abc"),
    ];
    let sparse = [
        pax(
            b'x',
            &[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.map", b"0,100,4000,96"),
            ],
        ),
        file("s1", &[1; 196]),
        pax(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"s2"),
                ("GNU.sparse.realsize", b"9000"),
            ],
        ),
        {
            let mut data = b"1\n8192\n88\n".to_vec();
            data.resize(BLOCK, 0);
            data.extend_from_slice(&[2; 88]);
            file("GNUSparseFile.0/s2", &data)
        },
        old_sparse(),
    ];
    let again = [
        entry(b'5', "a", "", none, &[]),
        file("a/b", b""),
        file("a", b"now a file"),
        entry(b'2', "a", "b", none, &[]),
        entry(b'5', "a", "", none, &[]),
        file("a/b", b"again"),
    ];
    let parts: [&[Vec<u8>]; 6] = [&plain, &hides, &leaves, &long, &sparse, &again];
    parts.iter().map(|entries| [entries.concat(), vec![0; 2 * BLOCK]].concat()).collect()
}

/// The seeds, compressed in several ways.
pub fn compressed_seeds() -> Vec<Vec<u8>> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("gzip");
        encoder.finish().expect("gzip")
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("zstd");
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let mut all = vec![gzip(&[0; 300_000]), zstd(&[0; 300_000])];
    for tar in seeds().into_iter().take(2) {
        let (first, second) = tar.split_at(700);
        all.push(gzip(&tar));
        all.push([gzip(first), gzip(second)].concat());
        all.push([zstd(first), skippable.to_vec(), zstd(second)].concat());
    }
    all
}

fn random_entry(random: &mut Random) -> Vec<u8> {
    let kind = *random.pick(KINDS);
    let (name, link) = (*random.pick(NAMES), *random.pick(TARGETS));
    match kind {
        b'x' | b'g' => {
            let count = 1 + random.below(4);
            let records: Vec<(&str, &[u8])> =
                (0..count).map(|_| (*random.pick(KEYS), random.pick(VALUES).as_bytes())).collect();
            pax(kind, &records)
        }
        b'L' | b'K' => entry(kind, "././@LongLink", "", (0, 0), name.as_bytes()),
        b'S' => old_sparse(),
        b'0' => entry(kind, name, "", (0, 0), &vec![b'd'; random.below(1500)]),
        _ => entry(kind, name, link, (random.below(5000) as u64, random.below(5) as u64), &[]),
    }
}

/// Where the records begin that look like headers.
fn headers(input: &[u8]) -> Vec<usize> {
    (0..input.len() / BLOCK)
        .map(|block| block * BLOCK)
        .filter(|&at| input[at + 257..at + 262] == *b"ustar")
        .collect()
}

/// Changes an archive.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let heads = headers(input);
    if heads.is_empty() || random.once_in(20) {
        mutate::bytes(random, input, other);
        return;
    }
    let at = *random.pick(&heads);
    match random.below(8) {
        0 | 1 => {
            let new = random_entry(random);
            input.splice(at..at, new);
        }
        2 => {
            // An entry of the other archive.
            let theirs = headers(other);
            if !theirs.is_empty() {
                let from = random.below(theirs.len());
                let end = theirs.get(from + 1).copied().unwrap_or(other.len());
                input.splice(at..at, other[theirs[from]..end].iter().copied());
            }
        }
        3 => {
            // This one again, or not at all.
            let end = heads.iter().copied().find(|&next| next > at).unwrap_or(input.len());
            if random.once_in(2) {
                input.drain(at..end);
            } else {
                let again = input[at..end].to_vec();
                let to = *random.pick(&heads);
                input.splice(to..to, again);
            }
        }
        4 if !random.once_in(4) => {
            let (place, words) = if random.once_in(2) { (0, NAMES) } else { (157, TARGETS) };
            let word = random.pick(words).as_bytes();
            input[at + place..at + place + 100].fill(0);
            input[at + place..at + place + word.len()].copy_from_slice(word);
            seal(&mut input[at..at + BLOCK]);
        }
        5 => {
            let (place, length) = *random.pick(&[
                (100, 8),
                (108, 8),
                (116, 8),
                (124, 12),
                (136, 12),
                (329, 8),
                (337, 8),
                (483, 12),
                (386, 12),
                (398, 12),
            ]);
            if random.once_in(3) {
                for byte in &mut input[at + place..at + place + length] {
                    *byte = random.number() as u8;
                }
                input[at + place] |= 0x80;
            } else {
                let value = random.number() >> random.below(64);
                field(&mut input[at..at + BLOCK], place, length, value % (1 << (3 * (length - 1))));
            }
            seal(&mut input[at..at + BLOCK]);
        }
        6 => {
            input[at + 156] = *random.pick(KINDS);
            seal(&mut input[at..at + BLOCK]);
        }
        _ => {
            let byte = at + random.below(BLOCK);
            input[byte] = random.number() as u8;
            if !random.once_in(10) {
                seal(&mut input[at..at + BLOCK]);
            }
        }
    }
    input.truncate(mutate::LONGEST);
}

/// Unpacks in both ways; both times the stream is the same.
pub fn run(input: &[u8]) -> String {
    if layers::detect(input) != Compression::None {
        return run_compressed(input);
    }
    let looked = layers::inspect(input, Compression::None, &LIMITS);
    let mut outcome = String::new();
    for mode in [WhiteoutMode::Overlay, WhiteoutMode::Apply] {
        let ground = Ground::new();
        let unpacked = ground.unpack(input, mode, &LIMITS);
        match (&unpacked, &looked) {
            (Ok(unpacked), Ok(digest)) => assert_eq!(unpacked.diff_id, *digest),
            (Ok(_), Err(error)) => panic!("what is unpacked is refused by a look: {}", error.chain()),
            (Err(_), _) => {}
        }
        outcome += &match unpacked {
            Ok(u) => {
                format!("unpacked, {} {} ", u.pending.whiteouts.is_empty(), u.pending.lower_links.is_empty())
            }
            Err(error) => error.chain(),
        };
    }
    outcome
}

/// Decodes; nothing is made.
pub fn run_compressed(input: &[u8]) -> String {
    match layers::inspect(input, layers::detect(input), &LIMITS) {
        Ok(_) => "whole".to_owned(),
        Err(error) => error.chain(),
    }
}
