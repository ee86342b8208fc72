//! The contract of [`snapshots::Snapshotter`], run by every implementation.

use crate::builder::Builder;
use crate::case::{Case, View, fresh};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use types::ErrorKind;

every_snapshotter!(
    upper_layers_win_and_directories_merge,
    whiteouts_and_opaque_directories_hide_lower_layers,
    whiteouts_that_hide_nothing_leave_no_trace,
    an_opaque_root_hides_all_lower_layers,
    hard_links_reach_into_lower_layers,
    implied_directories_keep_their_attributes,
    attributes_devices_and_set_id_bits_survive,
    containers_write_to_their_own_layer_only,
    preparing_again_keeps_what_was_written,
    removing_twice_or_while_held_is_fine,
    a_crash_leaves_only_what_is_swept,
    committing_twice_and_side_by_side_is_fine,
    usage_is_what_du_counts,
    what_is_missing_is_named,
    names_that_are_no_ids_are_refused,
    whatever_a_container_made_is_removed,
    only_root_gets_in,
    a_container_without_layers_has_an_empty_root,
    long_chains_of_layers_work,
);

fn upper_layers_win_and_directories_merge(case: Case) {
    let chain = case.stack([
        Builder::default().dir("d", 0o755).file("d/low", b"1").file("both", b"low").symlink("l", "both"),
        Builder::default().dir("d", 0o711).file("d/high", b"2").file("both", b"high").file("l", b"file now"),
    ]);
    let view = case.view("c", &chain);
    assert_eq!(view.names("d"), ["high", "low"]);
    assert_eq!((view.read("both"), view.read("l")), ("high".into(), "file now".into()));
    assert_eq!(view.path("d").metadata().expect("d").mode() & 0o7777, 0o711);
    let below = case.view("b", &chain[1..]);
    assert_eq!((below.read("both"), below.names("d")), ("low".into(), vec!["low".to_owned()]));
}

fn whiteouts_and_opaque_directories_hide_lower_layers(case: Case) {
    let low = Builder::default()
        .dir("gone", 0o755)
        .file("gone/f", b"")
        .file("file", b"")
        .dir("opq", 0o755)
        .file("opq/low", b"")
        .dir("anew", 0o755)
        .file("anew/low", b"");
    let high = Builder::default()
        .file(".wh.gone", b"")
        .file(".wh.file", b"")
        .dir("opq", 0o755)
        .file("opq/new", b"")
        .file("opq/.wh..wh..opq", b"")
        .file("anew/new", b"")
        .file(".wh.anew", b"");
    let again = Builder::default().dir("gone", 0o700).file("gone/back", b"");
    let chain = case.stack([low, high, again]);
    let view = case.view("c", &chain);
    assert_eq!(view.names(""), ["anew", "gone", "opq"]);
    assert_eq!(view.names("opq"), ["new"]);
    assert_eq!(view.names("anew"), ["new"]);
    assert_eq!(view.names("gone"), ["back"]);
    assert_eq!(case.view("b", &chain[2..]).names("opq"), ["low"], "the layer below is as it was");
}

fn whiteouts_that_hide_nothing_leave_no_trace(case: Case) {
    let chain = case.stack([
        Builder::default().file(".wh.never", b"").dir("one", 0o755).file("one/.wh.f", b""),
        Builder::default().dir("two", 0o755).file("two/.wh.f", b"").file("one/.wh.g", b"").file(".wh.x", b""),
    ]);
    let view = case.view("c", &chain);
    assert_eq!(view.names(""), ["one", "two"]);
    assert!(view.names("one").is_empty() && view.names("two").is_empty());
}

fn an_opaque_root_hides_all_lower_layers(case: Case) {
    let chain = case.stack([
        Builder::default().file("old", b""),
        Builder::default().file("new", b"").file(".wh..wh..opq", b""),
        Builder::default().file("newer", b""),
    ]);
    assert_eq!(case.view("c", &chain).names(""), ["new", "newer"]);
}

fn hard_links_reach_into_lower_layers(case: Case) {
    let chain = case.stack([
        Builder::default()
            .dir("bin", 0o755)
            .with(b'0', "bin/tool", |h| (h.mode, h.size) = (0o4755, 1))
            .data(b"t"),
        Builder::default().hardlink("bin/alias", "bin/tool").hardlink("bin/other", "bin/tool"),
    ]);
    let view = case.view("c", &chain);
    assert_eq!((view.read("bin/alias"), view.read("bin/tool")), ("t".into(), "t".into()));
    let alias = view.path("bin/alias").metadata().expect("alias");
    assert_eq!(alias.mode(), 0o104755);
    assert_eq!(alias.ino(), view.path("bin/other").metadata().expect("other").ino());
}

