//! Layers and containers as devices of a thin pool, each with an ext4: a layer begins as a snapshot of the one below, a
//! container as one of its topmost layer. Blocks are shared, and nothing is copied but what is written.
//!
//! ```text
//! <root>/devmapper/pool.json                                        the numbers in the pool that are ours
//! <root>/devmapper/base/{device.json,ready}                         the empty file system
//! <root>/devmapper/layers/<hex of the chain id>/{device.json,tree.json,meta.json,fs}
//! <root>/devmapper/containers/<id>/{device.json,fs}                 `fs` is empty, a place to mount at
//! ```
//! `device.json` is durable before the device is made, and goes after it. What is mounted here is mounted nowhere in the
//! node's mount table. A committed layer is only ever activated read-only.

mod base;
mod pool;
mod state;

use crate::layout::{Draft, LayerDraft, Layout, failed, missing_layer, names, open_dir};
use crate::local::{Local, unless_busy};
use crate::record::{self, DEVICE, Device, TREE};
use crate::remove::Remove;
use crate::usage::{Usage, measure};
use crate::{ChainId, Space, Writable, text, view};
use container::plan::{Filesystem, RootIds, RootSource};
use pool::Pool;
use rustix::fs::{Mode, OFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

pub const NAME: &str = "devmapper";

/// The directory of a device's file system that is the root; `lost+found` lies beside it.
const ROOT: &str = "fs";
/// How long a removal waits for the last user of a device; a mount namespace goes shortly after its last process.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a commit waits for what was mounted for it.
const LONG: Duration = Duration::from_secs(30);
/// An ext4 of less is nearly all its own.
const LEAST: u64 = 32 << 20;
/// What ext4 with blocks of 4096 bytes can be.
const MOST: u64 = 16 << 40;

/// What the snapshotter `devmapper` works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevmapperConfig {
    /// The thin pool, by its name in `/dev/mapper`. It has to be there.
    pub pool: String,
    /// What the names of our devices begin with.
    pub prefix: String,
    /// How large the file system of an image, and of a container with it, can be; so it is the bound of a writable
    /// layer, too. Changing it concerns images that are pulled from then on.
    pub bytes: u64,
}

impl Default for DevmapperConfig {
    fn default() -> Self {
        Self { pool: String::new(), prefix: "corten".into(), bytes: 10 << 30 }
    }
}

impl DevmapperConfig {
    fn check(&self) -> Result<()> {
        let plain = |text: &str, most: usize| {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
            !text.is_empty() && text.len() <= most && !text.starts_with(['-', '.']) && text.bytes().all(good)
        };
        if self.pool.is_empty() {
            return Err(Error::invalid(
                "the snapshotter devmapper needs a thin pool; name one that is in /dev/mapper",
            ));
        }
        for (what, name, most) in [("a thin pool", &self.pool, 64), ("a prefix of devices", &self.prefix, 32)]
        {
            if !plain(name, most) {
                let name = types::reference::shorten(name);
                return Err(Error::invalid(format!(
                    "{name:?} is no name of {what}: letters, digits and -_.+, {most} at most"
                )));
            }
        }
        if !(LEAST..=MOST).contains(&self.bytes) {
            return Err(Error::invalid(format!(
                "a base of {} bytes cannot be; it has {LEAST} bytes at least and {MOST} at most",
                self.bytes
            )));
        }
        Ok(())
    }

    fn sectors(&self) -> u64 {
        self.bytes / 4096 * 8
    }
}

/// See [`crate::Snapshotter`].
pub struct Devmapper {
    layout: Arc<Layout>,
    pool: Arc<Pool>,
    base: Device,
}

/// Removes a folder and before it the device that it belongs to.
struct Remover(Arc<Pool>);

impl Remove for Remover {
    fn remove(&self, parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<(), layers::Error> {
        let failed =
            |action, errno| layers::Error::system(action, name.to_string_lossy().escape_debug(), errno);
        if let Some(top) = name.to_str().and_then(|name| open_dir(parent, name).ok()) {
            match record::read::<Device>(top.as_fd(), DEVICE) {
                Ok(Some(device)) => self
                    .0
                    .delete(&device, PATIENCE)
                    .map_err(|errno| failed("delete the thin device of", errno))?,
                // A record is there whole, or the device was not made.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(name = %name.display(), error = error.chain(), "a thin device may be left in the pool");
                }
            }
        }
        layers::tree::remove(parent, name)
    }
}

