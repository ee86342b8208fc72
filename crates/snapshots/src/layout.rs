//! The directories that both snapshotters share, and the moves between them.
//!
//! It works by descriptor and single names only. It knows nothing of whiteouts, parents or mounts.

use crate::remove::Remove;
use crate::usage::{Usage, measure};
use crate::{ChainId, durable};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use types::{Error, ErrorKind, Result};

/// What is known of a committed layer, in its `meta.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// Layout of this file; 1.
    pub version: u32,
    /// The layer's own content.
    pub diff_id: types::Digest,
    /// Space, measured at commit.
    pub usage: Usage,
    /// Of a layer that is an image file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageMeta>,
}

/// What is known of a layer's image file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageMeta {
    /// Its root hides all layers below (`trusted.overlay.opaque`).
    pub opaque: bool,
    /// What fs-verity measures: the number of the algorithm and the digest in hexadecimal digits.
    pub verity: Option<(u16, String)>,
}

const META: &str = "meta.json";
const META_VERSION: u32 = 1;
/// Far above what `Meta` takes.
const META_MAX: usize = 64 << 10;

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

/// A private directory to unpack one layer into. It is removed on drop unless it was committed.
#[derive(Debug)]
pub struct LayerDraft {
    /// Where to unpack.
    pub dir: OwnedFd,
    pub(crate) home: Draft,
}

/// A directory in `ingest` that removes itself.
#[derive(Debug)]
pub(crate) struct Draft {
    layout: Arc<Layout>,
    name: String,
    placed: bool,
}

impl Draft {
    /// It was moved to where it stays.
    pub fn placed(&mut self) {
        self.placed = true;
    }

    /// Its name in `ingest`.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Where the directory lies now.
    pub fn path(&self) -> PathBuf {
        self.layout.path.join("ingest").join(&self.name)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = self.layout.remove.remove(self.layout.ingest.as_fd(), OsStr::new(&self.name))
        {
            let error = Error::from(error);
            tracing::warn!(
                name = self.name,
                error = error.chain(),
                "a half made snapshot cannot be removed now"
            );
            self.layout.remember("ingest", self.name.clone());
        }
    }
}

/// A failed system call on one of our paths.
pub(crate) fn failed(action: &str, path: impl AsRef<Path>, error: Errno) -> Error {
    let kind = match error {
        Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE => ErrorKind::ResourceExhausted,
        Errno::PERM | Errno::ACCESS => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal,
    };
    let path = path.as_ref().display();
    Error::with_source(kind, format!("cannot {action} {path}"), std::io::Error::from(error))
}

/// Opens a directory by one name, no link followed.
pub(crate) fn open_dir(parent: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Makes a directory with exactly this mode, whatever the umask, and opens it.
pub(crate) fn make_dir(parent: impl AsFd, name: &str, mode: u32) -> rustix::io::Result<OwnedFd> {
    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))?;
    let dir = open_dir(parent, name)?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
    Ok(dir)
}

