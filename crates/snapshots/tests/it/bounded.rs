//! Writable layers that are full at a set size.

use crate::builder::Builder;
use crate::case::{Case, View};
use snapshots::Writable;
use std::io::Write;
use std::process::Command;

const MIB: u64 = 1 << 20;

fn bounded(bytes: u64) -> Writable {
    Writable { bytes: Some(bytes), ..Writable::default() }
}

/// The same for a container whose user namespace keeps it from changing the project of its files.
fn bounded_inside(bytes: u64) -> Writable {
    Writable { owner: Some((100_000, 100_000)), ..bounded(bytes) }
}

/// Writes until there is no space; how much went in.
fn fill(view: &View, name: &str) -> (u64, std::io::Error) {
    let mut file = std::fs::File::create(view.path(name)).expect("create");
    let part = vec![0x5a; 64 << 10];
    let mut written = 0;
    loop {
        // Space that is only promised may be taken back.
        match file.write_all(&part).and_then(|()| file.sync_data()) {
            Ok(()) => written += part.len() as u64,
            Err(error) => return (written, error),
        }
        assert!(written < 256 * MIB, "it is never full");
    }
}

fn total(view: &View) -> u64 {
    let stat = rustix::fs::statvfs(view.path("")).expect("statvfs");
    stat.f_blocks * stat.f_frsize
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(28 | 122))
}

/// The promises that both ways keep.
fn full_at_the_set_size(case: &Case) {
    full_at(case, &bounded);
}

fn full_at(case: &Case, bounded: &dyn Fn(u64) -> Writable) {
    let chain = case.stack([Builder::default().file("f", &vec![7; 3 << 20]).dir("d", 0o755)]);
    let source = case.snapshotter.prepare_with("c", &chain, &bounded(24 * MIB)).expect("prepare");
    let other = case.snapshotter.prepare_with("other", &chain, &bounded(24 * MIB)).expect("prepare");
    let (view, other) = (View::new(&source), View::new(&other));
    let (written, error) = fill(&view, "d/big");
    assert!(is_full(&error), "{error}");
    assert!((20 * MIB..=24 * MIB).contains(&written), "{written} bytes of {}", 24 * MIB);
    assert!((20 * MIB..=24 * MIB).contains(&total(&view)), "df tells {}", total(&view));
    // The image's own files take nothing of it, and nobody else is concerned.
    other.write("d/small", "fits");
    assert_eq!(view.path("f").metadata().expect("f").len(), 3 << 20);
    let used = case.snapshotter.usage("c").expect("usage").bytes;
    // What is not written out yet takes no space on the node.
    assert!((MIB..=26 * MIB).contains(&used), "{used}");
    std::fs::remove_file(view.path("d/big")).expect("remove");
    let (again, _) = fill(&view, "d/more");
    assert!(again + MIB >= written, "what is deleted is free again: {again}");
    drop(view);
    case.snapshotter.remove("c").expect("remove");
    assert_eq!(
        (case.snapshotter.containers().expect("containers"), case.count("trash")),
        (vec!["other".into()], 0)
    );
}

fn has_mkfs() -> bool {
    let found = Command::new("mkfs.ext4").arg("-V").output().is_ok();
    if !found {
        println!("SKIPPED: there is no mkfs.ext4 here");
    }
    found
}

#[test]
fn without_project_quota_a_bounded_layer_is_a_file_system_in_a_file() {
    for name in ["overlayfs", "erofs"] {
        let Some(case) = Case::open(name).filter(|_| has_mkfs()) else { return };
        full_at_the_set_size(&case);
        let source = case.snapshotter.prepare_with(
            "mapped",
            &[],
            &Writable { bytes: Some(8 * MIB), owner: Some((100_000, 100_001)) },
        );
        let view = View::new(&source.expect("prepare"));
        use std::os::unix::fs::MetadataExt;
        let root = view.path("").metadata().expect("root");
        assert_eq!((root.uid(), root.gid()), (100_000, 100_001));
        assert_eq!(view.names(""), [""; 0]);
    }
}

/// A file system of one's own, seen by this thread and those that it starts.
fn with_disk(make: &[&str], options: &str, test: impl FnOnce(&std::path::Path) + Send) {
    if !has_mkfs() {
        return;
    }
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let image = folder.path().join("disk");
    std::fs::File::create(&image).expect("create").set_len(160 * MIB).expect("size");
    let output = Command::new("mkfs.ext4").args(["-q", "-F"]).args(make).arg(&image).output().expect("mkfs");
    assert!(output.status.success(), "{output:?}");
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                sys::process::unshare(sys::process::namespace::MOUNT).expect("unshare");
                container::root::detach_from_node().expect("private");
                let place = folder.path().join("place");
                std::fs::create_dir(&place).expect("mkdir");
                let mounted = Command::new("mount").args(["-o", options]).arg(&image).arg(&place).output();
                let mounted = mounted.expect("mount");
                if !mounted.status.success() {
                    let words = String::from_utf8_lossy(&mounted.stderr);
                    println!("SKIPPED: this kernel does not mount such a disk: {}", words.trim());
                    return;
                }
                test(&place);
            })
            .join()
            .expect("thread");
    });
}

