//! Unpacked image layers and the writable layers of containers, behind one contract.
//!
//! It never mounts anything that a mount table shows, never touches an image's content, and knows nothing of
//! images: layers are named by their chain id alone.
//!
//! ```text
//! <root>/<name>/layers/<hex of the chain id>/{fs,meta.json}   committed, durable, never written again
//! <root>/<name>/containers/<id>/{fs,work}            writable, not synced
//! <root>/<name>/ingest/…  trash/…                    half made, half gone: swept when it is opened
//! ```
//! A thing is made in `ingest` and renamed into its place whole; it is renamed into `trash` and deleted there.
//! So whatever has its place is complete, at every moment and after a kill.

mod btrfs;
mod compare;
mod devmapper;
mod drafts;
mod durable;
mod erofs;
mod fingerprint;
mod layout;
mod local;
mod native;
mod overlay;
mod program;
mod quota;
mod record;
mod remove;
mod repair;
mod usage;
mod view;
mod writable;
mod zfs;

pub use devmapper::DevmapperConfig;
pub use drafts::Drafts;
pub use layout::LayerDraft;
pub use usage::Usage;
pub use zfs::ZfsConfig;

use container::plan::RootSource;
use std::path::Path;
use std::sync::Arc;
use types::{Error, Result};

/// The name of a layer together with everything below it. Of an image it is a sha256 (OCI image spec, "Layer ChainID"), of
/// an artifact a sha512: neither can be taken for the other.
pub type ChainId = types::Digest;

/// Space that everything of a snapshotter takes, as `du` counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Layers, with what is half made and half gone.
    pub layers: Usage,
    /// Writable layers of containers.
    pub containers: Usage,
}

/// What a container's writable layer is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writable {
    /// The most bytes that it takes; `None` is as many as the disk has.
    pub bytes: Option<u64>,
    /// Who owns the root of it on the node: what the container's user namespace maps its root to.
    pub owner: Option<(u32, u32)>,
}

/// A layer of an image that is being pulled, for a snapshotter that can get it by itself.
#[derive(Debug, Clone, Copy)]
pub struct RemoteLayer<'a> {
    /// Its chain id.
    pub chain: &'a ChainId,
    /// That of the layer below, which is committed.
    pub parent: Option<&'a ChainId>,
    /// The image, as `host/path:tag` or `host/path@digest`.
    pub reference: &'a str,
    /// The layer's blob in the registry.
    pub digest: &'a types::Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// The blobs of this layer and those above it, the bottom one first.
    pub above: &'a [types::Digest],
    /// The image's manifest.
    pub manifest: &'a types::Digest,
    /// What the manifest says about the layer.
    pub annotations: &'a std::collections::BTreeMap<String, String>,
}

