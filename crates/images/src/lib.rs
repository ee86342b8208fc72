//! Container images: resolve, fetch, verify, unpack, index, collect.
//!
//! Reads hostile registries and hostile images: every size, count and wait has a limit, every blob is
//! verified before it counts, and credentials go to nobody but the image's own registry. It never runs
//! anything from an image, never mounts, and writes nothing but its content store, the metadata and (by
//! the snapshotter) layers.
//!
//! The way of a pull: [`Images::pull`] → `pull` (the steps) → `registry` (the network) and `pull::layer`
//! (hash and unpack at once) → the snapshotter → `Inner::record` (one transaction).

mod check;
mod collect;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod index;
mod lease;
mod manifest;
mod names;
mod pinned;
mod platform;
mod progress;
mod prune;
mod pull;
mod reserve;
mod space;
mod transfer;
mod unsynced;

pub use check::{CheckEvent, CheckReport, Checked, Damage, Damaged};
pub use image::{ImageConfig, ImageRecord};
pub use pinned::Pinned;
pub use platform::Platform;
pub use progress::{LayerState, Progress, ProgressSender};
pub use prune::Pruned;
pub use registry::{Auth, Timeouts};
pub use snapshots::ChainId;
pub use space::{FsInfo, Usage};
pub use transfer::{
    ArchiveFormat, BlobDetails, Exported, ImageDetails, ImportOptions, Imported, Incoming, LayerDetails,
    PackConfig, PackOptions, PushProgress, PushSender, PushState, Pushed, StoredLayer, broken_off,
};

use collect::{Collector, When};
use content::Content;
use index::{Index, LayerRecord};
use pull::flight::Flights;
use registry::{RegistriesConf, Transport};
use reserve::Reserve;
use snapshots::Snapshotter;
use space::Measured;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use store::meta::{Meta, Table};
use types::{Digest, Error, ErrorKind, Reference, Result};
use unsynced::Unsynced;

/// How images are got and kept.
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// The daemon's root; content lies in `root/content`.
    pub root: PathBuf,
    /// A tree of `hosts.toml` files as containerd's `certs.d`.
    pub registry_config_path: Option<PathBuf>,
    /// Which of an index's images is taken.
    pub platform: Platform,
    /// Layers of one pull that are fetched side by side.
    pub max_concurrent_downloads: usize,
    /// Do not keep a compressed layer once it is unpacked: half the disk, and a repair needs the registry.
    pub discard_unpacked_layers: bool,
    /// Limits of waiting for registries.
    pub timeouts: Timeouts,
    /// Blobs that are fetched at the same time, by all pulls together.
    pub max_downloads: usize,
    /// A `registries.conf`, as CRI-O's.
    pub registries_conf: Option<PathBuf>,
    /// Which images may be used at all, as containers-policy.json(5); without it, all.
    pub policy: Option<PathBuf>,
    /// A folder of private keys (PEM) that open encrypted layers.
    pub decryption_keys: Option<PathBuf>,
    /// What work left that ended without an image is kept for this long, for the next attempt.
    pub collect_after: Duration,
    /// Images that are kept whatever happens, unless somebody names them for removal.
    pub pinned: Pinned,
    /// Bytes that stay free in the root's file system: what would need them is refused. 0: nothing is.
    pub min_free: u64,
    /// Bounds of each layer that is unpacked; its reserve is `min_free`, its budget that of the image.
    pub unpack: layers::UnpackLimits,
    /// Bytes that all layers of one image may unpack to.
    pub max_image_bytes: u64,
}

impl ImagesConfig {
    /// The defaults: this machine's platform, four layers side by side, compressed layers kept.
    pub fn new(root: impl Into<PathBuf>) -> ImagesConfig {
        ImagesConfig {
            root: root.into(),
            registry_config_path: None,
            platform: Platform::host(),
            max_concurrent_downloads: 4,
            discard_unpacked_layers: false,
            timeouts: Timeouts::default(),
            max_downloads: 8,
            registries_conf: None,
            policy: None,
            decryption_keys: None,
            collect_after: Duration::from_secs(45),
            pinned: Pinned::default(),
            min_free: 0,
            unpack: layers::UnpackLimits::DEFAULT,
            max_image_bytes: 256 << 30,
        }
    }

