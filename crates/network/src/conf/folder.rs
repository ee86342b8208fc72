//! The folder of network configurations: the first valid file by name wins, as in libcni and
//! containerd. It is looked at anew whenever somebody asks; the files are read again only when a
//! name, an inode, a size or a time changed, so that a file that is created, renamed or linked into
//! place is seen at once, without a watch that could be lost.

use super::NetworkList;
use crate::files;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// More configuration files than any node has.
const MOST_FILES: usize = 1024;

/// What the folder says now.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The network in use, and its file.
    pub network: Option<(PathBuf, Arc<NetworkList>)>,
    /// Files that come before it by name, and why they cannot be used.
    pub problems: Vec<(PathBuf, String)>,
}

impl Loaded {
    /// The problems in one sentence; empty where there are none.
    pub fn explain(&self) -> String {
        let each = self.problems.iter().take(5).map(|(file, reason)| format!("{}: {reason}", file.display()));
        each.collect::<Vec<_>>().join("; ")
    }
}

/// Name, device, inode, size, and times of modification and change.
type Signature = Vec<(String, u64, u64, i64, (i64, i64), (i64, i64))>;

/// A folder of network configurations.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    limit: u64,
    seen: Mutex<Option<(Signature, Arc<Loaded>)>>,
}

impl Folder {
    /// Nothing is read yet. Files of more than `limit` bytes are refused.
    pub fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, limit, seen: Mutex::new(None) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the folder says now.
    pub fn load(&self) -> Arc<Loaded> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = match self.signature() {
            Ok(signature) => signature,
            Err(errno) => {
                *seen = None;
                return Arc::new(self.unreadable(errno));
            }
        };
        if let Some((known, loaded)) = &*seen
            && *known == signature
        {
            return loaded.clone();
        }
        let loaded = Arc::new(self.read(&signature));
        match &loaded.network {
            Some((file, list)) => {
                tracing::info!(network = %list.name, file = %file.display(), "network configuration in use")
            }
            None if loaded.problems.is_empty() => {
                tracing::info!(folder = %self.path.display(), "no network configuration")
            }
            None => {
                tracing::warn!(folder = %self.path.display(), problems = %loaded.explain(), "no usable network configuration")
            }
        }
        *seen = Some((signature, loaded.clone()));
        loaded
    }

    fn unreadable(&self, errno: Errno) -> Loaded {
        let problems = match errno {
            Errno::NOENT => Vec::new(),
            errno => vec![(self.path.clone(), format!("the folder cannot be read: {errno}"))],
        };
        Loaded { network: None, problems }
    }

    fn directory(&self) -> Result<std::os::fd::OwnedFd, Errno> {
        rustix::fs::open(&self.path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// The configuration files by name. Links are followed: configuration folders are often made
    /// of links that are switched all at once.
    fn signature(&self) -> Result<Signature, Errno> {
        let directory = self.directory()?;
        let mut names = files::names(&directory)?;
        names.retain(|name| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end)));
        names.sort();
        names.truncate(MOST_FILES);
        let mut signature = Signature::new();
        for name in names {
            match rustix::fs::statat(&directory, &name, AtFlags::empty()) {
                Ok(s) if FileType::from_raw_mode(s.st_mode) == FileType::RegularFile => {
                    let modified = (s.st_mtime, s.st_mtime_nsec as i64);
                    let changed = (s.st_ctime, s.st_ctime_nsec as i64);
                    signature.push((name, s.st_dev, s.st_ino, s.st_size, modified, changed));
                }
                Ok(_) | Err(_) => {} // a folder, or a link to nothing: no configuration
            }
        }
        Ok(signature)
    }

    fn read(&self, signature: &Signature) -> Loaded {
        let mut loaded = Loaded::default();
        for (name, ..) in signature {
            let file = self.path.join(name);
            match self.read_one(name) {
                Ok(list) => {
                    loaded.network = Some((file, Arc::new(list)));
                    break;
                }
                Err(reason) => loaded.problems.push((file, reason)),
            }
        }
        loaded
    }

    fn read_one(&self, name: &str) -> Result<NetworkList, String> {
        let unreadable = |errno: Errno| match errno {
            Errno::FBIG => format!("it is larger than {} bytes", self.limit),
            errno => format!("it cannot be read: {errno}"),
        };
        let directory = self.directory().map_err(unreadable)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(unreadable)?;
        let content = files::read_all(fd, self.limit).map_err(unreadable)?;
        if name.ends_with(".conflist") {
            NetworkList::parse_list(&content).map_err(|e| e.0)
        } else {
            NetworkList::parse_single(&content).map_err(|e| e.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const GOOD: &str = r#"{"name":"good","cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}"#;

    fn name(folder: &Folder) -> Option<String> {
        folder.load().network.as_ref().map(|(_, list)| list.name.clone())
    }

    #[test]
    fn the_first_valid_file_by_name_wins_and_the_others_are_explained() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path().to_owned(), 1 << 20);
        assert!(name(&folder).is_none() && folder.load().explain().is_empty());
        fs::write(dir.path().join("00-bad.conflist"), "{").expect("write");
        fs::write(dir.path().join("05-notes.txt"), "hello").expect("write");
        fs::write(dir.path().join("20-good.conflist"), GOOD).expect("write");
        fs::write(dir.path().join("30-late.conf"), r#"{"name":"late","cniVersion":"1.0.0","type":"x"}"#)
            .expect("write");
        assert_eq!(name(&folder).as_deref(), Some("good"));
        assert!(folder.load().explain().contains("00-bad.conflist: it is not JSON"));
        fs::remove_file(dir.path().join("20-good.conflist")).expect("remove");
        assert_eq!(name(&folder).as_deref(), Some("late"));
    }

    #[test]
    fn a_file_that_is_renamed_or_linked_into_place_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path().join("net.d"), 1 << 20);
        assert!(name(&folder).is_none(), "the folder is not there yet");
        fs::create_dir(dir.path().join("net.d")).expect("mkdir");
        fs::write(dir.path().join("net.d/10-x.conflist.tmp"), GOOD).expect("write");
        assert!(name(&folder).is_none());
        fs::rename(dir.path().join("net.d/10-x.conflist.tmp"), dir.path().join("net.d/10-x.conflist"))
            .expect("rename");
        assert_eq!(name(&folder).as_deref(), Some("good"));
        fs::write(dir.path().join("other"), GOOD.replace("good", "best")).expect("write");
        std::os::unix::fs::symlink("../other", dir.path().join("net.d/00-link.conflist")).expect("link");
        assert_eq!(name(&folder).as_deref(), Some("best"));
        fs::write(dir.path().join("other2"), GOOD.replace("good", "next")).expect("write");
        fs::rename(dir.path().join("other2"), dir.path().join("other")).expect("rename");
        assert_eq!(name(&folder).as_deref(), Some("next"), "the link's target was exchanged");
    }

    #[test]
    fn a_huge_file_a_fifo_and_a_dangling_link_do_no_harm() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path().to_owned(), 1000);
        fs::write(dir.path().join("00.conflist"), vec![b' '; 1001]).expect("write");
        std::os::unix::fs::symlink("nowhere", dir.path().join("01.conflist")).expect("link");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("02.conf"), FileType::Fifo, mode, 0)
            .expect("fifo");
        fs::write(dir.path().join("10.conflist"), GOOD).expect("write");
        assert_eq!(name(&folder).as_deref(), Some("good"));
        assert!(folder.load().explain().contains("larger than 1000 bytes"));
    }
}
