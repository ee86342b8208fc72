//! What is at the edges of the format.

use crate::look::{image, same};
use crate::tree::{Tree, owner, time, xattr};
use rustix::fs::FileType;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, symlink};

fn content(length: usize) -> Vec<u8> {
    let mut seed = length as u32 + 1;
    (0..length)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect()
}

#[test]
fn an_empty_directory_is_an_image() {
    let tree = Tree::new();
    let image = same(tree.top());
    assert_eq!((image.written.bytes, image.written.inodes), (4096, 1));
}

#[test]
fn files_of_every_size_around_a_block_are_whole() {
    let tree = Tree::new();
    for length in [0, 1, 31, 32, 3999, 4000, 4031, 4032, 4033, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 8193]
    {
        tree.file(&format!("f{length}"), &content(length));
    }
    tree.file("big", &content(9 << 20 | 77));
    same(tree.top());
}

#[test]
fn holes_stay_holes() {
    let tree = Tree::new();
    let file = std::fs::File::create(tree.path("sparse")).expect("create");
    file.set_len(64 << 20).expect("size");
    file.write_all_at(b"in the middle", 33 << 20).expect("write");
    let end = std::fs::File::create(tree.path("end")).expect("create");
    end.set_len(1 << 20 | 5).expect("size");
    let image = same(tree.top());
    assert!(image.written.bytes > 65 << 20);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&image.file.metadata().expect("stat"));
    assert!(blocks * 512 < 1 << 20, "{blocks}");
}

#[test]
fn large_directories_are_found_in_by_name() {
    let tree = Tree::new();
    let many = tree.dir("many");
    for n in 0..5000 {
        std::fs::write(many.join(format!("file-{n:05}")), b"").expect("write");
    }
    // Before "." and between "." and "..": names are sorted by bytes alone.
    for name in ["!", "-", "..a", ".-", "...", "~", "z", "A"] {
        tree.file(name, name.as_bytes());
    }
    let long = tree.dir("long");
    for n in 0..40 {
        std::fs::write(long.join(format!("{n:02}{}", "x".repeat(253))), b"1").expect("write");
    }
    let image = same(tree.top());
    if let Some(mounted) = image.mount() {
        for n in (0..5000).step_by(7) {
            assert!(mounted.path().join(format!("many/file-{n:05}")).exists(), "{n}");
        }
        assert!(!mounted.path().join("many/file-05000").exists());
        assert!(!mounted.path().join("many/file-").exists());
    }
}

#[test]
fn every_size_of_a_directory_is_read_back() {
    let tree = Tree::new();
    // Around one and two blocks, by one byte.
    for length in 1..=60 {
        let dir = tree.dir(&format!("d{length}"));
        for n in 0..99 {
            std::fs::write(dir.join(format!("{n:030}")), b"").expect("write");
        }
        std::fs::write(dir.join("x".repeat(length)), b"").expect("write");
    }
    same(tree.top());
}

#[test]
fn every_kind_of_file_keeps_its_owner_mode_time_and_number() {
    let tree = Tree::new();
    owner(&tree.file("su", b"#!"), 8, 9, 0o6755);
    owner(&tree.file("far", b"x"), 70_000, 4_000_000_000, 0o1604);
    owner(&tree.dir("sticky"), 1, 2, 0o1777);
    tree.node("null", FileType::CharacterDevice, 1, 3);
    tree.node("whiteout", FileType::CharacterDevice, 0, 0);
    tree.node("disk", FileType::BlockDevice, 259, 0xabcde);
    tree.node("pipe", FileType::Fifo, 0, 0);
    tree.node("socket", FileType::Socket, 0, 0);
    symlink("short", tree.path("link")).expect("link");
    symlink("y".repeat(4095), tree.path("longest")).expect("link");
    symlink("z".repeat(3990), tree.path("long")).expect("link");
    owner(&tree.path("link"), 70_001, 3, 0);
    time(&tree.path("su"), 0, 0);
    time(&tree.path("far"), 1 << 33, 999_999_999);
    time(&tree.path("link"), -5, 7);
    time(tree.top(), 1_600_000_000, 0);
    time(&tree.path("null"), 1_600_000_000, 0);
    same(tree.top());
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let tree = Tree::new();
    let first = tree.file("b", &content(5000));
    tree.dir("d");
    for name in ["a", "d/c", "z"] {
        std::fs::hard_link(&first, tree.path(name)).expect("link");
    }
    let pipe = tree.node("pipe", FileType::Fifo, 0, 0);
    std::fs::hard_link(pipe, tree.path("d/pipe")).expect("link");
    symlink("to", tree.path("link")).expect("link");
    std::fs::hard_link(tree.path("link"), tree.path("d/link")).expect("link");
    same(tree.top());
}

#[test]
fn a_name_outside_of_the_tree_does_not_count() {
    let tree = Tree::new();
    let inside = tree.dir("in");
    let file = tree.file("in/f", b"1");
    std::fs::hard_link(&file, tree.path("out")).expect("link");
    let image = image(&inside).expect("image");
    image.check();
    if let Some(mounted) = image.mount() {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(mounted.path().join("f").metadata().expect("f").nlink(), 1);
    }
}

