//! What is recorded before it is on the disk: a pull returns when all is verified, unpacked and recorded against
//! a kill; the disk follows.
//!
//! A row of [`Table::Unsynced`] names the layers and blobs of one recording that were not synced by then, and the
//! boot in which that was. It goes after a sync that began after it was written. At open a row of another boot
//! says that the machine stopped before: its layers, its blobs, and every image that needs one of them count as
//! never recorded. A row of this boot says that only the process ended: the page cache has everything.
//!
//! It never syncs on the way of a pull, and never drops what a sync has confirmed.

use crate::image::ImageRecord;
use content::Content;
use serde::{Deserialize, Serialize};
use snapshots::{ChainId, Snapshotter};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use store::meta::{Batch, Meta, Table};
use types::{Digest, Error, ErrorKind, Result};

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `/proc/sys/kernel/random/boot_id` when it was written (random(4)).
    pub boot: String,
    /// Layers that are in place and not synced.
    pub layers: Vec<ChainId>,
    /// Blobs that are in place and not synced.
    pub blobs: Vec<Digest>,
}

/// A sync of this number, or a later one, is what a thing waits for.
type Round = u64;
/// Of what a sync failed on: no later success says anything about it (syncfs(2), ERRORS).
const NEVER: Round = u64::MAX;

/// What waits for the disk.
pub(crate) struct Unsynced {
    boot: String,
    content: Arc<Content>,
    snapshotter: Arc<dyn Snapshotter>,
    state: Mutex<State>,
    /// Held while rows are taken off; the metadata must not be closed meanwhile.
    clearing: Mutex<()>,
}

#[derive(Default)]
struct State {
    layers: HashMap<ChainId, Round>,
    blobs: HashMap<Digest, Round>,
    rows: HashMap<String, Round>,
    /// The number of the sync that begins next.
    next: Round,
    running: bool,
    closed: bool,
}

