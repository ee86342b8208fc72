//! The command lines, and what is made of answers, with a program that stands in for `zfs`: it writes down what it is asked
//! and answers as the test says. No real ZFS is met here.

use super::*;
use crate::Snapshotter;
use std::os::unix::fs::PermissionsExt;

struct Fake {
    folder: tempfile::TempDir,
}

/// Answers of a `zfs` that has the data set `tank/corten`.
const GOOD: &str = r#"case "$1 $5" in
"list name,type") printf 'tank/corten\tfilesystem\n' ;;
"list name,used") printf '%s\t12288\n' "$6" ;;
esac"#;

impl Fake {
    fn new(script: &str) -> Self {
        let fake = Self { folder: tempfile::tempdir().expect("a folder") };
        fake.answer(script);
        fake
    }

    /// Gives it other answers.
    fn answer(&self, script: &str) {
        let log = self.folder.path().join("log");
        let text = format!("#!/bin/sh\necho \"$#: $*\" >> '{}'\n{script}\n", log.display());
        // A program that is being written cannot be run, and a test beside this one may just be forking.
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).expect("write");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        std::fs::rename(&new, self.folder.path().join("program")).expect("rename");
    }

    fn config(&self) -> ZfsConfig {
        ZfsConfig { dataset: "tank/corten".into(), program: self.folder.path().join("program") }
    }

    fn open(&self) -> Result<Zfs> {
        loop {
            match Zfs::open(self.folder.path(), &self.config()) {
                // ETXTBSY: a child of another test has the program open for writing until it executes its own.
                Err(error) if error.chain().contains("Text file busy") => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    /// The calls since the last time, each with the number of its arguments.
    fn calls(&self) -> Vec<String> {
        let path = self.folder.path().join("log");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

fn chain(number: u8) -> ChainId {
    ChainId::sha256(&[number; 32])
}

fn unpacked() -> layers::Unpacked {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = std::fs::File::open(folder.path()).expect("open");
    let mode = layers::WhiteoutMode::Apply;
    let limits = layers::UnpackLimits::default();
    layers::unpack(&[0_u8; 1024][..], layers::Compression::None, dir.as_fd(), mode, &limits).expect("unpack")
}

/// A draft as `begin_layer` makes it, but for the mount.
fn draft(zfs: &Zfs, number: u8, parent: Option<&ChainId>) -> LayerDraft {
    zfs.draft_of(chain(number).hex(), parent).expect("a draft").0
}

#[test]
fn layers_are_data_sets_with_a_snapshot_and_containers_are_clones() {
    let fake = Fake::new(GOOD);
    let zfs = fake.open().expect("open");
    assert_eq!(fake.calls(), ["6: list -H -p -o name,type tank/corten"]);
    zfs.commit_layer(draft(&zfs, 1, None), &chain(1), &[], &unpacked()).expect("commit");
    let low = zfs.layer(&chain(1)).expect("its data set");
    assert!(low.starts_with("tank/corten/") && low.len() <= 200, "{low}");
    assert_eq!(
        fake.calls(),
        [
            format!("4: create -o mountpoint=legacy {low}"),
            format!("2: snapshot {low}@layer"),
            format!("6: list -H -p -o name,used {low}"),
        ]
    );
    zfs.commit_layer(draft(&zfs, 2, Some(&chain(1))), &chain(2), &[chain(1)], &unpacked()).expect("commit");
    let high = zfs.layer(&chain(2)).expect("its data set");
    assert_eq!(fake.calls()[0], format!("5: clone -o mountpoint=legacy {low}@layer {high}"));
    assert_eq!(zfs.layer_usage(&chain(2)).expect("usage"), Usage { bytes: 12288, inodes: 1 });
    let root = zfs.prepare("c", &[chain(2), chain(1)]).expect("prepare");
    let own = zfs.container("c").expect("its data set");
    assert_eq!(fake.calls(), [format!("5: clone -o mountpoint=legacy {high}@layer {own}")]);
    let RootSource::Filesystem(disk) = &root else { panic!("{root:?}") };
    assert_eq!(
        (disk.kind.as_str(), disk.source.as_str(), disk.directory.as_str()),
        ("zfs", own.as_str(), "")
    );
    assert!(disk.options.is_empty() && disk.place.ends_with("zfs/containers/c/fs"), "{disk:?}");
    assert_eq!(zfs.prepare("c", &[chain(2), chain(1)]).expect("again"), root);
    assert!(fake.calls().is_empty(), "what is there is kept");
    let RootSource::Filesystem(view) = zfs.view(&[chain(2)]).expect("view") else { panic!("a directory") };
    assert_eq!((view.source, view.options), (format!("{high}@layer"), vec!["ro".to_owned()]));
    assert_eq!(zfs.usage("c").expect("usage").bytes, 12288);
    fake.calls();
    zfs.remove("c").expect("remove");
    zfs.remove("c").expect("gone is fine");
    zfs.remove_layer(&chain(2)).expect("remove");
    assert_eq!(fake.calls(), [format!("3: destroy -r {own}"), format!("3: destroy -r {high}")]);
    assert_eq!(
        (zfs.containers().expect("containers").len(), zfs.layers().expect("layers")),
        (0, vec![chain(1)])
    );
}

#[test]
fn what_was_begun_is_destroyed_when_it_is_given_up_and_after_a_crash() {
    let fake = Fake::new(GOOD);
    let zfs = fake.open().expect("open");
    fake.calls();
    // There is no ZFS here: its mount fails.
    zfs.begin_layer(&chain(1), None).expect_err("no mount");
    let calls = fake.calls();
    let made = calls[0].strip_prefix("4: create -o mountpoint=legacy ").expect("created");
    assert_eq!(calls[1..], [format!("3: destroy -r {made}")]);
    std::mem::forget(draft(&zfs, 2, None));
    fake.calls();
    let zfs = fake.open().expect("open again");
    let calls = fake.calls();
    assert!(calls.len() == 2 && calls[1].starts_with("3: destroy -r tank/corten/"), "{calls:?}");
    assert_eq!(std::fs::read_dir(zfs.layout.path().join("ingest")).expect("ingest").count(), 0);
}

#[test]
fn a_layer_with_clones_is_destroyed_after_them() {
    let fake = Fake::new(GOOD);
    let zfs = fake.open().expect("open");
    zfs.commit_layer(draft(&zfs, 1, None), &chain(1), &[], &unpacked()).expect("commit");
    let low = zfs.layer(&chain(1)).expect("its data set");
    fake.answer("echo \"cannot destroy '$3': filesystem has dependent clones\" >&2; exit 1");
    zfs.remove_layer(&chain(1)).expect("out of use");
    assert!(!zfs.has_layer(&chain(1)) && zfs.sweep().is_err());
    fake.answer("echo \"cannot open '$3': dataset does not exist\" >&2; exit 1");
    fake.calls();
    zfs.sweep().expect("gone is fine");
    assert_eq!(fake.calls(), [format!("3: destroy -r {low}")]);
    assert_eq!(std::fs::read_dir(zfs.layout.path().join("trash")).expect("trash").count(), 0);
}

#[test]
fn nothing_outside_of_the_data_set_is_destroyed() {
    let fake = Fake::new(GOOD);
    let zfs = fake.open().expect("open");
    fake.calls();
    for name in [
        "tank",
        "tank/corten",
        "tank/corten/",
        "tank/corten2/a",
        "tank/corten/a/b",
        "tank/corten/a@b",
        "-r",
        "",
    ] {
        assert_eq!(zfs.tool.destroy(name), Err(Errno::INVAL), "{name:?}");
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn what_zfs_says_is_checked_and_told() {
    let bad = [
        ("echo \"cannot open 'tank/corten': dataset does not exist\" >&2; exit 1", "does not exist"),
        ("printf 'tank/corten\\tvolume\\n'", "is no file system"),
        ("printf 'tank/other\\tfilesystem\\n'", "is no file system"),
        ("echo one two", "has not 2 fields"),
        ("true", "is no file system"),
    ];
    for (script, part) in bad {
        let error = Fake::new(script).open().err().expect("refused");
        assert!(error.chain().contains(part), "{script}: {}", error.chain());
    }
    let fake = Fake::new(GOOD);
    let zfs = fake.open().expect("open");
    fake.answer("echo \"cannot create 'x': out of space\" >&2; exit 1");
    let error = zfs.prepare("c", &[]).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(error.message().contains("out of space"), "{error}");
    fake.answer("printf '%s\\t-\\n' \"$6\"");
    assert!(zfs.tool.used("tank/corten/a").expect_err("no number").message().contains("bytes are used"));
    let missing = ZfsConfig { program: "/no/such/zfs".into(), ..fake.config() };
    let error = Zfs::open(fake.folder.path(), &missing).err().expect("no program");
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().contains("install ZFS's tools"), "{error}");
}

#[test]
fn names_that_zfs_could_take_for_something_else_are_refused() {
    for name in
        ["", "/tank", "tank/", "tank//a", "tank/..", "-o", "tank@a", "tank/a b", "tank/a;b", &"x".repeat(91)]
    {
        let config = ZfsConfig { dataset: name.to_owned(), ..ZfsConfig::default() };
        assert_eq!(config.check().expect_err(name).kind(), ErrorKind::InvalidArgument);
    }
    ZfsConfig { dataset: "tank/k8s.io/corten-1:a_b".into(), ..ZfsConfig::default() }.check().expect("plain");
}