#[test]
fn with_project_quota_the_directory_is_bounded() {
    with_disk(&["-O", "quota,project", "-E", "quotatype=prjquota"], "loop,prjquota", |place| {
        for name in ["overlayfs", "erofs"] {
            let case = Case::within(name, place);
            full_at(&case, &bounded_inside);
            assert!(!case.path("containers/other/disk").exists(), "no file system in a file is needed");
            // Root of the node itself could leave the project (chattr -p 0): it gets a file system of its own.
            case.snapshotter
                .prepare_with("root", &case.snapshotter.layers().expect("layers"), &bounded(4 * MIB))
                .expect("prepare");
            assert!(case.path("containers/root/disk").exists());
            // Another process gives out other numbers.
            let case = case.reopen();
            let chain = case.snapshotter.layers().expect("layers");
            let source =
                case.snapshotter.prepare_with("later", &chain, &bounded_inside(4 * MIB)).expect("prepare");
            let (written, error) = fill(&View::new(&source), "d/big");
            assert!(is_full(&error) && written <= 4 * MIB, "{written} {error}");
            let unbounded = case.view("free", &chain);
            unbounded.write("d/large", &"x".repeat(8 << 20));
        }
    });
}

#[test]
fn with_project_quota_a_file_in_4_kib_is_the_bound_also_of_files_without_content() {
    with_disk(&["-O", "quota,project", "-E", "quotatype=prjquota"], "loop,prjquota", |place| {
        let case = Case::within("overlayfs", place);
        let chain = case.stack([Builder::default().dir("d", 0o755)]);
        let source = case.snapshotter.prepare_with("c", &chain, &bounded_inside(2 * MIB)).expect("prepare");
        let view = View::new(&source);
        let make = |from: usize| {
            (from..10_000)
                .find_map(|n| std::fs::File::create(view.path(&format!("d/{n}"))).err().map(|e| (n, e)))
        };
        let (made, error) = make(0).expect("files without content take nothing of the bound");
        assert!(is_full(&error), "{error}");
        // The layer's own folders count, too.
        assert!((490..=512).contains(&made), "{made} files in 2 MiB");
        assert_eq!(rustix::fs::statvfs(view.path("")).expect("statvfs").f_files, 512);
        for n in 0..10 {
            std::fs::remove_file(view.path(&format!("d/{n}"))).expect("remove");
        }
        let (again, _) = make(made).expect("full again");
        assert_eq!(again - made, 10, "what is removed is free again");
        let other =
            case.snapshotter.prepare_with("other", &chain, &bounded_inside(2 * MIB)).expect("prepare");
        View::new(&other).write("d/mine", "fits");
        // Who has no bound has none of files.
        drop(view);
        case.snapshotter.remove("c").expect("remove");
        let unbounded = case.view("free", &chain);
        (0..600).for_each(|n| unbounded.write(&format!("d/{n}"), ""));
    });
}

#[test]
fn images_are_sealed_where_the_disk_can_and_a_changed_one_is_not_mounted() {
    with_disk(&["-b", "4096", "-O", "verity"], "loop", |place| {
        let case = Case::within("erofs", place);
        let chain = case.stack([Builder::default().file("f", b"sealed")]);
        let meta = case.path("layers").join(chain[0].hex()).join("meta.json");
        let text = std::fs::read_to_string(&meta).expect("meta.json");
        let json: serde_json::Value = serde_json::from_str(&text).expect("json");
        let Some(digest) = json["image"]["verity"][1].as_str() else {
            println!("SKIPPED: this kernel has no fs-verity");
            return;
        };
        assert_eq!(case.view("c", &chain).read("f"), "sealed");
        let error = std::fs::OpenOptions::new().write(true).open(case.layer_content(&chain[0]));
        assert_eq!(error.expect_err("sealed").kind(), std::io::ErrorKind::PermissionDenied);
        std::fs::write(&meta, text.replace(digest, &digest.replace(|c: char| c != '0', "0"))).expect("write");
        let source = case.snapshotter.prepare("d", &chain).expect("prepare");
        let failure = View::try_new(&source, &Default::default()).err().expect("another digest");
        let words = failure.to_string();
        assert!(words.contains("fs-verity") && words.contains("pull the image again"), "{words}");
    });
}

#[test]
fn a_bound_that_cannot_be_kept_is_refused() {
    let case = Case::new("native");
    let error = case.snapshotter.prepare_with("c", &[], &bounded(MIB)).expect_err("native");
    assert_eq!(error.kind(), types::ErrorKind::Unimplemented);
    let case = Case::new("overlayfs");
    let error = case.snapshotter.prepare_with("c", &[], &bounded(5)).expect_err("5 bytes");
    assert_eq!(error.kind(), types::ErrorKind::InvalidArgument);
    assert!(case.snapshotter.containers().expect("containers").is_empty());
    assert_eq!(case.count("ingest"), 0);
}