/// Stores layers and makes writable layers on top of them. All calls block; call from a blocking thread.
pub trait Snapshotter: Send + Sync + 'static {
    /// Its name in the configuration and on the disk.
    fn name(&self) -> &'static str;
    /// What unpacking has to make of whiteouts.
    fn whiteouts(&self) -> layers::WhiteoutMode;
    /// True when a layer can be unpacked before its parent is committed.
    fn parallel(&self) -> bool;
    /// Whether the layer is committed.
    fn has_layer(&self, chain: &ChainId) -> bool;
    /// A private directory to unpack `chain` into: empty, or (native) a copy of `parent`.
    fn begin_layer(&self, chain: &ChainId, parent: Option<&ChainId>) -> Result<LayerDraft>;
    /// Settles what was left open against the parents (topmost first, committed by now), makes everything
    /// durable, and puts the layer in place. Committing what is there already succeeds and drops the draft.
    fn commit_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()>;
    /// As [`Snapshotter::commit_layer`], but durability may be left to a later [`Snapshotter::sync`]: until then the
    /// layer is whole against a kill, not against a power cut. Whoever records it says so in the record.
    fn commit_layer_unsynced(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        self.commit_layer(draft, chain, parents, unpacked)
    }
    /// Makes all layers durable that are committed by now.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// Removes a layer. What is gone already is no error.
    fn remove_layer(&self, chain: &ChainId) -> Result<()>;
    /// The committed layers, in no order.
    fn layers(&self) -> Result<Vec<ChainId>>;
    /// A writable layer for a container on top of `layers` (all ancestors, topmost first). Repeating it for
    /// the same container keeps what is there and gives the same root. Nothing is synced.
    fn prepare_with(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource>;
    /// [`Snapshotter::prepare_with`] without a bound, for root.
    fn prepare(&self, id: &str, layers: &[ChainId]) -> Result<RootSource> {
        self.prepare_with(id, layers, &Writable::default())
    }
    /// All of `layers` (topmost first) without a writable layer, such that nobody can write to them through it, whatever
    /// they may do to mounts. Nothing is recorded; whoever uses it keeps the layers from being removed.
    fn view(&self, layers: &[ChainId]) -> Result<RootSource>;
    /// Removes a container's writable layer. What is gone already is no error.
    fn remove(&self, id: &str) -> Result<()>;
    /// The containers that have a writable layer, in no order.
    fn containers(&self) -> Result<Vec<String>>;
    /// Space that a container's writable layer takes (native: the whole copy).
    fn usage(&self, id: &str) -> Result<Usage>;
    /// Space that a layer takes (native: the whole copy). Measured when it was committed.
    fn layer_usage(&self, chain: &ChainId) -> Result<Usage>;

    /// Measures a layer now; as [`Snapshotter::layer_usage`] where that is not possible.
    fn measure_layer(&self, chain: &ChainId) -> Result<Usage> {
        self.layer_usage(chain)
    }

    /// Whether each layer has a file system of its own: what is free in it then tells nothing of the node's disk.
    fn has_own_disks(&self) -> bool {
        false
    }

    /// Whether [`Snapshotter::remote_layer`] is worth asking.
    fn fetches_layers(&self) -> bool {
        false
    }

    /// Lets the snapshotter get a layer by itself, for example file by file when they are read. True: the layer is
    /// committed. False: it cannot, and the layer has to be fetched and unpacked.
    fn remote_layer(&self, _layer: &RemoteLayer<'_>) -> Result<bool> {
        Ok(false)
    }

    /// Tries again what an earlier removal could not finish.
    fn sweep(&self) -> Result<()> {
        Ok(())
    }

    /// Space that all layers and all writable layers take.
    fn space(&self) -> Result<Space> {
        sum(self)
    }

    /// Looks whether a committed layer is what its archive makes of it: `draft` is the same archive unpacked again,
    /// and is settled here as by [`Snapshotter::commit_layer`]. What differs first is told in words.
    fn verify_layer(
        &self,
        _draft: &LayerDraft,
        _chain: &ChainId,
        _parents: &[ChainId],
        _unpacked: &layers::Unpacked,
    ) -> Result<Option<String>> {
        Err(no_repair(self.name()))
    }

    /// One number for all that a committed layer is, every byte included; `None` where that cannot be looked at.
    /// `from_disk`: what the kernel has of it in memory is not believed, as far as it can be dropped.
    fn fingerprint_layer(&self, _chain: &ChainId, _from_disk: bool) -> Result<Option<[u8; 32]>> {
        Ok(None)
    }

    /// As [`Snapshotter::commit_layer`], where the layer that is there is damaged: it is exchanged in one step, and
    /// kept beside for the containers whose mounts still show it. `users` says who may have one; it is asked after the exchange,
    /// for a mount that is made until then shows the old one.
    fn replace_layer(
        &self,
        _draft: LayerDraft,
        _chain: &ChainId,
        _parents: &[ChainId],
        _unpacked: &layers::Unpacked,
        _users: &dyn Fn() -> Vec<String>,
    ) -> Result<()> {
        Err(no_repair(self.name()))
    }

    /// The layers that were replaced and are still there, each with the containers that it is kept for. Where the process
    /// that replaced one did not come to say that, these are the ones that hold the layer now, by `holders`. Not to be
    /// called before containers of an earlier process have said what they hold, nor while a layer is replaced.
    fn replaced(&self, _holders: &dyn Fn(&ChainId) -> Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
        Ok(Vec::new())
    }

    /// Removes a replaced layer. What is gone already is no error.
    fn remove_replaced(&self, _name: &str) -> Result<()> {
        Ok(())
    }
}

