//! Trees to make images of.

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};

pub struct Tree(pub tempfile::TempDir);

impl Tree {
    pub fn new() -> Self {
        Self(tempfile::tempdir_in("/var/tmp").expect("a folder"))
    }

    pub fn top(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.top().join(name)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("write");
        path
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).expect("mkdir");
        path
    }

    pub fn node(&self, name: &str, kind: FileType, major: u32, minor: u32) -> PathBuf {
        let path = self.path(name);
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), device).expect("mknod");
        path
    }
}

pub fn owner(path: &Path, uid: u32, gid: u32, mode: u32) {
    lchown(path, Some(uid), Some(gid)).expect("chown");
    if !path.is_symlink() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }
}

pub fn xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|e| panic!("{name}: {e}"));
}

pub fn time(path: &Path, seconds: i64, nanoseconds: i64) {
    let one = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let both = rustix::fs::Timestamps { last_access: one, last_modification: one };
    rustix::fs::utimensat(CWD, path, &both, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
}
