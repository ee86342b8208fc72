//! A root to unpack into, with a sentinel beside it, and a listing of what came of it.

use layers::{Compression, UnpackLimits, Unpacked, WhiteoutMode};
use rustix::fs::{FileType, OFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What one path of a tree is, as tests compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, i64),
    pub rdev: u64,
    /// Content of a file, target of a link.
    pub content: Vec<u8>,
}

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

pub fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

pub fn node(path: &Path) -> Node {
    let stat = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let content = if stat.is_file() {
        std::fs::read(path).expect("read")
    } else if stat.is_symlink() {
        std::fs::read_link(path).expect("readlink").into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    Node {
        mode: stat.mode(),
        uid: stat.uid(),
        gid: stat.gid(),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        rdev: stat.rdev(),
        content,
    }
}

fn list(dir: &Path, prefix: &Path, found: &mut BTreeMap<PathBuf, Node>) {
    for entry in std::fs::read_dir(dir).expect("read_dir") {
        let entry = entry.expect("entry");
        let path = prefix.join(entry.file_name());
        let node = node(&entry.path());
        let is_dir = entry.file_type().expect("type").is_dir();
        found.insert(path.clone(), node);
        if is_dir {
            list(&entry.path(), &path, found);
        }
    }
}

/// Everything that can be told of a path: also its attributes, and the first name of what is one with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    pub node: Node,
    pub same_as: Option<PathBuf>,
    pub attributes: BTreeMap<String, Vec<u8>>,
}

/// A whole tree, so that it can be compared with another. Content is there by its hash, and times of directories as
/// they are.
pub fn full(root: &Path) -> BTreeMap<PathBuf, Full> {
    let mut nodes = BTreeMap::new();
    list(root, Path::new(""), &mut nodes);
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let one = |(path, mut node): (PathBuf, Node)| {
        let place = root.join(&path);
        let stat = place.symlink_metadata().expect("stat");
        let same_as = match stat.nlink() {
            links if links > 1 && !stat.is_dir() => {
                inodes.insert(stat.ino(), path.clone()).inspect(|first| {
                    inodes.insert(stat.ino(), first.clone());
                })
            }
            _ => None,
        };
        if stat.is_file() && node.content.len() > 64 {
            use sha2::Digest;
            let length = node.content.len();
            node.content = format!("{length} {:x?}", sha2::Sha256::digest(&node.content)).into_bytes();
        }
        let mut names = vec![0; 64 << 10];
        let length = rustix::fs::llistxattr(&place, names.as_mut_slice()).unwrap_or(0);
        let attributes = names[..length]
            .split(|&b| b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .map(|name| (name.clone(), xattr(&place, &name).unwrap_or_default()))
            .collect();
        (path, Full { node, same_as, attributes })
    };
    nodes.into_iter().map(one).collect()
}