impl Devmapper {
    /// Opens the directories and the pool, and makes the base where it is missing.
    pub fn open(root: &Path, config: &DevmapperConfig) -> Result<Self> {
        config.check()?;
        let pool = Arc::new(Pool::open(&config.pool, &config.prefix)?);
        // The layout is swept when it is opened, and for that the pool has to know what is ours.
        let path = root.join(NAME);
        let make = |error: std::io::Error| {
            let text = format!("cannot make the directory {}", path.display());
            Error::with_source(ErrorKind::Internal, text, error)
        };
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(make)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed("open", &path, e))?;
        pool.claim(top.as_fd(), &path)?;
        let layout = Layout::open_with(root, NAME, Arc::new(Remover(Arc::clone(&pool))))?;
        let devices = recorded(&layout)?;
        for device in &devices {
            if let Err(error) = pool.sweep(device) {
                // Whoever wants to use it is told; it is tried again then.
                tracing::warn!(device = device.name, %error, "a device that an earlier run left half made cannot be removed now");
            }
        }
        pool.know(devices.into_iter().map(|device| device.id).collect())?;
        let base = base::open(&pool, &top, layout.path(), config.sectors(), || known(&layout))?;
        Ok(Self { layout, pool, base })
    }

    fn layer(&self, chain: &ChainId) -> Result<Device> {
        let path = self.layout.path().join("layers");
        record::of(&self.layout.layers, chain.hex(), &path)?.ok_or_else(|| missing_layer(chain))
    }

    fn container(&self, id: &str) -> Result<Device> {
        crate::layout::check_id(id)?;
        let path = self.layout.path().join("containers");
        record::of(&self.layout.containers, id, &path)?
            .ok_or_else(|| Error::not_found(format!("the container {id} has no writable layer")))
    }

    /// Space of the whole tree of a layer, measured when it was committed.
    fn tree_usage(&self, chain: &ChainId) -> Result<Usage> {
        let dir = open_dir(&self.layout.layers, chain.hex())
            .map_err(|e| failed("open the layer", self.layout.layer_path(chain), e))?;
        Ok(record::read(dir.as_fd(), TREE)?.unwrap_or_default())
    }

    /// A draft with a device that begins as a layer's, or empty; it is not active.
    fn draft_of(&self, name: &str, layer: Option<&ChainId>) -> Result<(LayerDraft, Device)> {
        let (origin, below) = match layer {
            Some(chain) => (self.layer(chain)?, self.tree_usage(chain)?),
            None => (self.base.clone(), Usage::default()),
        };
        self.pool.usable()?;
        let draft = self.layout.draft(name)?;
        let top = self.layout.draft_top(&draft)?;
        let note = |device: &Device| {
            record::write(top.as_fd(), DEVICE, device)?;
            rustix::fs::fsync(&self.layout.ingest).map_err(|e| failed("sync the folder of", name, e))
        };
        let device = self.pool.make(Some(&origin), 0, below, note, || known(&self.layout))?;
        Ok((draft, device))
    }

    /// The tree of a device, mounted nowhere.
    fn tree(&self, device: &Device, read_only: bool) -> Result<OwnedFd> {
        let disk = self.pool.activate(device, read_only)?;
        let mount = mount(&disk, read_only)?;
        open_dir(&mount, ROOT).map_err(|e| failed("open the root of", disk, e))
    }

    fn source(&self, disk: String, place: &Path, read_only: bool) -> Result<RootSource> {
        Ok(RootSource::Filesystem(Filesystem {
            directory: ROOT.into(),
            place: text(place)?,
            ..filesystem(disk, read_only)
        }))
    }
}

impl Local for Devmapper {
    const NAME: &'static str = NAME;
    const OWN_DISKS: bool = true;
    // What somebody still has mounted goes after the mount.
    const LATER: Option<&'static str> = Some("a thin device is in use; it is deleted later");

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn begin(&self, name: &str, below: Option<&ChainId>) -> Result<LayerDraft> {
        let (draft, device) = self.draft_of(name, below)?;
        let dir = self.tree(&device, false)?;
        Ok(LayerDraft { dir, ..draft })
    }

    fn layer_tree(&self, chain: &ChainId) -> Result<OwnedFd> {
        self.tree(&self.layer(chain)?, true)
    }

    /// Unmounts what was unpacked, and writes what is known of it beside it; all of it is durable then.
    fn seal(
        &self,
        draft: LayerDraft,
        _chain: &ChainId,
        unpacked: &layers::Unpacked,
    ) -> Result<(String, Draft)> {
        let top = self.layout.draft_top(&draft)?;
        let LayerDraft { dir, home } = draft;
        let path = home.path();
        let device = record::read::<Device>(top.as_fd(), DEVICE)?
            .ok_or_else(|| Error::internal(format!("{} has no device", path.display())))?;
        let disk = || format!("the thin device {}", device.name);
        let tree = measure(dir.as_fd())?;
        // An error of writing back shows here, a pool that is full as well.
        rustix::fs::syncfs(&dir)
            .map_err(|e| self.pool.explain(format!("cannot sync {}", disk()), e.into()))?;
        drop(dir);
        self.pool.deactivate(&device, LONG).map_err(|e| failed("deactivate", disk(), e))?;
        record::write(top.as_fd(), TREE, &tree)?;
        self.layout.write_meta(&top, &path, &unpacked.diff_id, own(tree, device.below), None)?;
        Ok((home.name(), home))
    }

