//! Layers as EROFS images, lower layers of an overlay; containers as directories beside them.
//!
//! A layer is one file: it is read in one piece, it cannot be changed in place by accident, and where the file system
//! has fs-verity the kernel checks every byte of it on every read. Images are mounted in the container's own mount
//! namespace alone, never in the node's.

use crate::layout::{Draft, ImageMeta, LayerDraft, Layout, failed, missing_layer};
use crate::local::Local;
use crate::usage::Usage;
use crate::writable::Writables;
use crate::{ChainId, Writable, overlay, text, view};
use container::plan::{ErofsImage, Layer, RootSource};
use rustix::fs::{Advice, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{Error, ErrorKind, Result};

pub const NAME: &str = "erofs";

/// The image, in a layer's folder.
const IMAGE: &str = "layer.erofs";

/// See [`crate::Snapshotter`].
pub struct Erofs {
    layout: Arc<Layout>,
    writables: Writables,
    /// The kernel cannot mount a file, so that each image takes a loop device.
    by_loop: bool,
    /// It was said that there is no fs-verity.
    told: AtomicBool,
}

impl Erofs {
    /// Opens the directories, and sees that images and overlays can be mounted.
    pub fn open(root: &Path) -> Result<Self> {
        let layout = Layout::open(root, NAME)?;
        overlay::check(&layout)?;
        let by_loop = probe(&layout).map_err(|error| {
            Error::with_source(
                ErrorKind::FailedPrecondition,
                "EROFS images cannot be mounted here; load the kernel's module erofs (Linux 5.4 or later), and loop \
                 before Linux 6.12, or set the snapshotter to overlayfs",
                error,
            )
        })?;
        let writables = Writables::new(Arc::clone(&layout));
        Ok(Self { layout, writables, by_loop, told: AtomicBool::new(false) })
    }

    fn image_path(&self, chain: &ChainId) -> PathBuf {
        self.layout.path().join("layers").join(chain.hex()).join(IMAGE)
    }

    /// How a layer is mounted, and whether its root hides those below.
    fn image(&self, chain: &ChainId) -> Result<(ErofsImage, bool)> {
        let damaged = || {
            Error::internal(format!("what is recorded of the layer {chain} is damaged; pull the image again"))
        };
        let meta = self.layout.meta(chain)?.image.ok_or_else(damaged)?;
        let verity = match meta.verity {
            None => None,
            Some((algorithm, digest)) => Some((algorithm, unhex(&digest).ok_or_else(damaged)?)),
        };
        let path = text(&self.image_path(chain))?;
        Ok((ErofsImage { path, verity, by_loop: self.by_loop }, meta.opaque))
    }

    fn lower(&self, layers: &[ChainId]) -> Result<Vec<Layer>> {
        overlay::check_count(layers)?;
        let mut lower = Vec::with_capacity(layers.len());
        for chain in layers {
            let (image, opaque) = self.image(chain)?;
            if !self.image_path(chain).exists() {
                return Err(missing_layer(chain));
            }
            lower.push(Layer::Erofs(image));
            if opaque {
                break;
            }
        }
        Ok(lower)
    }

    /// Has the kernel check the file on every read from now on, where it can.
    fn protect(&self, file: &OwnedFd, path: &Path) -> Result<Option<(u16, String)>> {
        let failed = |what: &str, error: std::io::Error| {
            let text = format!("cannot {what} {} (fs-verity)", path.display());
            Error::with_source(ErrorKind::Internal, text, error)
        };
        let mut enabled = sys::verity::enable(file.as_fd());
        // A process that was forked meanwhile has the file open for writing until it executes its program.
        for _ in 0..BUSY_MOST {
            match &enabled {
                Err(error) if Errno::from_io_error(error) == Some(Errno::TXTBSY) => {}
                _ => break,
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            enabled = sys::verity::enable(file.as_fd());
        }
        match enabled {
            Ok(()) => {}
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOTTY | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                    if !self.told.swap(true, Ordering::Relaxed) {
                        tracing::info!(
                            path = %self.layout.path().display(),
                            error = %error,
                            "no fs-verity there: layers are checked when they are unpacked, and not when they are read"
                        );
                    }
                    return Ok(None);
                }
                _ => return Err(failed("seal", error)),
            },
        }
        rustix::fs::fsync(file).map_err(|e| crate::layout::failed("sync", path, e))?;
        let (algorithm, digest) = sys::verity::measure(file.as_fd()).map_err(|e| failed("measure", e))?;
        Ok(Some((algorithm, hex(&digest))))
    }
}

