//! Layers as lower directories of an overlay, containers as upper ones.
//!
//! It never mounts a container's root: the container does, in its own mount namespace. It mounts once, when it
//! is opened, to see that overlays work here; that mount is detached and never in a mount table.

use crate::layout::{LayerDraft, Layout, ROOT_MODE, failed, make_dir, missing_layer};
use crate::usage::Usage;
use crate::{ChainId, Snapshotter};
use container::plan::RootSource;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use types::{Error, ErrorKind, Result};

pub const NAME: &str = "overlayfs";

const OPAQUE: &str = "trusted.overlay.opaque";

/// The kernel's bound on lower layers (OVL_MAX_STACK in fs/overlayfs/params.h).
const MOST_LAYERS: usize = 500;

/// fsconfig(2) takes strings of at most 255 bytes.
const MOST_PATH: usize = 255;

/// See [`crate::Snapshotter`].
pub struct Overlayfs {
    layout: Arc<Layout>,
}

impl Overlayfs {
    /// Opens the directories and sees that overlays work in them.
    pub fn open(root: &Path) -> Result<Self> {
        let layout = Layout::open(root, NAME)?;
        let longest = layout.path().as_os_str().len() + "/containers//work".len() + 128;
        if longest > MOST_PATH {
            return Err(Error::invalid(format!(
                "the path {} is too long for overlay mounts, by {} bytes; choose a shorter root, or the \
                 snapshotter native",
                layout.path().display(),
                longest - MOST_PATH
            )));
        }
        if layout.path().to_string_lossy().contains([':', '\\']) {
            return Err(Error::invalid(format!(
                "the path {} has a colon or a backslash, which overlay mount options take as their own; choose \
                 another root, or the snapshotter native",
                layout.path().display()
            )));
        }
        probe(&layout).map_err(|error| {
            Error::with_source(
                ErrorKind::FailedPrecondition,
                format!(
                    "overlayfs does not work in {}; use a local file system such as ext4 or xfs there, or set the \
                     snapshotter to native",
                    layout.path().display()
                ),
                error,
            )
        })?;
        Ok(Self { layout })
    }

    /// The lower directories for a container: existing, and cut below a layer whose root hides all others
    /// (overlayfs does not look at that mark on the root of a lower layer).
    fn lower(&self, layers: &[ChainId]) -> Result<Vec<String>> {
        if layers.len() > MOST_LAYERS {
            return Err(Error::invalid(format!(
                "an image of {} layers cannot be mounted: the kernel takes {MOST_LAYERS}",
                layers.len()
            )));
        }
        let mut lower = Vec::with_capacity(layers.len());
        for chain in layers {
            let path = self.layout.layer_path(chain);
            let mut value = [0; 4];
            let opaque = match rustix::fs::lgetxattr(&path, OPAQUE, &mut value) {
                Ok(length) => value[..length] == *b"y",
                Err(Errno::NODATA) => false,
                Err(Errno::NOENT) => return Err(missing_layer(chain)),
                Err(e) => return Err(failed("look at the layer", path, e)),
            };
            lower.push(text(&path)?);
            if opaque {
                break;
            }
        }
        Ok(lower)
    }
}

fn text(path: &Path) -> Result<String> {
    // The root was found to be UTF-8 when it was opened, and our own names are ASCII.
    path.to_str().map(str::to_owned).ok_or_else(|| Error::internal("a snapshot's path is not UTF-8"))
}

