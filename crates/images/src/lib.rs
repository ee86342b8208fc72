//! Container images: resolve, fetch, verify, unpack, index, collect.
//!
//! Reads hostile registries and hostile images: every size, count and wait has a limit, every blob is
//! verified before it counts, and credentials go to nobody but the image's own registry. It never runs
//! anything from an image, never mounts, and writes nothing but its content store, the metadata and (by
//! the snapshotter) layers.
//!
//! The way of a pull: [`Images::pull`] → `pull` (the steps) → `registry` (the network) and `pull::layer`
//! (hash and unpack at once) → the snapshotter → `Inner::record` (one transaction).

mod artifact;
mod check;
mod collect;
mod evidence;
mod fingerprints;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod index;
mod lease;
mod load;
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
pub use evidence::Evidence;
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
    PackConfig, PackOptions, PushProgress, PushSender, PushState, Pushed, StoredLayer, broken_off, stalled,
};

use collect::{Collector, When};
use content::Content;
use fingerprints::Fingerprints;
use index::{Index, LayerRecord};
use pull::flight::Flights;
use registry::{RegistriesConf, Transport};
use reserve::Reserve;
use snapshots::Snapshotter;
use space::Measured;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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
    pub(crate) fn unpack_limits(&self, snapshotter: &dyn Snapshotter) -> layers::UnpackLimits {
        let budget = Some(layers::Budget::new(self.max_image_bytes));
        let reserve = if snapshotter.has_own_disks() { 0 } else { self.min_free };
        layers::UnpackLimits { reserve, budget, ..self.unpack.clone() }
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
    /// What layers are that have no blobs.
    fingerprints: Arc<Fingerprints>,
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
        let mut index = load::load(&meta, &content, snapshotter.as_ref())?;
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
            fingerprints: Arc::default(),
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
        if !inner.config.keeps_layers() {
            inner.fingerprints.start(Arc::downgrade(&inner))?;
        }
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
        let known: Vec<String> = names.iter().map(|name| self.known_name(name)).collect();
        let mut index = self.0.index();
        let find = |(name, known): (&String, &String)| index.find(known).ok_or_else(|| name.clone());
        let images = names.iter().zip(&known).map(find).collect::<Result<Vec<_>, _>>()?;
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

    /// Nothing is collected as long as this process lives: there are containers of which it is not known what they
    /// hold. [`Images::collect`] and [`Images::prune`] are refused from now on.
    pub fn keep_all(&self) {
        self.0.collector.bar();
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
        self.fingerprints.close();
        self.unsynced.close();
    }
}

impl Inner {
    /// The index. Never held across an await, nor while the disk is waited for.
    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Writes an image, what the tags that moved to it left behind, its layers and its blobs, in one
    /// transaction; then it is listed. Not where the work was given up: blocking work outlives the task that began it. Blocks.
    pub(crate) fn record_unless(
        &self,
        given_up: &AtomicBool,
        record: ImageRecord,
        layers: &[(ChainId, LayerRecord)],
    ) -> Result<()> {
        let one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        if given_up.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the pull was given up"));
        }
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
        let (planned, layers) = {
            let index = self.index();
            if let Some(there) = index.by_id(&record.id)
                && there.is_artifact() != record.is_artifact()
            {
                return Err(Error::invalid(format!(
                    "{} is the configuration of one image and the manifest of another; remove the one that is here, and pull \
                     again",
                    record.id
                )));
            }
            // A check may have found one damaged since it was looked at; only what repairs it takes that back.
            let known = |layer: &ChainId| index.layers.get(layer).copied().unwrap_or_default();
            let layers: Vec<_> = layers
                .iter()
                .filter(|(layer, _)| !known(layer).damaged)
                .map(|(layer, new)| {
                    let fingerprint = new.fingerprint.or(known(layer).fingerprint);
                    (layer.clone(), LayerRecord { fingerprint, ..*new })
                })
                .collect();
            (index.planned(record), layers)
        };
        self.meta.batch(|tx| {
            planned.iter().try_for_each(|image| tx.put(Table::Images, image.id.as_str(), image))?;
            layers.iter().try_for_each(|(layer, usage)| tx.put(Table::Layers, layer.as_str(), usage))?;
            blobs.iter().try_for_each(|(blob, bytes)| tx.put(Table::Blobs, blob.as_str(), bytes))?;
            self.unsynced.note(tx, &planned)
        })?;
        self.unsynced.wake(&self.meta);
        let mut index = self.index();
        index.insert(planned);
        index.layers.extend(layers);
        index.blobs.extend(blobs);
        self.fingerprints.wake();
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

/// Tells blocking work, which outlives the task that began it, that nobody waits for it any more.
#[derive(Default)]
pub(crate) struct Stop(pub Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: &str) -> Digest {
        Digest::parse(&format!("sha256:{}", byte.repeat(32))).expect("digest")
    }