fn implied_directories_keep_their_attributes(case: Case) {
    let chain = case.stack([
        Builder::default().with(b'5', "home", |h| (h.mode, h.uid, h.gid) = (0o1770, 3, 4)),
        Builder::default().file("home/f", b""),
        Builder::default().file("home/a/b", b""),
    ]);
    let view = case.view("c", &chain);
    let home = view.path("home").metadata().expect("home");
    assert_eq!((home.mode(), home.uid(), home.gid()), (0o41770, 3, 4));
    let inner = view.path("home/a").metadata().expect("a");
    assert_eq!((inner.mode(), inner.uid()), (0o40755, 0));
}

fn attributes_devices_and_set_id_bits_survive(case: Case) {
    let chain = case.stack([
        Builder::default()
            .pax(b'x', &[("SCHILY.xattr.user.k", b"v")])
            .with(b'0', "su", |h| (h.mode, h.uid) = (0o6755, 8))
            .device(b'3', "null", 1, 3)
            .with(b'6', "pipe", |h| h.mode = 0o600),
        Builder::default().file("more", b""),
    ]);
    let view = case.view("c", &chain);
    let su = view.path("su").metadata().expect("su");
    assert_eq!((su.mode(), su.uid(), su.mtime()), (0o106755, 8, 1_600_000_000));
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(view.path("su"), "user.k", &mut value).expect("user.k");
    assert_eq!(&value[..length], b"v");
    assert_eq!(view.path("null").metadata().expect("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(view.path("pipe").metadata().expect("pipe").mode(), 0o10600);
}

fn containers_write_to_their_own_layer_only(case: Case) {
    let chain = case.stack([Builder::default().dir("d", 0o755).file("d/f", b"image").file("g", b"image")]);
    let (one, two) = (case.view("one", &chain), case.view("two", &chain));
    one.write("d/f", "one");
    std::fs::remove_file(one.path("g")).expect("remove");
    std::fs::set_permissions(one.path("d"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    assert_eq!((two.read("d/f"), two.read("g")), ("image".into(), "image".into()));
    let three = case.view("three", &chain);
    assert_eq!((three.read("d/f"), three.read("g")), ("image".into(), "image".into()));
    assert_eq!(three.path("d").metadata().expect("d").mode() & 0o7777, 0o755);
    let mut ids = case.snapshotter.containers().expect("containers");
    ids.sort();
    assert_eq!(ids, ["one", "three", "two"]);
}

fn preparing_again_keeps_what_was_written(case: Case) {
    let chain = case.stack([Builder::default().file("f", b"image")]);
    let first = case.snapshotter.prepare("c", &chain).expect("prepare");
    {
        View::new(&first).write("f", "container");
    }
    let case = case.reopen();
    assert_eq!(case.snapshotter.prepare("c", &chain).expect("again"), first);
    assert_eq!(View::new(&first).read("f"), "container");
    assert_eq!(case.count("ingest"), 0);
}

fn removing_twice_or_while_held_is_fine(case: Case) {
    let chain = case.stack([Builder::default().dir("d", 0o755).file("d/f", b"1")]);
    let view = case.view("c", &chain);
    view.write("d/new", "2");
    let held = std::fs::File::open(view.path("d/new")).expect("open");
    case.snapshotter.remove("c").expect("remove while held");
    case.snapshotter.remove("c").expect("gone is fine");
    drop((held, view));
    assert!(case.snapshotter.containers().expect("containers").is_empty());
    case.snapshotter.remove_layer(&chain[0]).expect("remove");
    case.snapshotter.remove_layer(&chain[0]).expect("gone is fine");
    assert!(!case.snapshotter.has_layer(&chain[0]));
    assert!(case.snapshotter.layers().expect("layers").is_empty());
    assert_eq!((case.count("trash"), case.count("ingest"), case.count("layers")), (0, 0, 0));
    let anew = case.view("c", &case.stack([Builder::default().file("other", b"")]));
    assert_eq!(anew.names(""), ["other"], "nothing of the old container is left");
}

fn a_crash_leaves_only_what_is_swept(case: Case) {
    let chain = case.stack([Builder::default().file("f", b"1")]);
    let (dropped, _) = case.draft(&fresh(), chain.first(), Builder::default().file("x", b""));
    drop(dropped);
    assert_eq!(case.count("ingest"), 0, "a draft that is given up removes itself");
    let (mut draft, _) =
        case.draft(&fresh(), chain.first(), Builder::default().dir("a", 0o0).file("a/b", b""));
    // What a process had open, and so what it had mounted, goes with it.
    draft.dir = std::fs::File::open(case.top.path()).expect("another directory").into();
    std::mem::forget(draft);
    std::fs::create_dir_all(case.path("trash/dead/fs/a/b")).expect("trash");
    std::os::unix::fs::symlink("/etc", case.path("trash/dead/fs/link")).expect("trash");
    std::fs::create_dir(case.path("layers/foreign")).expect("foreign");
    assert_eq!(case.count("ingest"), 1);
    let case = case.reopen();
    assert_eq!((case.count("ingest"), case.count("trash")), (0, 0));
    assert_eq!(case.snapshotter.layers().expect("layers"), chain);
    assert!(case.snapshotter.has_layer(&chain[0]));
    assert_eq!(case.view("c", &chain).read("f"), "1");
}

fn committing_twice_and_side_by_side_is_fine(case: Case) {
    let base = case.stack([Builder::default().dir("d", 0o700)]);
    let chain = fresh();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let (draft, unpacked) =
                    case.draft(&chain, base.first(), Builder::default().file("d/f", b"same"));
                case.snapshotter.commit_layer(draft, &chain, &base, &unpacked).expect("commit");
            });
        }
    });
    assert_eq!((case.count("layers"), case.count("ingest")), (2, 0));
    let all = [chain, base[0].clone()];
    let view = case.view("c", &all);
    assert_eq!(view.read("d/f"), "same");
    assert_eq!(view.path("d").metadata().expect("d").mode() & 0o7777, 0o700);
    drop(view);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| case.snapshotter.prepare("same", &all).expect("prepare"));
        }
        for _ in 0..6 {
            scope.spawn(|| case.snapshotter.remove("c").expect("remove"));
        }
    });
    assert_eq!(case.snapshotter.containers().expect("containers"), ["same"]);
    assert_eq!((case.count("trash"), case.count("ingest")), (0, 0));
}