    /// The bounds of one image's layers.
    pub(crate) fn unpack_limits(&self) -> layers::UnpackLimits {
        let budget = Some(layers::Budget::new(self.max_image_bytes));
        layers::UnpackLimits { reserve: self.min_free, budget, ..self.unpack.clone() }
    }

    pub(crate) fn keeps_layers(&self) -> bool {
        !self.discard_unpacked_layers
    }
}

/// The images of this node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("root", &self.0.config.root).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub config: ImagesConfig,
    pub meta: Arc<Meta>,
    pub snapshotter: Arc<dyn Snapshotter>,
    pub content: Arc<Content>,
    /// What is recorded and not on the disk yet.
    pub unsynced: Arc<Unsynced>,
    pub transport: Arc<Transport>,
    /// When the next collection is due.
    pub collector: Arc<Collector>,
    /// Space that stays free.
    pub reserve: Reserve,
    measured: Measured,
    /// Held by a collection: there is one at a time.
    collecting: Mutex<()>,
    /// Told after each removal of a layer or blob, for leases that wait for its end.
    removed: tokio::sync::Notify,
    index: Mutex<Index>,
    /// Held, on blocking threads only, from reading the index to writing it and the metadata.
    recording: Mutex<()>,
    flights: Flights,
    layer_turns: Mutex<HashMap<ChainId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Images {
    /// Opens the images below `config.root`: what is recorded is checked against what is there, and what was
    /// being written when the last process ended is removed. Blocks on the disk; needs no runtime.
    pub fn open(config: ImagesConfig, meta: Arc<Meta>, snapshotter: Arc<dyn Snapshotter>) -> Result<Images> {
        Self::open_with_boot(config, meta, snapshotter, &unsynced::boot()?)
    }

    /// As [`Images::open`], in a boot that the caller names; for tests of power cuts.
    #[doc(hidden)]
    pub fn open_with_boot(
        config: ImagesConfig,
        meta: Arc<Meta>,
        snapshotter: Arc<dyn Snapshotter>,
        boot: &str,
    ) -> Result<Images> {
        let rows = unsynced::at_open(&meta, boot)?;
        let content = Arc::new(Content::open(&config.root.join("content"))?);
        let unsynced = Unsynced::new(boot.to_owned(), content.clone(), snapshotter.clone(), rows);
        let mut index = load(&meta, &content, snapshotter.as_ref())?;
        index.pin(config.pinned.clone());
        let names = config.registries_conf.as_ref().map(|path| Arc::new(RegistriesConf::new(path)));
        let transport = Transport::new(config.timeouts)
            .max_concurrent_downloads(config.max_downloads)
            .registries_conf(names);
        let transport = Arc::new(transport);
        let collector = Collector::new(config.collect_after);
        let inner = Arc::new(Inner {
            meta,
            snapshotter,
            content,
            unsynced,
            transport,
            collector: collector.clone(),
            reserve: Reserve::new(&config.root, config.min_free),
            measured: Measured::default(),
            collecting: Mutex::default(),
            removed: tokio::sync::Notify::new(),
            index: Mutex::new(index),
            recording: Mutex::default(),
            flights: Flights::default(),
            layer_turns: Mutex::default(),
            config,
        });
        collector.start(Arc::downgrade(&inner))?;
        inner.unsynced.wake(&inner.meta);
        Ok(Images(inner))
    }

    /// Pulls an image. A pull of the same reference with the same credentials that runs already is joined.
    /// Where the last of its callers goes away, the pull ends and leaves nothing that counts.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: Option<Auth>,
        progress: Option<ProgressSender>,
    ) -> Result<ImageRecord> {
        let key = (reference.clone(), auth.clone());
        let (inner, own) = (self.0.clone(), reference.clone());
        let record = self
            .0
            .flights
            .join(key, progress, move |listeners| pull::run(inner, own, auth, listeners))
            .await?;
        Ok(ImageRecord::clone(&record))
    }

    /// All images, from memory.
    pub fn list(&self) -> Vec<Arc<ImageRecord>> {
        self.0.index().list()
    }

    /// The image that `name` means: a reference in any spelling, an image id with or without `sha256:`, or
    /// the beginning of exactly one id.
    pub fn find(&self, name: &str) -> Option<Arc<ImageRecord>> {
        let name = self.known_name(name);
        self.0.index().find(&name)
    }

    /// Removes the image that `name` means, with all its names, and what only it needed. One that is gone
    /// is fine. Containers that use it keep their layers until they are released.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let Some(image) = self.find(name) else { return Ok(()) };
        let inner = self.0.clone();
        blocking(move || inner.forget(&image.id)).await?;
        if let Err(error) = self.collect().await {
            tracing::warn!(error = %error.chain(), "not everything of the image could be removed; the next collection tries again");
        }
        Ok(())
    }

    /// Keeps the image's layers for a container, whatever happens to the image. Only in memory.
    pub fn hold(&self, container: &str, image: &ImageRecord) {
        self.0.index().hold(container, Some(image.id.clone()), image.chain.clone());
    }

    /// Finds the image as [`Images::find`] does, and holds it as [`Images::hold`] does, in one step: no removal
    /// comes in between. `None`, and nothing held, where no image is recorded under that name.
    pub fn hold_image(&self, container: &str, name_or_id: &str) -> Option<Arc<ImageRecord>> {
        let name = self.known_name(name_or_id);
        let mut index = self.0.index();
        let image = index.find(&name)?;
        index.hold(container, Some(image.id.clone()), image.chain.clone());
        Some(image)
    }

    /// As [`Images::hold_image`] for the images that a container mounts: all are held, or none; then the first that is
    /// not there is given back. They are released with the container's own.
    pub fn hold_volumes(&self, container: &str, names: &[String]) -> Result<Vec<Arc<ImageRecord>>, String> {
        let mut index = self.0.index();
        let find = |name: &String| index.find(name).ok_or_else(|| name.clone());
        let images = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        for (number, image) in images.iter().enumerate() {
            index.hold(&format!("{container}/{number}"), Some(image.id.clone()), image.chain.clone());
        }
        Ok(images)
    }

    /// As [`Images::hold_volumes`], at recovery: the layers are known, the images need not be recorded any more.
    pub fn hold_volume_layers(&self, container: &str, volumes: &[Vec<ChainId>]) {
        let mut index = self.0.index();
        for (number, layers) in volumes.iter().enumerate() {
            index.hold(&format!("{container}/{number}"), None, layers.clone());
        }
    }

    /// As [`Images::hold`], for a container whose image is not recorded any more: at recovery the engine
    /// knows the layers, not the image.
    pub fn hold_layers(&self, container: &str, layers: Vec<ChainId>) {
        self.0.index().hold(container, None, layers);
    }

    /// The container needs its layers no more. What nobody else needs is collected soon.
    pub fn release(&self, container: &str) {
        if self.0.index().release(container) {
            self.0.collector.wake(When::Soon);
        }
    }

    /// The layers of an image, topmost first, as a snapshotter takes them.
    pub fn layers(&self, image: &ImageRecord) -> Vec<ChainId> {
        image.chain.iter().rev().cloned().collect()
    }

    /// Removes layers and blobs that no image, no holding container and no running work needs. Called by
    /// [`Images::remove`]; at start the engine calls it, once it has held for every container it recovered. From
    /// the first call on, collections run by themselves, too.
    pub async fn collect(&self) -> Result<()> {
        self.0.collector.arm();
        collect::run(self.0.clone()).await
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("root", &self.config.root).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.collector.close();
        self.unsynced.close();
    }
}