/// What is known of each layer and each container, added up.
fn sum(all: &(impl Snapshotter + ?Sized)) -> Result<Space> {
    let mut space = Space::default();
    let add = |sum: &mut Usage, one: Usage| {
        sum.bytes += one.bytes;
        sum.inodes += one.inodes;
    };
    // What is removed meanwhile takes no space.
    for layer in all.layers()? {
        add(&mut space.layers, all.layer_usage(&layer).unwrap_or_default());
    }
    for container in all.containers()? {
        add(&mut space.containers, all.usage(&container).unwrap_or_default());
    }
    Ok(space)
}

fn no_repair(name: &str) -> Error {
    Error::new(
        types::ErrorKind::Unimplemented,
        format!(
            "layers of the snapshotter {name} cannot be compared with their archives; remove the image and pull it again"
        ),
    )
}

/// Opens the snapshotter `name` under `root`, which is made where it is missing, and
/// sweeps what an earlier process left half done. One process at a time may have it open.
pub fn open(name: &str, root: &Path) -> Result<Arc<dyn Snapshotter>> {
    match name {
        overlay::NAME => Ok(Arc::new(overlay::Overlayfs::open(root)?)),
        native::NAME => Ok(Arc::new(native::Native::open(root)?)),
        erofs::NAME => Ok(Arc::new(erofs::Erofs::open(root)?)),
        btrfs::NAME => Ok(Arc::new(btrfs::Btrfs::open(root)?)),
        devmapper::NAME => open_devmapper(root, &DevmapperConfig::default()),
        zfs::NAME => open_zfs(root, &ZfsConfig::default()),
        other => Err(Error::invalid(format!(
            "there is no snapshotter {other:?}; there are overlayfs, erofs, btrfs, devmapper, zfs and native"
        ))),
    }
}

/// As [`open`], for the snapshotter `devmapper`.
///
/// # Errors
/// `FailedPrecondition` where there is no device-mapper, no such thin pool, or none that can be used.
pub fn open_devmapper(root: &Path, config: &DevmapperConfig) -> Result<Arc<dyn Snapshotter>> {
    Ok(Arc::new(devmapper::Devmapper::open(root, config)?))
}

/// As [`open`], for the snapshotter `zfs`.
///
/// # Errors
/// `FailedPrecondition` where there is no program `zfs` or no such data set.
pub fn open_zfs(root: &Path, config: &ZfsConfig) -> Result<Arc<dyn Snapshotter>> {
    Ok(Arc::new(zfs::Zfs::open(root, config)?))
}

/// Opens overlayfs, or native with a warning where overlayfs does not work. Where overlayfs has layers from
/// before, it is refused: to change over by itself would make every image and container a stranger.
pub fn open_auto(root: &Path) -> Result<Arc<dyn Snapshotter>> {
    match open(overlay::NAME, root) {
        Ok(snapshotter) => Ok(snapshotter),
        Err(error) => {
            let folder = root.join(overlay::NAME).join("layers");
            if has_entries(&folder) {
                let kind = error.kind();
                return Err(Error::with_source(
                    kind,
                    format!(
                        "overlayfs does not work now, and {} holds layers that it made: repair what keeps it from \
                         working, or set the snapshotter to native and pull every image again",
                        folder.display()
                    ),
                    error,
                ));
            }
            tracing::warn!(
                error = error.chain(),
                "overlayfs does not work here; every layer and container will be a full copy (native)"
            );
            open(native::NAME, root)
        }
    }
}

/// A path of ours in a launch plan.
pub(crate) fn text(path: &Path) -> Result<String> {
    // The root was found to be UTF-8 when it was opened, and our own names are ASCII.
    path.to_str().map(str::to_owned).ok_or_else(|| Error::internal("a snapshot's path is not UTF-8"))
}

/// Whether what failed did so because somebody still uses it.
pub(crate) fn is_busy(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        let errno = cause.downcast_ref::<std::io::Error>().and_then(rustix::io::Errno::from_io_error);
        if errno == Some(rustix::io::Errno::BUSY) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether there is something in a directory. What cannot be looked at may hold something.
fn has_entries(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}