impl Unsynced {
    /// `rows` are those that [`at_open`] left.
    pub(crate) fn new(
        boot: String,
        content: Arc<Content>,
        snapshotter: Arc<dyn Snapshotter>,
        rows: Vec<(String, Row)>,
    ) -> Arc<Unsynced> {
        let mut state = State::default();
        for (key, row) in rows {
            state.layers.extend(row.layers.into_iter().map(|layer| (layer, 0)));
            state.blobs.extend(row.blobs.into_iter().map(|blob| (blob, 0)));
            state.rows.insert(key, 0);
        }
        Arc::new(Unsynced {
            boot,
            content,
            snapshotter,
            state: Mutex::new(state),
            clearing: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A layer that is put in place without a sync: told before, so that nobody takes it for a durable one, and
    /// again when it is there, so that no sync that began in between counts.
    pub(crate) fn layer(&self, layer: &ChainId) {
        let mut state = self.state();
        let next = state.next;
        state.layers.insert(layer.clone(), next);
    }

    /// As [`Unsynced::layer`].
    pub(crate) fn blob(&self, blob: &Digest) {
        let mut state = self.state();
        let next = state.next;
        state.blobs.insert(blob.clone(), next);
    }

    /// Whether one of these layers waits for the disk.
    pub(crate) fn has_layer_of(&self, layers: &[ChainId]) -> bool {
        let state = self.state();
        layers.iter().any(|layer| state.layers.contains_key(layer))
    }

    /// Adds to a transaction what the images that it writes need and the disk does not have yet. [`Unsynced::wake`]
    /// has to follow once it is committed.
    pub(crate) fn note(&self, tx: &mut Batch<'_>, images: &[ImageRecord]) -> Result<()> {
        let mut state = self.state();
        let mut layers: HashSet<ChainId> = HashSet::new();
        let mut blobs: HashSet<Digest> = HashSet::new();
        let mut waits = state.next;
        for image in images {
            let parts = image.chain.iter().filter_map(|layer| state.layers.get(layer));
            let parts = parts.chain(image.blobs.iter().filter_map(|blob| state.blobs.get(blob)));
            waits = parts.copied().fold(waits, Round::max);
            layers.extend(image.chain.iter().filter(|layer| state.layers.contains_key(layer)).cloned());
            blobs.extend(image.blobs.iter().filter(|blob| state.blobs.contains_key(blob)).cloned());
        }
        if layers.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        let (mut layers, mut blobs): (Vec<_>, Vec<_>) =
            (layers.into_iter().collect(), blobs.into_iter().collect());
        layers.sort();
        blobs.sort();
        let key = key(&state.rows);
        tx.put(Table::Unsynced, &key, &Row { boot: self.boot.clone(), layers, blobs })?;
        // A transaction that fails leaves a row here that is not there: taking it off is then nothing.
        // One part that a sync failed on is enough: no later sync says anything about the row.
        state.rows.insert(key, waits);
        Ok(())
    }

    /// Syncs on a thread of its own, unless nothing waits or one does so already.
    pub(crate) fn wake(self: &Arc<Self>, meta: &Arc<Meta>) {
        {
            let mut state = self.state();
            if state.running || state.closed || !state.waits() {
                return;
            }
            state.running = true;
        }
        // Weak: whoever closes the metadata need not wait for a disk.
        let (this, meta) = (self.clone(), Arc::downgrade(meta));
        let thread = std::thread::Builder::new().name("images-sync".to_owned());
        if let Err(error) = thread.spawn(move || this.run(&meta)) {
            tracing::warn!(%error, "no thread for a sync; the next pull tries again");
            self.state().running = false;
        }
    }

    fn run(&self, meta: &Weak<Meta>) {
        loop {
            let round = {
                let mut state = self.state();
                if state.closed || !state.waits() {
                    state.running = false;
                    return;
                }
                state.next += 1;
                state.next
            };
            let synced = self.content.sync().and_then(|()| self.snapshotter.sync());
            let _clearing = self.clearing.lock().unwrap_or_else(|e| e.into_inner());
            if let Err(error) = synced {
                tracing::warn!(error = %error.chain(), "images could not be synced; after a power cut they have to be pulled again");
                self.state().given_up(round);
                continue;
            }
            if self.state().closed {
                return;
            }
            let Some(meta) = meta.upgrade() else { return };
            self.cleared(&meta, round);
        }
    }

    /// What waited for a sync before `round` has had it.
    fn cleared(&self, meta: &Meta, round: Round) {
        let done: Vec<String> = self
            .state()
            .rows
            .iter()
            .filter(|(_, waits)| **waits < round)
            .map(|(key, _)| key.clone())
            .collect();
        let outcome = meta.batch(|tx| done.iter().try_for_each(|key| tx.delete(Table::Unsynced, key)));
        let mut state = self.state();
        match outcome {
            Ok(()) => {
                state.rows.retain(|_, waits| *waits >= round);
                state.layers.retain(|_, waits| *waits >= round);
                state.blobs.retain(|_, waits| *waits >= round);
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "that images are synced could not be recorded");
                state.given_up(round);
            }
        }
    }

    /// Nothing is written to the metadata once this returns. What still waits stays recorded.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        drop(self.clearing.lock().unwrap_or_else(|e| e.into_inner()));
    }
}

impl State {
    fn waits(&self) -> bool {
        self.rows.values().any(|waits| *waits != NEVER)
    }

    fn given_up(&mut self, round: Round) {
        let all = self.rows.values_mut().chain(self.layers.values_mut()).chain(self.blobs.values_mut());
        all.filter(|waits| **waits < round).for_each(|waits| *waits = NEVER);
    }
}

/// A key that no row has: the clock, moved on where that was taken.
fn key(rows: &HashMap<String, Round>) -> String {
    let mut number = types::time::now_nanos().cast_unsigned();
    loop {
        let key = format!("{number:016x}");
        if !rows.contains_key(&key) {
            return key;
        }
        number = number.wrapping_add(1);
    }
}

/// The boot that this is.
pub(crate) fn boot() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH)
        .map_err(|cause| Error::with_source(ErrorKind::Internal, format!("cannot read {PATH}"), cause))?;
    Ok(text.trim().to_owned())
}

