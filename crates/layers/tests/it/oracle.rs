//! Well-formed archives come out as the `tar` crate unpacks them, and read as it reads them.

use crate::sandbox::{Sandbox, open};
use layers::{Compression, UnpackLimits, WhiteoutMode};
use proptest::prelude::*;
use std::os::fd::AsFd;

#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, u32),
    Dir(u32),
    Link(String),
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..2000), 0_u32..0o1000).prop_map(|(d, m)| Thing::File(d, m)),
        (0o700_u32..0o1000).prop_map(Thing::Dir),
        "[a-z/.]{1,120}".prop_map(Thing::Link),
    ]
}

fn archive(things: &[(String, Thing)], gnu: bool) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (at, (name, thing)) in things.iter().enumerate() {
        let name = format!("top/{at}-{name}");
        let mut header = if gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
        header.set_uid(at as u64);
        header.set_gid(7);
        header.set_mtime(1_000_000 + at as u64);
        match thing {
            Thing::File(data, mode) => {
                header.set_mode(*mode);
                header.set_size(data.len() as u64);
                builder.append_data(&mut header, name, data.as_slice()).expect("append");
            }
            Thing::Dir(mode) => {
                header.set_mode(*mode);
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, name, std::io::empty()).expect("append");
            }
            Thing::Link(target) => {
                header.set_mode(0o777);
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).expect("append");
            }
        }
    }
    builder.into_inner().expect("archive")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_readers_make_the_same_tree(
        things in prop::collection::vec(("[a-z]{1,90}", thing()), 1..12),
    ) {
        let bytes = archive(&things, true);
        let ours = Sandbox::new();
        ours.unpack(&bytes).expect("ours");
        let theirs = Sandbox::new();
        let mut reader = tar::Archive::new(bytes.as_slice());
        reader.set_preserve_permissions(true);
        reader.set_preserve_ownerships(true);
        reader.set_preserve_mtime(true);
        reader.unpack(theirs.root()).expect("theirs");
        let (mut ours, mut theirs) = (ours.tree(), theirs.tree());
        // The other reader leaves the times of directories.
        for tree in [&mut ours, &mut theirs] {
            tree.values_mut().filter(|n| n.mode & 0o170000 == 0o40000).for_each(|n| n.mtime = (0, 0));
        }
        // Neither archive has an entry for the parent; its time is the moment it was made.
        ours.remove(std::path::Path::new("top"));
        theirs.remove(std::path::Path::new("top"));
        prop_assert_eq!(ours, theirs);
    }
}

/// A tree made by this crate's copy is the same tree.
#[test]
fn a_copied_tree_is_the_same_tree() {
    let source = Sandbox::new();
    let archive = crate::builder::Builder::default()
        .dir("a", 0o2711)
        .with(b'0', "a/su", |h| (h.mode, h.uid, h.size) = (0o4755, 9, 3))
        .data(b"abc")
        .hardlink("a/su2", "a/su")
        .symlink("a/l", "../nowhere")
        .pax(b'x', &[("SCHILY.xattr.user.k", b"v")])
        .dir("a/b", 0o700)
        .device(b'3', "a/b/null", 1, 3)
        .with(b'6', "a/b/pipe", |_| {})
        .file("a/b/empty", b"")
        .pax(b'x', &[("GNU.sparse.size", b"9000000"), ("GNU.sparse.map", b"0,4096,5000000,600")])
        .file("a/holes", &[b'h'; 4696])
        .pax(b'x', &[("GNU.sparse.size", b"9000000"), ("GNU.sparse.map", b"0,0")])
        .file("a/hole", b"")
        .end();
    let limits = UnpackLimits::default();
    source.unpack_as(&archive, Compression::None, WhiteoutMode::Overlay, &limits).expect("unpack");
    let copy = Sandbox::new();
    layers::copy::tree(source.fd().as_fd(), copy.fd().as_fd()).expect("copy");
    assert_eq!(source.tree(), copy.tree());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(copy.root().join("a/su2").metadata().expect("su2").nlink(), 2);
    for name in ["a/holes", "a/hole"] {
        assert!(copy.root().join(name).metadata().expect("stat").blocks() < 100, "{name}: holes stay holes");
    }
    assert_eq!(crate::sandbox::xattr(&copy.root().join("a/b"), "user.k").as_deref(), Some(&b"v"[..]));
    drop(open(&copy.root()));
}
