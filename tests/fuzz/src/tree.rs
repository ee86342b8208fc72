//! A folder to unpack into with something beside it, and what must hold of both afterwards.
//!
//! It lies in memory where that is possible: hundreds of trees a second.

use layers::{UnpackLimits, Unpacked, WhiteoutMode};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const SENTINEL: &[u8] = b"nobody may touch this";

/// The folder.
pub struct Ground {
    top: tempfile::TempDir,
}

impl Ground {
    pub fn new() -> Self {
        let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/var/tmp" };
        let top = tempfile::Builder::new().prefix("corten-fuzz-").tempdir_in(place).expect("a folder");
        let ground = Self { top };
        for folder in ["root", "outside", "lower"] {
            std::fs::create_dir(ground.path(folder)).expect("a folder");
        }
        std::fs::write(ground.path("outside/sentinel"), SENTINEL).expect("a file");
        std::fs::write(ground.path("lower/a"), b"lower").expect("a file");
        std::fs::create_dir_all(ground.path("lower/b/c")).expect("a folder");
        std::fs::hard_link(ground.path("lower/a"), ground.path("lower/b/l")).expect("a link");
        ground
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    pub fn open(&self, name: &str) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(self.path(name), flags, Mode::empty()).expect("open")
    }

    /// Unpacks, settles, and gives what came of it.
    pub fn unpack(&self, bytes: &[u8], mode: WhiteoutMode, limits: &UnpackLimits) -> types::Result<Unpacked> {
        let root = self.open("root");
        let unpacked = layers::unpack(bytes, layers::detect(bytes), root.as_fd(), mode, limits);
        self.check_outside();
        if let Ok(unpacked) = &unpacked {
            if mode == WhiteoutMode::Overlay {
                self.check_root(unpacked);
            }
            let settled = layers::settle(root.as_fd(), &[self.open("lower")], &unpacked.pending);
            if settled.is_ok() {
                layers::settle(root.as_fd(), &[self.open("lower")], &unpacked.pending).expect("again");
            }
            self.check_outside();
        }
        unpacked
    }

    /// Nothing was made or changed beside the root.
    fn check_outside(&self) {
        let list = |name: &str| -> BTreeSet<_> {
            let entries = std::fs::read_dir(self.path(name)).expect("a list");
            entries.map(|entry| entry.expect("an entry").file_name()).collect()
        };
        assert_eq!(list(""), ["lower", "outside", "root"].map(Into::into).into());
        assert_eq!(list("outside"), ["sentinel".into()].into());
        assert_eq!(list("lower"), ["a", "b"].map(Into::into).into());
        assert_eq!(list("lower/b"), ["c", "l"].map(Into::into).into());
        for (name, links, content) in [("outside/sentinel", 1, SENTINEL), ("lower/a", 2, b"lower")] {
            let stat = std::fs::symlink_metadata(self.path(name)).expect("it is there");
            assert!(
                stat.is_file() && stat.nlink() == links && stat.uid() == 0 && stat.mode() & 0o7000 == 0,
                "{name}"
            );
            assert_eq!(std::fs::read(self.path(name)).expect("a file"), content);
        }
    }

    /// What an unpacked layer may be.
    fn check_root(&self, unpacked: &Unpacked) {
        let root = self.path("root");
        let hidden: BTreeSet<PathBuf> = unpacked.pending.whiteouts.iter().cloned().collect();
        let (mut todo, mut inodes) = (vec![root.clone()], BTreeSet::new());
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir).expect("a list") {
                let path = entry.expect("an entry").path();
                let below = path.strip_prefix(&root).expect("below the root").to_owned();
                let stat = std::fs::symlink_metadata(&path).expect("it is there");
                let name = path.file_name().expect("a name").as_bytes();
                assert!(!name.starts_with(b".wh."), "a whiteout's name stayed: {below:?}");
                let whiteout =
                    FileType::from_raw_mode(stat.mode()) == FileType::CharacterDevice && stat.rdev() == 0;
                if whiteout {
                    assert!(hidden.contains(&below), "a whiteout that no whiteout asked for: {below:?}");
                } else {
                    inodes.insert(stat.ino());
                }
                attributes(&path, &below);
                if stat.is_dir() {
                    todo.push(path);
                }
            }
        }
        assert!(inodes.len() as u64 <= unpacked.inodes, "more inodes than were counted");
    }
}

/// Only what a layer may set, and the mark of an opaque directory.
fn attributes(path: &Path, below: &Path) {
    let mut list = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, list.as_mut_slice()) else { return };
    for name in list[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let allowed = name == b"trusted.overlay.opaque" && path.is_dir()
            || name == b"security.capability"
            || name.starts_with(b"user.");
        assert!(allowed, "{below:?} has {}", name.escape_ascii());
        if name == b"trusted.overlay.opaque" {
            let mut value = [0; 8];
            assert_eq!(rustix::fs::lgetxattr(path, name, &mut value), Ok(1));
            assert_eq!(value[0], b'y');
        }
    }
}
