//! The directories that all snapshotters have, what is in them, and how it goes.
//!
//! It works by descriptor and single names only. It knows nothing of whiteouts, parents or mounts.

mod dirs;
mod draft;
mod meta;

pub(crate) use dirs::{ROOT_MODE, chain_of, check_id, failed, make_dir, missing_layer, names, open_dir};
pub(crate) use draft::Draft;
pub use draft::LayerDraft;
pub(crate) use meta::ImageMeta;

use crate::ChainId;
use crate::remove::Remove;
use crate::usage::{Usage, measure};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use types::{Error, ErrorKind, Result};

/// The open directories of one snapshotter.
#[derive(Debug)]
pub struct Layout {
    /// Absolute, without links.
    path: PathBuf,
    pub(crate) layers: OwnedFd,
    pub(crate) containers: OwnedFd,
    pub(crate) ingest: OwnedFd,
    pub(crate) trash: OwnedFd,
    /// Has nothing in it, ever: the second layer of an overlay that only has one.
    pub(crate) empty: OwnedFd,
    /// Damaged layers that were replaced while containers ran on them.
    pub(crate) replaced: OwnedFd,
    /// Folder and name of what could not be removed yet.
    pub(crate) left: Mutex<Vec<(&'static str, String)>>,
    /// How what is in them is removed.
    pub(crate) remove: Arc<dyn Remove>,
    serial: AtomicU64,
}

impl Layout {
    /// Opens or makes `<root>/<name>`, which has directories in it, and sweeps it.
    pub fn open(root: &Path, name: &str) -> Result<Arc<Self>> {
        Self::open_with(root, name, Arc::new(layers::tree::remove))
    }

    /// As [`Layout::open`], where what is in it is removed in a way of its own.
    pub(crate) fn open_with(root: &Path, name: &str, remove: Arc<dyn Remove>) -> Result<Arc<Self>> {
        use std::os::unix::fs::DirBuilderExt;
        let path = root.join(name);
        let io = |error: std::io::Error| {
            Error::with_source(
                ErrorKind::Internal,
                format!("cannot make the directory {}", path.display()),
                error,
            )
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io)?;
        let path = path.canonicalize().map_err(io)?;
        if path.to_str().is_none() {
            return Err(Error::invalid(format!(
                "the path {} is not UTF-8; choose another root",
                path.display()
            )));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed("open", &path, e))?;
        let part = |name: &str| {
            let path = path.join(name);
            match make_dir(&top, name, 0o700) {
                Err(Errno::EXIST) => {
                    let dir = open_dir(&top, name).map_err(|e| failed("open", &path, e))?;
                    rustix::fs::fchmod(&dir, Mode::RWXU).map_err(|e| failed("set the mode of", &path, e))?;
                    Ok(dir)
                }
                other => other.map_err(|e| failed("make the directory", &path, e)),
            }
        };
        // Names never repeat, not even those of an earlier process that could not be swept.
        let start = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let start = start
            .tv_sec
            .cast_unsigned()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(start.tv_nsec.cast_unsigned());
        let layout = Self {
            layers: part("layers")?,
            containers: part("containers")?,
            ingest: part("ingest")?,
            trash: part("trash")?,
            empty: part("empty")?,
            replaced: part("replaced")?,
            left: Mutex::default(),
            remove,
            serial: AtomicU64::new(start),
            path,
        };
        // On ext4 each directory that is made there gets a part of the disk of its own (ext4_alloc_inode, "TOPDIR"; the
        // mark of chattr +T): layers that are unpacked side by side do not meet in the same block groups.
        // Other file systems do not know it, which is no loss.
        if let Ok(flags) = rustix::fs::ioctl_getflags(&layout.ingest) {
            let _ = rustix::fs::ioctl_setflags(&layout.ingest, flags | rustix::fs::IFlags::TOPDIR);
        }
        for (dir, name) in [(&layout.ingest, "ingest"), (&layout.trash, "trash")] {
            for left in names(dir, &layout.path.join(name))? {
                if let Err(error) = layout.remove.remove(dir.as_fd(), OsStr::new(&left)) {
                    let error = Error::from(error);
                    tracing::warn!(
                        dir = name,
                        left,
                        error = error.chain(),
                        "cannot sweep what an earlier run left now"
                    );
                    layout.remember(name, left);
                }
            }
        }
        Ok(Arc::new(layout))
    }