/// Mode of a layer's root: that of `/` in a container.
pub(crate) const ROOT_MODE: u32 = 0o755;

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
        sha256(chain).is_ok()
            && rustix::fs::statat(&self.layers, chain.hex(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens a layer's tree.
    pub fn open_layer(&self, chain: &ChainId) -> Result<OwnedFd> {
        sha256(chain)?;
        let opened = open_dir(&self.layers, chain.hex()).and_then(|dir| open_dir(dir, "fs"));
        opened.map_err(|error| match error {
            Errno::NOENT => missing_layer(chain),
            error => failed("open the layer", self.layer_path(chain), error),
        })
    }

    /// A new, empty `fs` in `ingest`.
    pub fn draft(self: &Arc<Self>, name: &str) -> Result<LayerDraft> {
        self.draft_made_by(name, |top| make_dir(top, "fs", ROOT_MODE))
    }

    /// As [`Layout::draft`], where `make` makes the `fs` in the directory that it gets, and opens it.
    pub(crate) fn draft_made_by(
        self: &Arc<Self>,
        name: &str,
        make: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<OwnedFd>,
    ) -> Result<LayerDraft> {
        let name = self.unique(name);
        let path = self.path.join("ingest").join(&name);
        let wrap = |error| failed("make the directory", &path, error);
        let top = make_dir(&self.ingest, &name, 0o700).map_err(wrap)?;
        // From here on the directory removes itself.
        let home = Draft { layout: Arc::clone(self), name, placed: false };
        let dir = make(top.as_fd()).map_err(wrap)?;
        Ok(LayerDraft { dir, home })
    }

    /// Makes a draft durable and puts it in place as a layer. Somebody else's equal layer wins.
    pub fn place_layer(&self, draft: LayerDraft, chain: &ChainId, diff_id: &types::Digest) -> Result<()> {
        sha256(chain)?;
        let (name, home) = self.make_durable(draft, diff_id)?;
        self.put_in_place(&name, home, chain)
    }

    /// As [`Layout::place_layer`], without waiting for the disk: whole against a kill, and against a power cut only
    /// after [`Layout::sync`].
    pub fn place_layer_unsynced(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        diff_id: &types::Digest,
    ) -> Result<()> {
        sha256(chain)?;
        let LayerDraft { dir, home } = draft;
        if !std::ptr::eq(self, Arc::as_ptr(&home.layout)) {
            return Err(Error::internal("the draft of a layer belongs to another snapshotter"));
        }
        let (path, name) = (home.path(), home.name.clone());
        let top = open_dir(&self.ingest, &name).map_err(|e| failed("open", &path, e))?;
        self.put_meta(&top, &path, diff_id, measure(dir.as_fd())?, None)?;
        self.rename_in_place(&name, home, chain)
    }

    /// Makes all layers durable, with all else that their file system has.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.layers).map_err(|e| failed("sync the file system of", &self.path, e))
    }

    /// Renames what is durable to its place.
    pub(crate) fn put_in_place(&self, name: &str, home: Draft, chain: &ChainId) -> Result<()> {
        self.rename_in_place(name, home, chain)?;
        rustix::fs::fsync(&self.layers).map_err(|e| failed("sync", self.path.join("layers"), e))
    }

    fn rename_in_place(&self, name: &str, mut home: Draft, chain: &ChainId) -> Result<()> {
        let path = self.path.join("ingest").join(name);
        let target = chain.hex();
        match rustix::fs::renameat_with(&self.ingest, name, &self.layers, target, RenameFlags::NOREPLACE) {
            Ok(()) => home.placed = true,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(failed("put in place", path, e)),
        }
        Ok(())
    }

    /// Writes what is known of a draft beside it, and syncs all of it. Its name in `ingest`.
    pub(crate) fn make_durable(&self, draft: LayerDraft, diff_id: &types::Digest) -> Result<(String, Draft)> {
        let LayerDraft { dir, home } = draft;
        if !std::ptr::eq(self, Arc::as_ptr(&home.layout)) {
            return Err(Error::internal("the draft of a layer belongs to another snapshotter"));
        }
        let path = self.path.join("ingest").join(&home.name);
        let top = open_dir(&self.ingest, &home.name).map_err(|e| failed("open", &path, e))?;
        durable::sync_tree(dir.as_fd()).map_err(|e| e.context("cannot make the layer durable"))?;
        self.write_meta(&top, &path, diff_id, measure(dir.as_fd())?, None)?;
        Ok((home.name.clone(), home))
    }

    /// Writes `meta.json` into the folder `top` of a draft, and syncs it and the folder.
    pub(crate) fn write_meta(
        &self,
        top: &OwnedFd,
        path: &Path,
        diff_id: &types::Digest,
        usage: Usage,
        image: Option<ImageMeta>,
    ) -> Result<()> {
        let file = self.put_meta(top, path, diff_id, usage, image)?;
        let wrap = |error| failed("write", path.join(META), error);
        rustix::fs::fsync(&file).map_err(wrap)?;
        rustix::fs::fsync(top).map_err(wrap)
    }

    fn put_meta(
        &self,
        top: &OwnedFd,
        path: &Path,
        diff_id: &types::Digest,
        usage: Usage,
        image: Option<ImageMeta>,
    ) -> Result<OwnedFd> {
        let meta = Meta { version: META_VERSION, diff_id: diff_id.clone(), usage, image };
        let json = serde_json::to_vec_pretty(&meta)
            .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot write a layer's meta.json", e))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let wrap = |error| failed("write", path.join(META), error);
        let file = rustix::fs::openat(top, META, flags, Mode::RUSR | Mode::WUSR).map_err(wrap)?;
        layers::copy::write_all(&file, &json).map_err(wrap)?;
        Ok(file)
    }

    /// Puts a draft in place as a container's layer; nothing is synced. False when one was there.
    pub fn place_container(&self, draft: LayerDraft, id: &str) -> Result<bool> {
        let LayerDraft { dir: _, mut home } = draft;
        match rustix::fs::renameat_with(
            &self.ingest,
            &home.name,
            &self.containers,
            id,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {
                home.placed = true;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(failed("put in place", self.container_path(id, ""), e)),
        }
    }

    /// The directory that holds a draft's `fs`.
    pub fn draft_top(&self, draft: &LayerDraft) -> Result<OwnedFd> {
        let name = &draft.home.name;
        open_dir(&self.ingest, name).map_err(|e| failed("open", self.path.join("ingest").join(name), e))
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
        sha256(chain)?;
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
        Ok(names.iter().filter_map(|hex| ChainId::parse(&format!("sha256:{hex}")).ok()).collect())
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

    /// What was measured when the layer was committed.
    pub fn layer_usage(&self, chain: &ChainId) -> Result<Usage> {
        Ok(self.meta(chain)?.usage)
    }

    /// What was written of a layer when it was committed.
    pub fn meta(&self, chain: &ChainId) -> Result<Meta> {
        sha256(chain)?;
        let path = self.path.join("layers").join(chain.hex()).join(META);
        let wrap = |error| match error {
            Errno::NOENT => missing_layer(chain),
            error => failed("read", &path, error),
        };
        let dir = open_dir(&self.layers, chain.hex()).map_err(wrap)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, META, flags, Mode::empty()).map_err(wrap)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(
            &mut std::io::Read::take(std::fs::File::from(file), META_MAX as u64),
            &mut bytes,
        )
        .map_err(|e| Error::with_source(ErrorKind::Internal, format!("cannot read {}", path.display()), e))?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Error::with_source(
                ErrorKind::Internal,
                format!("{} is damaged; pull the image again", path.display()),
                e,
            )
        })
    }
}

/// Refuses what may not be a directory's name; ids come from callers that checked them, this is the last gate.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(plain) {
        return Err(Error::invalid(format!("{:?} is not a container id", types::reference::shorten(id))));
    }
    Ok(())
}

pub(crate) fn sha256(chain: &ChainId) -> Result<()> {
    match chain.algorithm() {
        types::digest::Algorithm::Sha256 => Ok(()),
        types::digest::Algorithm::Sha512 => {
            Err(Error::invalid(format!("{chain} is not a chain id: those are sha256")))
        }
    }
}

pub(crate) fn missing_layer(chain: &ChainId) -> Error {
    Error::not_found(format!("the layer {chain} is not there; pull the image again"))
}

pub(crate) fn names(dir: &OwnedFd, path: &Path) -> Result<Vec<String>> {
    let wrap = |error| failed("read the directory", path, error);
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(wrap)? {
        let entry = entry.map_err(wrap)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            found.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}
