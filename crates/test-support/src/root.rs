//! A temporary place for one daemon: a root, a state and a config directory on a real disk.
//!
//! It lives in `/var/tmp` because `/tmp` may be a tmpfs, on which overlay mounts and `fsync` behave
//! differently from a node's disk. It never follows a link out of itself when it is taken down.

use crate::{Result, Tried, kernel};
use std::path::{Path, PathBuf};

/// Removed at the end of its life, after what is still mounted below it was detached. With
/// `CORTEN_TEST_KEEP` in the environment its files stay, to be looked at.
#[derive(Debug)]
pub struct TempRoot {
    dir: tempfile::TempDir,
}

impl TempRoot {
    /// A new, empty place below `/var/tmp`, or below `CORTEN_TEST_DIR` where that is set.
    ///
    /// The path is short, so that a socket below it stays under the 107 bytes of unix(7).
    pub fn new() -> Result<Self> {
        let base =
            std::env::var_os("CORTEN_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let dir = tempfile::Builder::new()
            .prefix("ct-")
            .rand_bytes(6)
            .tempdir_in(&base)
            .tried(format_args!("make a temporary directory in {}", base.display()))?;
        let mut made = Self { dir };
        made.dir.disable_cleanup(std::env::var_os("CORTEN_TEST_KEEP").is_some());
        for part in [made.root(), made.state(), made.config()] {
            std::fs::create_dir(&part).tried(format_args!("make {}", part.display()))?;
        }
        Ok(made)
    }

    /// The whole place.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What outlives a reboot: images, snapshots.
    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// What does not: sockets, pods.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Configuration files.
    pub fn config(&self) -> PathBuf {
        self.path().join("config")
    }
}

impl Drop for TempRoot {
    fn drop(&mut self) {
        // A failed test leaves mounts; removing through one would delete what is mounted.
        if let Ok(mounts) = kernel::mounts::below(&[self.path().to_owned()]) {
            for mount in mounts.iter().rev() {
                let _ = rustix::mount::unmount(&mount.target, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_gone_after_its_life() {
        let root = TempRoot::new().expect("a temporary root");
        let path = root.path().to_owned();
        assert!(root.root().is_dir() && root.state().is_dir() && root.config().is_dir());
        std::fs::write(root.state().join("file"), b"x").expect("writable");
        drop(root);
        assert!(!path.exists());
    }
}