/// Allocated bytes and inodes, counted by paths.
fn count(path: &std::path::Path, seen: &mut std::collections::HashSet<u64>) -> (u64, u64) {
    let stat = path.symlink_metadata().expect("stat");
    if !seen.insert(stat.ino()) {
        return (0, 0);
    }
    let mut sum = (stat.blocks() * 512, 1);
    if stat.is_dir() {
        for entry in std::fs::read_dir(path).expect("read_dir") {
            let (bytes, inodes) = count(&entry.expect("entry").path(), seen);
            sum = (sum.0 + bytes, sum.1 + inodes);
        }
    }
    sum
}

fn usage_is_what_du_counts(case: Case) {
    let chain = case.stack([Builder::default()
        .dir("d", 0o755)
        .file("d/f", &[7; 100_000])
        .hardlink("d/g", "d/f")
        .symlink("s", "d")]);
    let usage = case.snapshotter.layer_usage(&chain[0]).expect("layer usage");
    let mounted =
        (case.name == "devmapper").then(|| View::new(&case.snapshotter.view(&chain).expect("view")));
    let layer = mounted.as_ref().map_or_else(|| case.layer_content(&chain[0]), |view| view.path("."));
    assert_eq!((usage.bytes, usage.inodes), count(&layer, &mut Default::default()));
    assert_eq!(usage.inodes, if case.name == "erofs" { 1 } else { 4 });
    assert_eq!(case.snapshotter.measure_layer(&chain[0]).expect("measured"), usage);
    // Committed without a sync it is known from the unpacking, unless lower layers have a say.
    for layer in [
        Builder::default().dir("e", 0o755).file("e/f", &[7; 50_000]).symlink("e/s", &"d/".repeat(60)),
        Builder::default().file("d/h", &[7; 50_000]).file(".wh.s", b"").file("e/f", b"x"),
    ] {
        let next = fresh();
        let (draft, unpacked) = case.draft(&next, chain.first(), layer);
        case.snapshotter.commit_layer_unsynced(draft, &next, &chain, &unpacked).expect("commit");
        let known = case.snapshotter.layer_usage(&next).expect("usage");
        assert_eq!(case.snapshotter.measure_layer(&next).expect("measured"), known);
    }
    let view = case.view("c", &chain);
    let before = case.snapshotter.usage("c").expect("usage");
    view.write("new", &"x".repeat(50_000));
    std::fs::hard_link(view.path("new"), view.path("again")).expect("link");
    std::fs::File::open(view.path("new")).expect("open").sync_all().expect("sync");
    let after = case.snapshotter.usage("c").expect("usage");
    assert_eq!(after.inodes, before.inodes + 1);
    assert!(after.bytes >= before.bytes + 50_000 && after.bytes <= before.bytes + 60_000, "{after:?}");
}

