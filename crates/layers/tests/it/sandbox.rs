//! A root to unpack into, with a sentinel beside it, and a listing of what came of it.

use crate::look::list;
pub use crate::look::{Node, full, node, xattr};
use layers::{Compression, UnpackLimits, Unpacked, WhiteoutMode};
use rustix::fs::{FileType, OFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub struct Sandbox {
    top: tempfile::TempDir,
}

const SENTINEL: &[u8] = b"nobody may touch this";

impl Sandbox {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir_in("/var/tmp").expect("a directory"))
    }

    /// For crowds of files, which cost a disk minutes.
    pub fn in_memory() -> Option<Self> {
        tempfile::Builder::new().prefix("corten-layers-").tempdir_in("/dev/shm").ok().map(Self::at)
    }

    fn at(top: tempfile::TempDir) -> Self {
        std::fs::create_dir(top.path().join("root")).expect("root");
        std::fs::create_dir(top.path().join("outside")).expect("outside");
        std::fs::write(top.path().join("outside/sentinel"), SENTINEL).expect("sentinel");
        Self { top }
    }

    pub fn root(&self) -> PathBuf {
        self.top.path().join("root")
    }

    pub fn outside(&self) -> PathBuf {
        self.top.path().join("outside")
    }

    pub fn fd(&self) -> OwnedFd {
        open(&self.root())
    }

    pub fn unpack_as(
        &self,
        bytes: &[u8],
        compression: Compression,
        mode: WhiteoutMode,
        limits: &UnpackLimits,
    ) -> types::Result<Unpacked> {
        let result = layers::unpack(bytes, compression, self.fd().as_fd(), mode, limits);
        self.assert_untouched();
        result
    }

    pub fn unpack(&self, bytes: &[u8]) -> types::Result<Unpacked> {
        self.unpack_as(bytes, Compression::None, WhiteoutMode::Overlay, &UnpackLimits::default())
    }

    pub fn apply(&self, bytes: &[u8]) -> types::Result<Unpacked> {
        self.unpack_as(bytes, Compression::None, WhiteoutMode::Apply, &UnpackLimits::default())
    }

    /// Nothing was written beside the root.
    pub fn assert_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.outside())
            .expect("outside")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(names, ["sentinel"]);
        assert_eq!(std::fs::read(self.outside().join("sentinel")).expect("sentinel"), SENTINEL);
        let stat = std::fs::metadata(self.outside().join("sentinel")).expect("sentinel");
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.nlink()), (0o644, 0, 1));
        assert_eq!(std::fs::read_dir(self.top.path()).expect("top").count(), 2);
    }

    pub fn node(&self, path: &str) -> Node {
        node(&self.root().join(path))
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn has(&self, path: &str) -> bool {
        self.root().join(path).symlink_metadata().is_ok()
    }

    pub fn is_whiteout(&self, path: &str) -> bool {
        let node = self.node(path);
        FileType::from_raw_mode(node.mode) == FileType::CharacterDevice && node.rdev == 0
    }

    pub fn is_opaque(&self, path: &str) -> bool {
        xattr(&self.root().join(path), "trusted.overlay.opaque").as_deref() == Some(b"y")
    }

    pub fn tree(&self) -> BTreeMap<PathBuf, Node> {
        let mut found = BTreeMap::new();
        list(&self.root(), Path::new(""), &mut found);
        found
    }
}

pub fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).expect("open")
}