/// Times that sealing is tried again.
const BUSY_MOST: u32 = 200;

impl Local for Erofs {
    const NAME: &'static str = NAME;
    const OVERLAY: bool = true;

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn begin(&self, name: &str, _below: Option<&ChainId>) -> Result<LayerDraft> {
        self.layout.draft(name)
    }

    /// A layer's tree, attached nowhere.
    fn layer_tree(&self, chain: &ChainId) -> Result<OwnedFd> {
        if !self.layout.has_layer(chain) {
            return Err(missing_layer(chain));
        }
        let (image, _) = self.image(chain)?;
        let wrap = |failure: container::Failure| Error::internal(failure.to_string());
        let mount = container::root::image(&image).map_err(wrap)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&mount, ".", flags, Mode::empty()).map_err(|e| failed("open", &image.path, e))
    }

    /// Turns a draft's tree into an image that is durable and sealed.
    fn seal(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        unpacked: &layers::Unpacked,
    ) -> Result<(String, Draft)> {
        let top = self.layout.draft_top(&draft)?;
        let LayerDraft { dir, home } = draft;
        let path = home.path();
        let opaque =
            overlay::is_opaque(&path.join("fs")).map_err(|e| failed("look at", path.join("fs"), e))?;
        let image = path.join(IMAGE);
        let wrap = |error| failed("write", &image, error);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&top, IMAGE, flags, Mode::RUSR | Mode::WUSR).map_err(wrap)?;
        // Overlayfs tells layers apart by it, and the same layer has the same one everywhere.
        let mut uuid = [0; 16];
        let digits = unhex(chain.hex()).unwrap_or_default();
        uuid.iter_mut().zip(digits).for_each(|(to, from)| *to = from);
        erofs::write(dir.as_fd(), file.as_fd(), uuid)?;
        rustix::fs::fsync(&file).map_err(wrap)?;
        drop((file, dir));
        layers::tree::remove(top.as_fd(), OsStr::new("fs")).map_err(Error::from)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&top, IMAGE, flags, Mode::empty()).map_err(wrap)?;
        let verity = self.protect(&file, &image)?;
        let stat = rustix::fs::fstat(&file).map_err(wrap)?;
        let usage = Usage { bytes: stat.st_blocks as u64 * 512, inodes: 1 };
        let meta = ImageMeta { opaque, verity };
        self.layout.write_meta(&top, &path, &unpacked.diff_id, usage, Some(meta))?;
        Ok((home.name(), home))
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

    fn measured(&self, chain: &ChainId) -> Result<Usage> {
        let path = self.image_path(chain);
        match rustix::fs::statat(rustix::fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Usage { bytes: stat.st_blocks as u64 * 512, inodes: 1 }),
            Err(Errno::NOENT) => Err(missing_layer(chain)),
            Err(error) => Err(failed("look at", path, error)),
        }
    }

    fn forget(&self, chain: &ChainId) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(self.image_path(chain), flags, Mode::empty()) {
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
    }

    fn difference(&self, chain: &ChainId, draft: &LayerDraft) -> Result<Option<String>> {
        self.forget(chain);
        if !self.image_path(chain).exists() {
            return Ok(Some("its image file is missing".to_owned()));
        }
        match self.layer_tree(chain) {
            Ok(tree) => crate::compare::difference(tree.as_fd(), draft.dir.as_fd()),
            Err(error) => Ok(Some(error.chain())),
        }
    }
}

/// Mounts a small image. Answers whether that takes a loop device.
fn probe(layout: &Arc<Layout>) -> Result<bool> {
    let draft = layout.draft("probe")?;
    let top = layout.draft_top(&draft)?;
    let path = draft.home.path().join(IMAGE);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&top, IMAGE, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|e| failed("write", &path, e))?;
    erofs::write(draft.dir.as_fd(), file.as_fd(), [1; 16])?;
    if container::root::mounts_image_files(file.as_fd()) {
        return Ok(false);
    }
    let image = ErofsImage { path: text(&path)?, verity: None, by_loop: true };
    container::root::image(&image).map(|_| true).map_err(|failure| Error::precondition(failure.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut all, byte| {
        // Writing to a string cannot fail.
        let _ = write!(all, "{byte:02x}");
        all
    })
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.chunks(2).map(|two| match two {
        [high, low] => u8::try_from(value(*high)? << 4 | value(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}
