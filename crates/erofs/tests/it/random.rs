//! Trees of any form.

use crate::look::same;
use crate::tree::{Tree, owner, time, xattr};
use proptest::prelude::*;
use rustix::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[derive(Debug, Clone)]
enum Kind {
    Directory,
    File(usize),
    Link(Vec<u8>),
    Node(u8, u32, u32),
    /// Another name of the n-th thing before.
    Name(usize),
}

#[derive(Debug, Clone)]
struct Thing {
    kind: Kind,
    name: Vec<u8>,
    /// In the n-th directory before.
    parent: usize,
    owner: (u32, u32),
    mode: u32,
    time: (i64, i64),
    xattrs: Vec<(String, Vec<u8>)>,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Directory),
        4 => prop_oneof![0_usize..200, 3900_usize..4300, 0_usize..20_000].prop_map(Kind::File),
        1 => proptest::collection::vec(1_u8.., 1..300).prop_map(Kind::Link),
        1 => (0_u8..4, 0_u32..4096, 0_u32..1 << 20).prop_map(|(kind, a, b)| Kind::Node(kind, a, b)),
        1 => (0_usize..100).prop_map(Kind::Name),
    ]
}

fn thing() -> impl Strategy<Value = Thing> {
    let name =
        proptest::collection::vec(any::<u8>().prop_filter("no name", |b| *b != 0 && *b != b'/'), 1..40);
    let xattrs = proptest::collection::vec(
        (
            prop_oneof![Just("user.a"), Just("user.bcd"), Just("trusted.x"), Just("security.s")],
            prop_oneof![Just(vec![7; 40]), proptest::collection::vec(any::<u8>(), 0..120)],
        )
            .prop_map(|(name, value)| (name.to_owned(), value)),
        0..4,
    );
    let time = prop_oneof![Just((1_600_000_000, 0)), (-1000_i64..1 << 33, 0_i64..1_000_000_000)];
    (kind(), name, 0_usize..30, (0_u32..70_000, 0_u32..70_000), 0_u32..0o10000, time, xattrs).prop_map(
        |(kind, name, parent, owner, mode, time, xattrs)| Thing {
            kind,
            name,
            parent,
            owner,
            mode,
            time,
            xattrs,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_read_back_entry_by_entry(things in proptest::collection::vec(thing(), 0..60)) {
        let tree = Tree::new();
        let mut dirs: Vec<PathBuf> = vec![tree.top().to_owned()];
        let mut files: Vec<PathBuf> = Vec::new();
        let mut times = vec![(tree.top().to_owned(), (1_600_000_000, 0))];
        for thing in things {
            if thing.name == b"." || thing.name == b".." {
                continue;
            }
            let path = dirs[thing.parent % dirs.len()].join(std::ffi::OsStr::from_bytes(&thing.name));
            if path.symlink_metadata().is_ok() {
                continue;
            }
            let name = path.clone();
            match thing.kind {
                Kind::Directory => {
                    std::fs::create_dir(&path).expect("mkdir");
                    dirs.push(path.clone());
                }
                Kind::File(length) => std::fs::write(&path, vec![thing.mode as u8; length]).expect("write"),
                Kind::Link(target) => {
                    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), &path).expect("link");
                }
                Kind::Node(kind, major, minor) => {
                    let kind = [FileType::CharacterDevice, FileType::BlockDevice, FileType::Fifo, FileType::Socket]
                        [usize::from(kind)];
                    let device = rustix::fs::makedev(major, minor);
                    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::RUSR, device).expect("mknod");
                }
                Kind::Name(which) => {
                    if !files.is_empty() {
                        std::fs::hard_link(&files[which % files.len()], &path).expect("name");
                    }
                    continue;
                }
            }
            if !name.is_dir() || name.is_symlink() {
                files.push(name.clone());
            }
            owner(&name, thing.owner.0, thing.owner.1, thing.mode);
            for (key, value) in &thing.xattrs {
                // user.* is for files and directories alone (xattr(7)).
                if !key.starts_with("user.") || (!name.is_symlink() && (name.is_file() || name.is_dir())) {
                    xattr(&name, key, value);
                }
            }
            times.push((name, thing.time));
        }
        for (path, (seconds, nanoseconds)) in times {
            time(&path, seconds, nanoseconds);
        }
        same(tree.top());
    }
}
