//! Layers and containers as subvolumes of a btrfs: a layer is a snapshot of the one below with its own entries
//! applied, a container is a snapshot of its topmost layer. Nothing is copied, and nothing but views is mounted.
//!
//! Layers are read-only subvolumes. A container may make subvolumes of its own; they go with it.

use crate::ChainId;
use crate::layout::{Draft, LayerDraft, Layout, ROOT_MODE, failed, open_dir};
use crate::local::Local;
use layers::tree::{Step, is_dir, walk};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use types::{Error, ErrorKind, Result};

pub const NAME: &str = "btrfs";

/// `BTRFS_SUPER_MAGIC` (include/uapi/linux/magic.h).
const MAGIC: u64 = 0x9123_683e;

/// Subvolumes inside of each other that are removed; a container that nests deeper than its paths can be is up to
/// something, and what it made stays in the trash with an error.
const NESTING_MAX: usize = 64;

/// See [`crate::Snapshotter`].
pub struct Btrfs {
    layout: Arc<Layout>,
}

impl Btrfs {
    /// Opens the directories, which must lie on a btrfs.
    pub fn open(root: &Path) -> Result<Self> {
        let layout = Layout::open_with(root, NAME, Arc::new(remove))?;
        let stat = rustix::fs::statfs(layout.path()).map_err(|e| failed("look at", layout.path(), e))?;
        if stat.f_type as u64 != MAGIC {
            return Err(Error::precondition(format!(
                "{} is not on a btrfs; mount one there, or choose another snapshotter",
                layout.path().display()
            )));
        }
        Ok(Self { layout })
    }
}

impl Local for Btrfs {
    const NAME: &'static str = NAME;

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Its `fs` is a writable subvolume: a snapshot of a layer, or empty.
    fn begin(&self, name: &str, below: Option<&ChainId>) -> Result<LayerDraft> {
        let source = below.map(|chain| self.layout.open_layer(chain)).transpose()?;
        self.layout.draft_made_by(name, |top| {
            let made = match &source {
                Some(source) => sys::btrfs::snapshot(source.as_fd(), top, b"fs", false),
                None => sys::btrfs::create(top, b"fs"),
            };
            made.map_err(|cause| Errno::from_io_error(&cause).unwrap_or(Errno::IO))?;
            let dir = open_dir(top, "fs")?;
            if source.is_none() {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(ROOT_MODE))?;
            }
            Ok(dir)
        })
    }

    /// Nobody writes to a layer any more.
    fn seal(
        &self,
        draft: LayerDraft,
        _chain: &ChainId,
        unpacked: &layers::Unpacked,
    ) -> Result<(String, Draft)> {
        sys::btrfs::set_read_only(draft.dir.as_fd(), true).map_err(|cause| {
            Error::with_source(ErrorKind::Internal, "cannot make the layer's subvolume read-only", cause)
        })?;
        self.layout.make_durable(draft, &unpacked.diff_id)
    }
}

/// Removes a directory of the layout: its subvolume `fs` as one, then the rest. One without is fine.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<(), layers::Error> {
    if let Some(top) = name.to_str().and_then(|name| open_dir(parent, name).ok())
        && is_subvolume(top.as_fd(), OsStr::new("fs"))
    {
        // What stays is found again by the removal of the tree, which says what and why.
        let _ = destroy(top.as_fd(), OsStr::new("fs"), NESTING_MAX);
    }
    layers::tree::remove(parent, name)
}

fn is_subvolume(parent: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| is_dir(&stat) && stat.st_ino == sys::btrfs::ROOT_INODE)
}

/// Removes a subvolume with those inside of it, deepest first.
fn destroy(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> rustix::io::Result<()> {
    let destroyed = || {
        sys::btrfs::destroy(parent, name.as_bytes())
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    };
    match destroyed() {
        Err(Errno::NOTEMPTY) if depth > 0 => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let subvolume = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // A container may have made it read-only, and then nothing in it can be removed.
    sys::btrfs::set_read_only(subvolume.as_fd(), false)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    // The walk stays in this subvolume: each is a device of its own.
    let walked = walk(subvolume.as_fd(), &mut |step| match step {
        Step::Entry(at, stat) if is_dir(stat) && stat.st_ino == sys::btrfs::ROOT_INODE => {
            let name = OsStr::from_bytes(at.name.to_bytes());
            destroy(at.dir, name, depth - 1).map_err(|e| at.failed("remove the subvolume", e))
        }
        _ => Ok(()),
    });
    match walked {
        Ok(()) => destroyed(),
        Err(layers::Error::System { source, .. }) => Err(source),
        Err(_) => Err(Errno::NOTEMPTY),
    }
}