/// Takes out of the records what was not synced when the machine stopped. The layers and blobs themselves are
/// unrecorded then, and go as such. Gives the rows of this boot.
pub(crate) fn at_open(meta: &Meta, boot: &str) -> Result<Vec<(String, Row)>> {
    let (rows, unreadable) = meta.scan_readable::<Row>(Table::Unsynced)?;
    for (key, error) in &unreadable {
        tracing::warn!(key, error = %error.chain(), "what was not synced cannot be told; `corten images check` finds damage");
    }
    let (live, stale): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.boot == boot);
    if stale.is_empty() && unreadable.is_empty() {
        return Ok(live);
    }
    let layers: HashSet<&ChainId> = stale.iter().flat_map(|(_, row)| &row.layers).collect();
    let blobs: HashSet<&Digest> = stale.iter().flat_map(|(_, row)| &row.blobs).collect();
    let (images, _) = meta.scan_readable::<ImageRecord>(Table::Images)?;
    let lost = images.iter().filter(|(_, image)| {
        image.chain.iter().any(|layer| layers.contains(layer))
            || image.blobs.iter().any(|blob| blobs.contains(blob))
    });
    let lost: Vec<&String> = lost
        .map(|(key, image)| {
            tracing::warn!(image = %image.id, names = ?image.names, "the machine stopped before this image was on the disk; it has to be pulled again");
            key
        })
        .collect();
    meta.batch(|tx| {
        lost.iter().try_for_each(|key| tx.delete(Table::Images, key))?;
        layers.iter().try_for_each(|layer| tx.delete(Table::Layers, layer.as_str()))?;
        blobs.iter().try_for_each(|blob| tx.delete(Table::Blobs, blob.as_str()))?;
        let keys = stale.iter().map(|(key, _)| key).chain(unreadable.iter().map(|(key, _)| key));
        keys.into_iter().try_for_each(|key| tx.delete(Table::Unsynced, key))
    })?;
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;

    fn digest(byte: &str) -> Digest {
        Digest::parse(&format!("sha256:{}", byte.repeat(32))).expect("digest")
    }

    fn image(id: &str, chain: &[&str], blobs: &[&str]) -> ImageRecord {
        ImageRecord {
            id: digest(id),
            names: vec![format!("h.io/{id}:1")],
            digests: Vec::new(),
            manifest: digest(id),
            config: ImageConfig::default(),
            chain: chain.iter().map(|layer| digest(layer)).collect(),
            size: 1,
            created: None,
            pulled_at: 0,
            blobs: blobs.iter().map(|blob| digest(blob)).collect(),
            pinned: false,
            evidence: Default::default(),
        }
    }

    struct Setup {
        _dir: tempfile::TempDir,
        meta: Arc<Meta>,
        unsynced: Arc<Unsynced>,
    }

    fn setup() -> Setup {
        let dir = tempfile::tempdir().expect("temp dir");
        let meta = Arc::new(Meta::open(&dir.path().join("meta.redb")).expect("meta"));
        let content = Arc::new(Content::open(&dir.path().join("content")).expect("content"));
        let snapshotter = snapshots::open("native", &dir.path().join("snapshots")).expect("snapshots");
        let unsynced = Unsynced::new("this".to_owned(), content, snapshotter, Vec::new());
        Setup { _dir: dir, meta, unsynced }
    }

    fn record(setup: &Setup, image: ImageRecord) {
        setup
            .meta
            .batch(|tx| {
                tx.put(Table::Images, image.id.as_str(), &image)?;
                image.chain.iter().try_for_each(|layer| tx.put(Table::Layers, layer.as_str(), &0))?;
                image.blobs.iter().try_for_each(|blob| tx.put(Table::Blobs, blob.as_str(), &0))?;
                setup.unsynced.note(tx, std::slice::from_ref(&image))
            })
            .expect("record");
    }

    fn keys(setup: &Setup, table: Table) -> Vec<String> {
        let all = setup.meta.scan::<serde_json::Value>(table).expect("scan");
        all.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn after_another_boot_what_was_not_synced_and_all_that_needs_it_was_never_recorded() {
        let setup = setup();
        record(&setup, image("0a", &["a1"], &["b1"]));
        assert_eq!(keys(&setup, Table::Unsynced), [""; 0], "all of it was synced");
        setup.unsynced.layer(&digest("a2"));
        setup.unsynced.blob(&digest("b2"));
        record(&setup, image("0b", &["a1", "a2"], &["b1", "b2"]));
        // A second image on the layer that is not synced, and with nothing else.
        record(&setup, image("0c", &["a2"], &["b1"]));
        assert_eq!(keys(&setup, Table::Unsynced).len(), 2);

        assert_eq!(at_open(&setup.meta, "this").expect("the same boot").len(), 2);
        assert_eq!(keys(&setup, Table::Images).len(), 3, "a kill loses nothing");
        assert_eq!(at_open(&setup.meta, "another").expect("another boot"), []);
        assert_eq!(keys(&setup, Table::Images), [digest("0a").to_string()]);
        assert_eq!(keys(&setup, Table::Layers), [digest("a1").to_string()]);
        assert_eq!(keys(&setup, Table::Blobs), [digest("b1").to_string()]);
        assert_eq!(keys(&setup, Table::Unsynced), [""; 0]);
    }

    #[test]
    fn a_sync_takes_off_what_was_recorded_before_it_began_and_nothing_else() {
        let setup = setup();
        setup.unsynced.layer(&digest("a1"));
        record(&setup, image("0a", &["a1"], &[]));
        setup.unsynced.state().next = 1;
        setup.unsynced.layer(&digest("a2"));
        record(&setup, image("0b", &["a2"], &[]));
        setup.unsynced.cleared(&setup.meta, 1);
        assert!(
            !setup.unsynced.has_layer_of(&[digest("a1")]) && setup.unsynced.has_layer_of(&[digest("a2")])
        );
        let left = setup.meta.scan::<Row>(Table::Unsynced).expect("scan");
        assert_eq!((left.len(), &left[0].1.layers), (1, &vec![digest("a2")]));
        setup.unsynced.wake(&setup.meta);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while setup.unsynced.state().running {
            assert!(std::time::Instant::now() < end, "the sync does not end");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(keys(&setup, Table::Unsynced), [""; 0]);
    }

    #[test]
    fn a_failed_sync_is_never_made_good_by_a_later_one() {
        let setup = setup();
        setup.unsynced.layer(&digest("a1"));
        record(&setup, image("0a", &["a1"], &[]));
        setup.unsynced.state().given_up(1);
        setup.unsynced.cleared(&setup.meta, 2);
        assert_eq!(keys(&setup, Table::Unsynced).len(), 1);
        assert!(setup.unsynced.has_layer_of(&[digest("a1")]), "another image on it is not safe either");
    }

    #[test]
    fn an_image_recorded_after_the_sync_of_one_of_its_parts_failed_is_never_durable() {
        let setup = setup();
        setup.unsynced.layer(&digest("a1"));
        setup.unsynced.state().given_up(1);
        setup.unsynced.state().next = 1;
        setup.unsynced.layer(&digest("a2"));
        record(&setup, image("0a", &["a1", "a2"], &[]));
        setup.unsynced.cleared(&setup.meta, 2);
        assert_eq!(keys(&setup, Table::Unsynced).len(), 1);
        // A blob counts as much as a layer.
        setup.unsynced.blob(&digest("b1"));
        setup.unsynced.state().given_up(3);
        record(&setup, image("0b", &["a3"], &["b1"]));
        setup.unsynced.cleared(&setup.meta, 4);
        assert_eq!(keys(&setup, Table::Unsynced).len(), 2);
    }

    #[test]
    fn once_closed_nothing_is_written() {
        let setup = setup();
        setup.unsynced.layer(&digest("a1"));
        record(&setup, image("0a", &["a1"], &[]));
        setup.unsynced.close();
        setup.unsynced.wake(&setup.meta);
        assert!(!setup.unsynced.state().running);
        assert_eq!(keys(&setup, Table::Unsynced).len(), 1);
    }
}