impl Inner {
    /// The index. Never held across an await, nor while the disk is waited for.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Writes an image, what the tags that moved to it left behind, its layers and its blobs, in one
    /// transaction; then it is listed. Blocks.
    pub(crate) fn record(&self, record: ImageRecord, layers: &[(ChainId, LayerRecord)]) -> Result<()> {
        let one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        self.write(&one_at_a_time, record, layers)
    }

    /// Gives the image `id` a tag, which belonged to the image `before` when the registry was asked. `None`
    /// where the image was removed, or the tag was moved, since then: a later answer is not undone. Blocks.
    pub(crate) fn add_tag(
        &self,
        id: &Digest,
        tag: &str,
        before: &Digest,
    ) -> Result<Option<Arc<ImageRecord>>> {
        let one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        let (record, owner) = {
            let index = self.index();
            (index.by_id(id), index.by_name(tag).map(|owner| owner.id.clone()))
        };
        let Some(record) = record else { return Ok(None) };
        if owner.as_ref() == Some(id) {
            return Ok(Some(record));
        }
        if owner.as_ref() != Some(before) {
            return Ok(None);
        }
        let mut record = ImageRecord::clone(&record);
        record.names.push(tag.to_owned());
        self.write(&one_at_a_time, record, &[])?;
        Ok(self.index().by_id(id))
    }