#[test]
fn attributes_of_all_kinds_and_sizes_are_kept() {
    let tree = Tree::new();
    let f = tree.file("f", &content(100));
    xattr(&f, "user.empty", b"");
    xattr(&f, "user.big", &content(3000));
    xattr(&f, "trusted.overlay.opaque", b"y");
    // A file capability, as setcap(8) writes it.
    xattr(&f, "security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // user::rw-, user:1:r--, group::r--, mask::r--, other::r--
    let list = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 1, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
        16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
    ];
    xattr(&f, "system.posix_acl_access", &list);
    let d = tree.dir("d");
    xattr(&d, "system.posix_acl_default", &list);
    xattr(&d, "user.a.long.name.with.dots", b"\0\x01\xff");
    for n in 0..300 {
        let many = tree.file(&format!("many{n}"), &content(n * 13));
        xattr(&many, "security.selinux", b"system_u:object_r:container_file_t:s0");
        xattr(&many, "user.own", n.to_string().as_bytes());
    }
    symlink("t", tree.path("l")).expect("link");
    xattr(&tree.path("l"), "trusted.k", b"v");
    let node = tree.node("n", FileType::CharacterDevice, 0, 0);
    xattr(&node, "trusted.k", b"v");
    xattr(tree.top(), "user.root", &content(3500));
    let image = same(tree.top());
    let text = image.bytes();
    let label = b"system_u:object_r:container_file_t:s0";
    let count = text.windows(label.len()).filter(|window| window == label).count();
    assert_eq!(count, 2, "attributes that many files share are written once for them");
}

#[test]
fn attributes_over_blocks_are_read_back() {
    let tree = Tree::new();
    // Only some file systems take as much; a tmpfs takes little, ext4 a block.
    for n in 0..9 {
        let file = tree.file(&format!("f{n}"), &content(n * 600));
        for m in 0..3 {
            let name = format!("trusted.a{m}");
            let value = content(1100 + n * 10 + m);
            if rustix::fs::lsetxattr(&file, &*name, &value, rustix::fs::XattrFlags::empty()).is_err() {
                println!("SKIPPED some attributes: the file system of /var/tmp does not take them");
            }
        }
    }
    same(tree.top());
}

#[test]
fn the_same_tree_gives_the_same_image() {
    let build = |reverse: bool| {
        let tree = Tree::new();
        let mut names: Vec<usize> = (0..200).collect();
        if reverse {
            names.reverse();
        }
        for n in names {
            let path = tree.file(&format!("f{n}"), &content(n * 50));
            xattr(&path, "user.k", b"value");
            time(&path, n as i64, 0);
        }
        std::fs::hard_link(tree.path("f1"), tree.path("again")).expect("link");
        time(tree.top(), 5, 5);
        image(tree.top()).expect("image").bytes()
    };
    let (one, two) = (build(false), build(true));
    assert!(one == two);
}

#[test]
fn small_files_share_blocks() {
    let tree = Tree::new();
    for n in 0..1000 {
        tree.file(&format!("f{n}"), b"a few bytes");
    }
    let image = same(tree.top());
    assert!(image.written.bytes < 160 << 10, "{}", image.written.bytes);
}

#[test]
fn deep_trees_need_no_stack_and_few_descriptors() {
    let tree = Tree::new();
    let mut dir =
        rustix::fs::open(tree.top(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("open");
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).expect("mkdir");
        dir =
            rustix::fs::openat(&dir, "d", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("open");
    }
    let image = image(tree.top()).expect("image");
    assert_eq!(image.written.inodes, 3001);
    if let Some(mounted) = image.mount() {
        let mut at = std::fs::File::open(mounted.path()).expect("open");
        for _ in 0..3000 {
            let flags = rustix::fs::OFlags::PATH;
            at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).expect("down").into();
        }
    }
}

#[test]
fn what_the_format_cannot_hold_is_refused_by_name() {
    let tree = Tree::new();
    tree.dir("mounted");
    let place = tree.path("mounted");
    std::thread::spawn(move || {
        sys::process::unshare(sys::process::namespace::MOUNT).expect("unshare");
        let private =
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("private");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &place, "tmpfs", flags, None).expect("mount");
        let error = image(place.parent().expect("parent")).err().expect("a mount in the tree");
        assert_eq!(
            error.to_string(),
            "/mounted cannot be in an EROFS image: another file system is mounted there"
        );
        assert_eq!(types::Error::from(error).kind(), types::ErrorKind::InvalidArgument);
    })
    .join()
    .expect("thread");
}

#[test]
fn an_image_that_cannot_be_written_is_an_error_that_says_so() {
    let tree = Tree::new();
    tree.file("f", b"1");
    let dir = std::fs::File::open(tree.top()).expect("open");
    let full = std::fs::OpenOptions::new().read(true).write(true).open("/dev/full").expect("open");
    let error = erofs::write(dir.as_fd(), full.as_fd(), [0; 16]).expect_err("no space");
    assert_eq!(types::Error::from(error).kind(), types::ErrorKind::ResourceExhausted);
}