    fn root(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource> {
        if !self.layout.has_container(id)? {
            let (draft, device) = self.draft_of(id, layers.first())?;
            let size = device.sectors * 512;
            if writable.bytes.is_some_and(|bytes| bytes < size) {
                return Err(Error::new(
                    ErrorKind::Unimplemented,
                    format!(
                        "the snapshotter devmapper bounds an image and its writable layer together, at the base's size, \
                         {size} bytes for this one; set that, and no smaller writable_quota"
                    ),
                ));
            }
            self.layout.place_container(draft, id)?;
        }
        let disk = self.pool.activate(&self.container(id)?, false)?;
        self.source(disk, &self.layout.container_path(id, "fs"), false)
    }

    fn shown(&self, layers: &[ChainId]) -> Result<RootSource> {
        let chain = view::topmost(layers)?;
        let disk = self.pool.activate(&self.layer(chain)?, true)?;
        self.source(disk, &self.layout.layer_path(chain), true)
    }

    fn drop_layer(&self, chain: &ChainId) -> Result<()> {
        unless_busy::<Self>(self.layout.sweep())?;
        self.layout.remove_layer(chain)
    }

    fn container_usage(&self, id: &str) -> Result<Usage> {
        let device = self.container(id)?;
        let tree = measure(self.tree(&device, false)?.as_fd())?;
        Ok(own(tree, device.below))
    }

    fn measured(&self, chain: &ChainId) -> Result<Usage> {
        let device = self.layer(chain)?;
        let tree = measure(self.tree(&device, true)?.as_fd())?;
        Ok(own(tree, device.below))
    }

    fn space_taken(&self) -> Result<Space> {
        crate::sum(self)
    }

    fn forget(&self, chain: &ChainId) {
        // One that has a user stays.
        let _ = self.layer(chain).map(|device| self.pool.deactivate(&device, Duration::ZERO));
    }

    fn difference(&self, chain: &ChainId, draft: &LayerDraft) -> Result<Option<String>> {
        let device = self.layer(chain)?;
        self.forget(chain);
        match self.tree(&device, true) {
            Ok(tree) => crate::compare::difference(tree.as_fd(), draft.dir.as_fd()),
            Err(error) => Ok(Some(error.chain())),
        }
    }
}

/// The numbers that have a record.
fn known(layout: &Layout) -> Result<HashSet<u32>> {
    Ok(recorded(layout)?.into_iter().map(|device| device.id).collect())
}

/// The devices that have a record.
fn recorded(layout: &Layout) -> Result<Vec<Device>> {
    let mut found = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(layout.path(), flags, Mode::empty())
        .map_err(|e| failed("open", layout.path(), e))?;
    found.extend(record::of(&top, base::FOLDER, layout.path())?);
    // In the order in which a folder moves on: none is missed on its way.
    let folders = [
        ("ingest", &layout.ingest),
        ("layers", &layout.layers),
        ("containers", &layout.containers),
        ("replaced", &layout.replaced),
        ("trash", &layout.trash),
    ];
    for (name, dir) in folders {
        let path = layout.path().join(name);
        for entry in names(dir, &path)? {
            // A record that is damaged names no number, and its device is never given out twice by the pool.
            found.extend(record::of(dir, &entry, &path).ok().flatten());
        }
    }
    Ok(found)
}

/// What a tree has that it did not begin with. Files that were taken away count against what was added, as with
/// containerd's devmapper (plugins/snapshots/devmapper/snapshotter.go, `Usage`).
fn own(tree: Usage, below: Usage) -> Usage {
    Usage { bytes: tree.bytes.saturating_sub(below.bytes), inodes: tree.inodes.saturating_sub(below.inodes) }
}

fn filesystem(disk: String, read_only: bool) -> Filesystem {
    // Blocks that are freed go back to the pool, and tables of inodes that nobody needs take none (ext4(5)).
    let options: &[&str] = if read_only { &["ro"] } else { &["discard", "noinit_itable"] };
    Filesystem {
        kind: "ext4".into(),
        source: disk,
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Filesystem::default()
    }
}

/// All of a device's file system, attached nowhere.
fn mount(disk: &str, read_only: bool) -> Result<OwnedFd> {
    let source = RootSource::Filesystem(filesystem(disk.to_owned(), read_only));
    container::root::detached(&source, &RootIds::default(), container::root::Attach::Here)
        .map_err(|failure| Error::internal(failure.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_a_prefix_or_a_size_that_cannot_be_is_refused() {
        let good = DevmapperConfig { pool: "vg-pool".into(), ..DevmapperConfig::default() };
        good.check().expect("plain");
        assert_eq!(good.sectors(), (10 << 30) / 512);
        let refused = [
            DevmapperConfig { pool: String::new(), ..good.clone() },
            DevmapperConfig { pool: "../control".into(), ..good.clone() },
            DevmapperConfig { pool: "a b".into(), ..good.clone() },
            DevmapperConfig { prefix: "x".repeat(33), ..good.clone() },
            DevmapperConfig { prefix: "-c".into(), ..good.clone() },
            DevmapperConfig { bytes: 1 << 20, ..good.clone() },
            DevmapperConfig { bytes: u64::MAX, ..good.clone() },
        ];
        for config in refused {
            let error = config.check().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{config:?}");
        }
    }
}