impl Snapshotter for Overlayfs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn whiteouts(&self) -> layers::WhiteoutMode {
        layers::WhiteoutMode::Overlay
    }

    fn parallel(&self) -> bool {
        true
    }

    fn has_layer(&self, chain: &ChainId) -> bool {
        self.layout.has_layer(chain)
    }

    fn begin_layer(&self, chain: &ChainId, _parent: Option<&ChainId>) -> Result<LayerDraft> {
        self.layout.draft(chain.hex())
    }

    fn commit_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        if self.has_layer(chain) {
            return Ok(());
        }
        if unpacked.pending != layers::Pending::default() {
            let lower = parents
                .iter()
                .map(|parent| self.layout.open_layer(parent))
                .collect::<Result<Vec<OwnedFd>>>()?;
            layers::settle(draft.dir.as_fd(), &lower, &unpacked.pending)?;
        }
        self.layout.place_layer(draft, chain, &unpacked.diff_id)
    }

    fn remove_layer(&self, chain: &ChainId) -> Result<()> {
        self.layout.remove_layer(chain)
    }

    fn layers(&self) -> Result<Vec<ChainId>> {
        self.layout.layers()
    }

    fn prepare(&self, id: &str, layers: &[ChainId]) -> Result<RootSource> {
        let lower = self.lower(layers)?;
        if !self.layout.has_container(id)? {
            let draft = self.layout.draft(id)?;
            let top = self.layout.draft_top(&draft)?;
            make_dir(top, "work", 0o700)
                .map_err(|e| failed("make the directory", self.layout.container_path(id, "work"), e))?;
            self.layout.place_container(draft, id)?;
        }
        let upper = text(&self.layout.container_path(id, "fs"))?;
        if lower.is_empty() {
            // An overlay needs a lower directory.
            return Ok(RootSource::Directory(upper));
        }
        Ok(RootSource::Overlay { lower, upper, work: text(&self.layout.container_path(id, "work"))? })
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.layout.remove_container(id)
    }

    fn containers(&self) -> Result<Vec<String>> {
        self.layout.containers()
    }

    fn usage(&self, id: &str) -> Result<Usage> {
        self.layout.container_usage(id)
    }

    fn layer_usage(&self, chain: &ChainId) -> Result<Usage> {
        self.layout.layer_usage(chain)
    }
}

/// Mounts a small overlay and sees that a whiteout, an opaque directory and a write do what they should.
fn probe(layout: &Arc<Layout>) -> std::result::Result<(), Error> {
    let draft = layout.draft("probe")?;
    let step = |what: &'static str| {
        move |error: Errno| {
            Error::with_source(ErrorKind::FailedPrecondition, what, std::io::Error::from(error))
        }
    };
    let top = layout.draft_top(&draft)?;
    let made = step("cannot make the directories of a trial");
    let (lower, upper) = (&draft.dir, make_dir(&top, "upper", ROOT_MODE).map_err(made)?);
    make_dir(&top, "work", 0o700).map_err(made)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(lower, "hidden", flags, Mode::RUSR).map_err(made)?;
    let below = make_dir(lower, "opaque", ROOT_MODE).map_err(made)?;
    rustix::fs::openat(below, "hidden", flags, Mode::RUSR).map_err(made)?;
    let opaque = make_dir(&upper, "opaque", ROOT_MODE).map_err(made)?;
    rustix::fs::fsetxattr(opaque, OPAQUE, b"y", XattrFlags::empty())
        .map_err(step("cannot set trusted.* attributes there (CAP_SYS_ADMIN is needed)"))?;
    rustix::fs::mknodat(&upper, "hidden", FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(step("cannot make a whiteout there (CAP_MKNOD is needed)"))?;

    let path = |part: &str| draft.home.path().join(part);
    let mounted = step("cannot mount an overlay there");
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(step("the kernel has no overlay file system"))?;
    for (key, part) in [("lowerdir", "fs"), ("upperdir", "upper"), ("workdir", "work")] {
        rustix::mount::fsconfig_set_string(&context, key, path(part)).map_err(mounted)?;
    }
    rustix::mount::fsconfig_create(&context).map_err(mounted)?;
    let root =
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NOSUID)
            .map_err(mounted)?;
    for name in ["hidden", "opaque/hidden"] {
        match rustix::fs::statat(&root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(e) => return Err(step("cannot look at an overlay there")(e)),
            Ok(_) => return Err(Error::precondition("an overlay there shows what its upper layer hides")),
        }
    }
    rustix::fs::openat(&root, "opaque/written", flags, Mode::RUSR)
        .map_err(step("cannot write to an overlay there"))?;
    // The detached mount ends with its descriptor, before the draft removes its directories.
    drop(root);
    Ok(())
}