    fn write(
        &self,
        _recording: &MutexGuard<'_, ()>,
        record: ImageRecord,
        layers: &[(ChainId, LayerRecord)],
    ) -> Result<()> {
        let blobs: Vec<(Digest, u64)> = record
            .blobs
            .iter()
            .filter_map(|blob| self.content.occupied(blob).map(|bytes| (blob.clone(), bytes)))
            .collect();
        let planned = self.index().planned(record);
        self.meta.batch(|tx| {
            planned.iter().try_for_each(|image| tx.put(Table::Images, image.id.as_str(), image))?;
            layers.iter().try_for_each(|(layer, usage)| tx.put(Table::Layers, layer.as_str(), usage))?;
            blobs.iter().try_for_each(|(blob, bytes)| tx.put(Table::Blobs, blob.as_str(), bytes))?;
            self.unsynced.note(tx, &planned)
        })?;
        self.unsynced.wake(&self.meta);
        let mut index = self.index();
        index.insert(planned);
        index.layers.extend(layers.iter().cloned());
        index.blobs.extend(blobs);
        Ok(())
    }

    /// Removes an image's record. Blocks.
    fn forget(&self, id: &Digest) -> Result<()> {
        let _one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        self.meta.delete(Table::Images, id.as_str())?;
        self.index().remove(id);
        Ok(())
    }