fn what_is_missing_is_named(case: Case) {
    let none = fresh();
    let errors = [
        case.snapshotter.prepare("c", std::slice::from_ref(&none)).expect_err("no layer"),
        case.snapshotter.layer_usage(&none).expect_err("no layer"),
        case.snapshotter.usage("nobody").expect_err("no container"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    assert!(case.snapshotter.containers().expect("containers").is_empty());
    assert_eq!(case.count("ingest"), 0);
    let error = snapshots::open("floppy", case.top.path()).err().expect("unknown");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

fn names_that_are_no_ids_are_refused(case: Case) {
    let chain = case.stack([Builder::default().file("f", b"")]);
    for id in ["", ".", "..", "../layers", "a/b", "a\0b", ".hidden", &"x".repeat(200)] {
        assert!(case.snapshotter.prepare(id, &chain).is_err(), "{id:?}");
        assert!(case.snapshotter.remove(id).is_err(), "{id:?}");
        assert!(case.snapshotter.usage(id).is_err(), "{id:?}");
    }
    assert!(case.snapshotter.has_layer(&chain[0]));
}

fn whatever_a_container_made_is_removed(case: Case) {
    use rustix::fs::{Mode, OFlags};
    let view = case.view("c", &case.stack([Builder::default().file("f", b"")]));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::openat(&view.0, ".", flags, Mode::empty()).expect("open");
    for _ in 0..2500 {
        rustix::fs::mkdirat(&dir, "deep", Mode::RWXU).expect("mkdir");
        dir = rustix::fs::openat(&dir, "deep", flags, Mode::empty()).expect("open");
    }
    let file = rustix::fs::openat(&dir, "kept", OFlags::CREATE | OFlags::RDWR, Mode::RWXU).expect("create");
    if let Err(error) = rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::IMMUTABLE) {
        println!("skipped the immutable file: this file system says {error}");
    }
    std::os::unix::fs::symlink(case.top.path(), view.path("out")).expect("link");
    assert!(case.snapshotter.usage("c").expect("usage").inodes > 2500);
    drop((dir, file, view));
    case.snapshotter.remove("c").expect("remove");
    assert_eq!(case.count("trash"), 0);
    assert_eq!(case.snapshotter.layers().expect("layers").len(), 1);
}

fn only_root_gets_in(case: Case) {
    let chain = case.stack([Builder::default().file("f", b"")]);
    case.snapshotter.prepare("c", &chain).expect("prepare");
    let mode = |path: &str| case.path(path).metadata().expect("stat").mode() & 0o7777;
    for path in
        ["", "layers", "containers", "ingest", "trash", "containers/c", &format!("layers/{}", chain[0].hex())]
    {
        assert_eq!(mode(path), 0o700, "{path}");
    }
    assert_eq!(mode("containers/c/fs"), 0o755);
    let layer = case.layer_content(&chain[0]).metadata().expect("layer").mode();
    assert_eq!(layer & 0o7777, if case.name == "erofs" { 0o600 } else { 0o755 });
}

fn a_container_without_layers_has_an_empty_root(case: Case) {
    let view = case.view("c", &[]);
    view.write("f", "1");
    assert_eq!(view.names(""), ["f"]);
    case.snapshotter.remove("c").expect("remove");
}

fn long_chains_of_layers_work(case: Case) {
    let layers = (0..130)
        .map(|n| Builder::default().file(&format!("f{n}"), b"").file("last", n.to_string().as_bytes()));
    let chain = case.stack(layers);
    let view = case.view("c", &chain);
    assert_eq!((view.names("").len(), view.read("last")), (131, "129".into()));
}
