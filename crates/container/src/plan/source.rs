//! Where the root file system of a container, or of an image volume, comes from. Data only: [`crate::root`] mounts it.

use super::IdMap;
use serde::{Deserialize, Serialize};

/// Where a root file system comes from. All of it is mounted in the container's own mount namespace: the node's mount
/// table never shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootSource {
    /// An overlay.
    Overlay {
        /// The layers, the topmost first.
        lower: Vec<Layer>,
        /// The writable layer; with `work` empty too, the overlay is read-only and needs two layers at least. A
        /// path on the node, or where there is a `disk`, one below that disk's root.
        upper: String,
        /// The overlay's work directory, on the same file system as `upper`, and named in the same way.
        work: String,
        /// The file system that `upper` and `work` lie in, where it has to be mounted first.
        disk: Option<Filesystem>,
        /// More options of the overlay, `key=value` or bare.
        options: Vec<String>,
    },
    /// A directory that is the root as it is.
    Directory(String),
    /// A file system that is mounted for this container alone.
    Filesystem(Filesystem),
}

/// One lower layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// A directory of the node.
    Directory(String),
    /// An EROFS image file.
    Erofs(ErofsImage),
}

/// An EROFS image in a file of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErofsImage {
    /// Absolute path of the file. The directory that it lies in is its own: kernels that cannot take a mount that is
    /// attached nowhere get it there for a moment.
    pub path: String,
    /// What fs-verity has to measure: the algorithm's number of `linux/fsverity.h` and the digest. `None` mounts it
    /// unmeasured.
    pub verity: Option<(u16, Vec<u8>)>,
    /// Whether it goes by a loop device, where the kernel cannot mount a file by itself (before Linux 6.12, or without
    /// `CONFIG_EROFS_FS_BACKED_BY_FILE`). The supervisor has to do that, see [`RootSource::needs_devices`].
    pub by_loop: bool,
}

/// A file system that is mounted with `fsopen(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// For example `ext4`, `xfs`, `zfs`.
    pub kind: String,
    /// A block device, an image file, or what else this kind takes for its source (the data set of a ZFS).
    pub source: String,
    /// `key=value` or bare flags for `fsconfig(2)`, such as `ro`.
    pub options: Vec<String>,
    /// The source is a file and gets a loop device that goes with the mount.
    pub by_loop: bool,
    /// The directory in it that is the root, relative; empty for all of it. Unused for an overlay's disk.
    pub directory: String,
    /// An empty directory of the node where kernels before 6.15 have it attached for a moment, in the mount
    /// namespace of the container. May be empty for a root without `directory`.
    pub place: String,
}

/// Ids of a root whose files keep their owners on the disk: an idmapped mount (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
///
/// Of an overlay the layers are mapped, and the writable layer is not: what the container makes belongs to the mapped
/// ids on the disk (overlays of mapped layers came with Linux 5.19). Anything else is mapped as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootIds {
    /// Users: as stored, as the node sees them. Empty with `gids` empty too: not mapped.
    pub uids: Vec<IdMap>,
    /// Groups.
    pub gids: Vec<IdMap>,
}

impl RootIds {
    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }
}

impl RootSource {
    /// An overlay of directories.
    pub fn overlay(lower: Vec<String>, upper: String, work: String) -> Self {
        let lower = lower.into_iter().map(Layer::Directory).collect();
        Self::Overlay { lower, upper, work, disk: None, options: Vec::new() }
    }

    /// Whether mounting it opens devices: then the supervisor has to do that part, for the container's own cgroup
    /// forbids it (the plan's `prepare`).
    pub fn needs_devices(&self) -> bool {
        match self {
            Self::Overlay { lower, disk, .. } => {
                disk.is_some()
                    || lower.iter().any(|layer| matches!(layer, Layer::Erofs(image) if image.by_loop))
            }
            Self::Directory(_) => false,
            Self::Filesystem(_) => true,
        }
    }
}