    /// The lock of one layer, shared by all pulls that need it.
    pub(crate) fn layer_turn(&self, layer: &ChainId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.layer_turns.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(turn) = turns.get(layer).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(layer.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// Reads the records, and makes them agree with the disk.
fn load(meta: &Meta, content: &Content, snapshotter: &dyn Snapshotter) -> Result<Index> {
    let mut index = Index::default();
    let (mut layers, unreadable_layers) = meta.scan_readable::<LayerRecord>(Table::Layers)?;
    let recorded: HashSet<&str> = layers
        .iter()
        .map(|(k, _)| k.as_str())
        .chain(unreadable_layers.iter().map(|(k, _)| k.as_str()))
        .collect();
    let mut there: HashSet<ChainId> = HashSet::new();
    for layer in snapshotter.layers()? {
        if recorded.contains(layer.as_str()) {
            there.insert(layer);
        } else if let Err(error) = snapshotter.remove_layer(&layer) {
            // The pull that made it did not end, or the machine stopped before it was synced.
            tracing::warn!(%layer, error = %error.chain(), "an unrecorded layer could not be removed; the next collection tries again");
        }
    }
    drop(recorded);
    let (mut broken, mut gone) = (Vec::new(), Vec::new());
    let (images, unreadable) = meta.scan_readable::<ImageRecord>(Table::Images)?;
    warn_unreadable(&unreadable, "it has to be pulled again");
    broken.extend(unreadable.into_iter().map(|(key, _)| key));
    for (key, record) in images {
        match record.chain.iter().find(|layer| !there.contains(*layer)) {
            None => index.insert(vec![record]),
            Some(layer) => {
                tracing::warn!(image = %record.id, names = ?record.names, %layer, snapshotter = snapshotter.name(), "a layer of this image is not there; it has to be pulled again");
                broken.push(key);
            }
        }
    }
    // What these two tables say can be measured again, where the thing itself is there.
    warn_unreadable(&unreadable_layers, "the layer is measured again");
    let mut measured: Vec<(String, LayerRecord)> = Vec::new();
    for (key, _) in unreadable_layers {
        let found = there.iter().find(|layer| layer.as_str() == key);
        match found.and_then(|layer| snapshotter.layer_usage(layer).ok()) {
            Some(usage) => measured.push((key, usage.into())),
            None => gone.push(key),
        }
    }
    let (blobs, unreadable) = meta.scan_readable::<u64>(Table::Blobs)?;
    warn_unreadable(&unreadable, "the blob is measured again");
    let unreadable: HashSet<String> = unreadable.into_iter().map(|(key, _)| key).collect();
    let mut recorded: HashSet<String> = blobs.into_iter().map(|(k, _)| k).collect();
    recorded.extend(unreadable.iter().cloned());
    let mut weighed: Vec<(Digest, u64)> = Vec::new();
    for (blob, bytes) in content.blobs()? {
        if recorded.remove(blob.as_str()) {
            if unreadable.contains(blob.as_str()) {
                weighed.push((blob.clone(), bytes));
            }
            index.blobs.insert(blob, bytes);
        } else {
            // The pull that fetched it did not end.
            content.remove(&blob)?;
        }
    }
    // A blob that an image has and the disk lost stays recorded: a check names it, and the next pull brings it.
    recorded.retain(|key| match Digest::parse(key) {
        Ok(blob) if index.needs_blob(&blob) => {
            tracing::warn!(%blob, "a recorded blob is not there; `corten images check --repair` fetches it again");
            index.blobs.insert(blob, 0);
            false
        }
        _ => true,
    });
    let names: HashSet<&str> = there.iter().map(Digest::as_str).collect();
    gone.extend(layers.iter().map(|(k, _)| k.clone()).filter(|k| !names.contains(k.as_str())));
    let nothing_gone = broken.is_empty() && recorded.is_empty() && gone.is_empty();
    if !(nothing_gone && measured.is_empty() && weighed.is_empty()) {
        meta.batch(|tx| {
            measured.iter().try_for_each(|(key, usage)| tx.put(Table::Layers, key, usage))?;
            weighed.iter().try_for_each(|(blob, bytes)| tx.put(Table::Blobs, blob.as_str(), bytes))?;
            broken.iter().try_for_each(|key| tx.delete(Table::Images, key))?;
            recorded.iter().try_for_each(|key| tx.delete(Table::Blobs, key))?;
            gone.iter().try_for_each(|key| tx.delete(Table::Layers, key))
        })?;
    }
    layers.extend(measured);
    for (key, usage) in layers {
        if let Ok(layer) = Digest::parse(&key)
            && there.contains(&layer)
        {
            index.layers.insert(layer, usage);
        }
    }
    Ok(index)
}

/// One row that cannot be read is no reason to have none of the images.
fn warn_unreadable(rows: &[(String, Error)], what_now: &str) {
    for (_, error) in rows {
        tracing::warn!(error = %error.chain(), what_now, "a record is damaged and is dropped");
    }
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        Err(Error::with_source(ErrorKind::Internal, "work on the disk ended without a result", cause))
    })
}
