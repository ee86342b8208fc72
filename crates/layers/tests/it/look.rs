//! A tree as tests compare it with another: everything that can be told of each of its paths.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
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

pub fn list(dir: &Path, prefix: &Path, found: &mut BTreeMap<PathBuf, Node>) {
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
            let mut hasher = std::hash::DefaultHasher::new();
            node.content.hash(&mut hasher);
            node.content = format!("{} {:x}", node.content.len(), hasher.finish()).into_bytes();
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