    fn image(layer: &ChainId) -> ImageRecord {
        ImageRecord {
            id: digest("0a"),
            names: vec!["h.io/a:1".to_owned()],
            digests: Vec::new(),
            manifest: digest("0b"),
            config: ImageConfig::default(),
            chain: vec![layer.clone()],
            size: 1,
            created: None,
            pulled_at: 0,
            blobs: Vec::new(),
            pinned: false,
            evidence: Evidence::default(),
        }
    }

    fn open(dir: &std::path::Path) -> Images {
        let meta = Arc::new(Meta::open(&dir.join("meta.redb")).expect("meta"));
        let snapshotter = snapshots::open("native", &dir.join("snapshots")).expect("snapshots");
        Images::open(ImagesConfig::new(dir), meta, snapshotter).expect("images")
    }

    #[test]
    fn a_layer_that_a_check_found_damaged_stays_so_when_a_pull_records_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (images, layer) = (open(dir.path()), digest("a1"));
        let whole = LayerRecord { bytes: 1, inodes: 1, ..LayerRecord::default() };
        let record =
            || images.0.record_unless(&AtomicBool::new(false), image(&layer), &[(layer.clone(), whole)]);
        record().expect("record");
        images.0.note_layer(&layer, LayerRecord { damaged: true, ..whole }).expect("note");
        // What the pull saw before the check came.
        record().expect("record again");
        assert!(images.0.index().layers[&layer].damaged);
        let rows = images.0.meta.scan::<LayerRecord>(Table::Layers).expect("scan");
        assert!(rows.len() == 1 && rows[0].1.damaged);
        images.0.note_layer(&layer, whole).expect("repaired");
        assert!(!images.0.index().layers[&layer].damaged);
    }

    #[test]
    fn an_artifact_and_an_image_cannot_have_one_id() {
        let dir = tempfile::tempdir().expect("temp dir");
        let images = open(dir.path());
        let (one, layer) = (AtomicBool::new(false), digest("a1"));
        images.0.record_unless(&one, image(&layer), &[]).expect("an image");
        let artifact = ImageRecord { manifest: digest("0a"), ..image(&layer) };
        assert!(artifact.is_artifact() && !image(&layer).is_artifact());
        let error = images.0.record_unless(&one, artifact.clone(), &[]).expect_err("the same id");
        assert!(error.message().contains(digest("0a").as_str()), "{error}");
        assert_eq!(images.list()[0].manifest, digest("0b"), "what is there stays");
        images.0.forget(&digest("0a")).expect("forget");
        images.0.record_unless(&one, artifact, &[]).expect("an artifact");
        assert!(images.0.record_unless(&one, image(&layer), &[]).is_err());
    }

    #[test]
    fn work_that_was_given_up_records_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let images = open(dir.path());
        let stop = Stop::default();
        let given_up = stop.0.clone();
        drop(stop);
        let error = images.0.record_unless(&given_up, image(&digest("a1")), &[]).expect_err("given up");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(images.list().is_empty());
    }
}