    /// `<root>/<name>`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory that has nothing in it.
    pub fn empty_path(&self) -> PathBuf {
        self.path.join("empty")
    }

    /// Where a layer's tree lies.
    pub fn layer_path(&self, chain: &ChainId) -> PathBuf {
        self.path.join("layers").join(chain.hex()).join("fs")
    }

    /// Where a part (`fs`, `work`) of a container's layer lies.
    pub fn container_path(&self, id: &str, part: &str) -> PathBuf {
        self.path.join("containers").join(id).join(part)
    }

    /// Takes note of what could not be removed, for [`Layout::sweep`].
    pub(crate) fn remember(&self, folder: &'static str, name: String) {
        self.left.lock().unwrap_or_else(|e| e.into_inner()).push((folder, name));
    }

    pub(crate) fn unique(&self, name: &str) -> String {
        format!("{:x}-{name}", self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a layer has its place.
    pub fn has_layer(&self, chain: &ChainId) -> bool {
        rustix::fs::statat(&self.layers, chain.hex(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens a layer's tree.
    pub fn open_layer(&self, chain: &ChainId) -> Result<OwnedFd> {
        let opened = open_dir(&self.layers, chain.hex()).and_then(|dir| open_dir(dir, "fs"));
        opened.map_err(|error| match error {
            Errno::NOENT => missing_layer(chain),
            error => failed("open the layer", self.layer_path(chain), error),
        })
    }

    /// Whether a container has a layer.
    pub fn has_container(&self, id: &str) -> Result<bool> {
        check_id(id)?;
        match rustix::fs::statat(&self.containers, id, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(failed("look at", self.container_path(id, ""), e)),
        }
    }

    /// Moves a layer away and deletes it.
    pub fn remove_layer(&self, chain: &ChainId) -> Result<()> {
        self.discard(&self.layers, chain.hex())
    }

    /// Moves a container's layer away and deletes it.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        check_id(id)?;
        self.discard(&self.containers, id)
    }

    pub(crate) fn discard(&self, from: &OwnedFd, name: &str) -> Result<()> {
        let trash = self.unique(name);
        match rustix::fs::renameat(from, name, &self.trash, &trash) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(failed("move to the trash:", name, e)),
        }
        self.remove.remove(self.trash.as_fd(), OsStr::new(&trash)).map_err(|error| {
            let rest = self.path.join("trash").join(&trash);
            self.remember("trash", trash);
            Error::from(error).context(format!(
                "{name} is out of use, but not all of it could be deleted yet; the rest lies in {}",
                rest.display()
            ))
        })
    }

    /// The layers that have their place.
    pub fn layers(&self) -> Result<Vec<ChainId>> {
        let names = names(&self.layers, &self.path.join("layers"))?;
        // A foreign name there is nobody's layer.
        Ok(names.iter().filter_map(|hex| chain_of(hex)).collect())
    }

    /// The containers that have a layer.
    pub fn containers(&self) -> Result<Vec<String>> {
        let names = names(&self.containers, &self.path.join("containers"))?;
        Ok(names.into_iter().filter(|id| check_id(id).is_ok()).collect())
    }

    /// Measures a container's layer now.
    pub fn container_usage(&self, id: &str) -> Result<Usage> {
        check_id(id)?;
        let opened = open_dir(&self.containers, id).and_then(|dir| open_dir(dir, "fs"));
        match opened {
            Ok(dir) => measure(dir.as_fd()),
            Err(Errno::NOENT) => Err(Error::not_found(format!("the container {id} has no writable layer"))),
            Err(e) => Err(failed("open", self.container_path(id, "fs"), e)),
        }
    }
}
