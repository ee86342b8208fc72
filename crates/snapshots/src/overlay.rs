//! Layers as lower directories of an overlay, containers as upper ones.
//!
//! It never mounts a container's root: the container does, in its own mount namespace. It mounts once, when it
//! is opened, to see that overlays work here; that mount is detached and never in a mount table.

use crate::layout::{LayerDraft, Layout, ROOT_MODE, failed, make_dir, missing_layer};
use crate::local::Local;
use crate::usage::Usage;
use crate::writable::Writables;
use crate::{ChainId, Writable, text, view};
use container::plan::{Layer, RootSource};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
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
    writables: Writables,
}

impl Overlayfs {
    /// Opens the directories and sees that overlays work in them.
    pub fn open(root: &Path) -> Result<Self> {
        let layout = Layout::open(root, NAME)?;
        check(&layout)?;
        Ok(Self { writables: Writables::new(Arc::clone(&layout)), layout })
    }

    /// The lower directories for a container: existing, and cut below a layer whose root hides all others
    /// (overlayfs does not look at that mark on the root of a lower layer).
    fn lower(&self, layers: &[ChainId]) -> Result<Vec<Layer>> {
        check_count(layers)?;
        let mut lower = Vec::with_capacity(layers.len());
        for chain in layers {
            let path = self.layout.layer_path(chain);
            let opaque = is_opaque(&path).map_err(|error| match error {
                Errno::NOENT => missing_layer(chain),
                error => failed("look at the layer", &path, error),
            })?;
            lower.push(Layer::Directory(text(&path)?));
            if opaque {
                break;
            }
        }
        Ok(lower)
    }
}

/// Whether a directory hides what is in the layers below.
pub(crate) fn is_opaque(path: &Path) -> rustix::io::Result<bool> {
    let mut value = [0; 4];
    match rustix::fs::lgetxattr(path, OPAQUE, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn check_count(layers: &[ChainId]) -> Result<()> {
    if layers.len() > MOST_LAYERS {
        return Err(Error::invalid(format!(
            "an image of {} layers cannot be mounted: the kernel takes {MOST_LAYERS}",
            layers.len()
        )));
    }
    Ok(())
}

/// Sees that overlays work with upper directories in there.
pub(crate) fn check(layout: &Arc<Layout>) -> Result<()> {
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
    probe(layout).map_err(|error| {
        Error::with_source(
            ErrorKind::FailedPrecondition,
            format!(
                "overlayfs does not work in {}; use a local file system such as ext4 or xfs there, or set the \
                 snapshotter to native",
                layout.path().display()
            ),
            error,
        )
    })
}

impl Local for Overlayfs {
    const NAME: &'static str = NAME;
    const OVERLAY: bool = true;
    const UNSYNCED: bool = true;

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn begin(&self, name: &str, _below: Option<&ChainId>) -> Result<LayerDraft> {
        self.layout.draft(name)
    }

    fn root(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource> {
        self.writables.root(id, self.lower(layers)?, writable)
    }

    fn shown(&self, layers: &[ChainId]) -> Result<RootSource> {
        view::of(&self.layout, self.lower(layers)?)
    }

    fn drop_container(&self, id: &str) -> Result<()> {
        self.writables.remove(id)
    }

    fn container_usage(&self, id: &str) -> Result<Usage> {
        self.writables.usage(id)
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
