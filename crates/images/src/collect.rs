//! Removal of layers and blobs that no image, no container and no running work needs.
//!
//! It runs by itself, on a thread of its own: woken by what may have left something, never later than the delay
//! that the configuration gives. What could not be removed is tried again, with growing pauses. It never removes
//! an image's record, and nothing before the first [`crate::Images::collect`]: until then, containers of an
//! earlier process may not have said yet what they hold.

use crate::{Inner, blocking};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};
use store::meta::Table;
use types::{Error, ErrorKind, Result};

/// After a removal: what comes in one go is collected in one go.
const SOON: Duration = Duration::from_secs(1);
/// The first pause after a failure; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How much a collection presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Somebody gave something up: nobody will come back for it.
    Soon,
    /// Work ended: a next attempt may want what it left, for a while.
    Later,
}

/// When the next collection is due.
#[derive(Debug)]
pub(crate) struct Collector {
    later: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    due: Option<Instant>,
    /// Collections may run: everybody who holds something has said so.
    armed: bool,
    failures: u32,
    /// Somebody may hold something and cannot say so: there are no collections.
    barred: bool,
    closed: bool,
}

impl Collector {
    /// One that collects `later` after work has ended, at the latest.
    pub(crate) fn new(later: Duration) -> Arc<Collector> {
        Arc::new(Collector { later, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Starts the thread. It ends with `inner`, which it does not keep.
    pub(crate) fn start(self: &Arc<Self>, inner: Weak<Inner>) -> Result<()> {
        let own = self.clone();
        let thread = std::thread::Builder::new().name("collector".into()).spawn(move || own.run(&inner));
        thread.map(drop).map_err(|cause| {
            Error::with_source(ErrorKind::ResourceExhausted, "cannot start the collector's thread", cause)
        })
    }

    /// Asks for a collection. One that is due earlier anyway stays as it is: nothing is put off.
    pub(crate) fn wake(&self, when: When) {
        let delay = match when {
            When::Soon => SOON.min(self.later),
            When::Later => self.later,
        };
        self.plan(Instant::now() + delay);
    }

    /// The images are closed.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn plan(&self, at: Instant) {
        let mut state = self.state();
        if state.due.is_none_or(|due| at < due) {
            state.due = Some(at);
            self.changed.notify_all();
        }
    }

    /// From now on collections run by themselves.
    pub(crate) fn arm(&self) {
        self.state().armed = true;
        self.changed.notify_all();
    }

    /// From now on there are no collections, whoever asks.
    pub(crate) fn bar(&self) {
        self.state().barred = true;
    }

    /// Refuses where there are no collections.
    pub(crate) fn allowed(&self) -> Result<()> {
        if !self.state().barred {
            return Ok(());
        }
        Err(Error::precondition(
            "records of pods or containers could not be read when the daemon started, so layers that look unused may \
             be needed, and none is removed; see the daemon's log for which, mend or remove them, and restart the \
             daemon",
        ))
    }

    /// Takes note of how a collection ended; after a failure the next one is planned.
    fn ended(&self, well: bool) {
        let mut state = self.state();
        if well {
            state.failures = 0;
            return;
        }
        let pause = RETRY_FIRST.saturating_mul(1 << state.failures.min(5)).min(RETRY_MAX).min(self.later);
        state.failures = state.failures.saturating_add(1);
        drop(state);
        self.plan(Instant::now() + pause);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits until a collection is due. False when there will be none any more.
    fn wait(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.closed {
                return false;
            }
            let now = Instant::now();
            state = match state.due.filter(|_| state.armed && !state.barred) {
                Some(due) if due <= now => {
                    state.due = None;
                    return true;
                }
                Some(due) => self.changed.wait_timeout(state, due - now).unwrap_or_else(|e| e.into_inner()).0,
                None => self.changed.wait(state).unwrap_or_else(|e| e.into_inner()),
            };
        }
    }

    fn run(&self, inner: &Weak<Inner>) {
        while self.wait() {
            let Some(inner) = inner.upgrade() else { return };
            if let Err(error) = collect(&inner) {
                tracing::warn!(error = %error.chain(), "not everything that is unused could be removed; it is tried again");
            }
        }
    }
}

/// Collects. What one removal fails on does not keep the others; the first failure is told, and all are tried
/// again later.
pub(crate) async fn run(inner: Arc<Inner>) -> Result<()> {
    blocking(move || collect(&inner)).await
}

fn collect(inner: &Inner) -> Result<()> {
    let _one_at_a_time = inner.collecting.lock().unwrap_or_else(|e| e.into_inner());
    inner.collector.allowed()?;
    let result = sweep(inner);
    inner.collector.ended(result.is_ok());
    result
}

fn sweep(inner: &Inner) -> Result<()> {
    let needed = inner.index().needed();
    let mut failed: Vec<Error> = Vec::new();
    let mut layers = Vec::new();
    for layer in inner.snapshotter.layers()? {
        // Asked again at the last moment: somebody may have taken hold of it. From the answer to the end of the
        // removal, whoever takes a lease on it waits.
        if needed.layers.contains(&layer) || !inner.index().condemn_layer(&layer) {
            continue;
        }
        let removed = inner.snapshotter.remove_layer(&layer);
        let gone = removed.is_ok() || !inner.snapshotter.has_layer(&layer);
        inner.index().layer_removed(&layer, gone);
        // A look at it that is under way says nothing of what may come back under its name.
        inner.fingerprints.replaced();
        inner.removed.notify_waiters();
        if let Err(error) = removed {
            failed.push(error.context(format!("cannot remove layer {layer}")));
        }
        if gone {
            layers.push(layer);
        }
    }
    let mut blobs = Vec::new();
    for (blob, _) in inner.content.blobs()? {
        if needed.blobs.contains(&blob) || !inner.index().condemn_blob(&blob) {
            continue;
        }
        let removed = inner.content.remove(&blob);
        inner.index().blob_removed(&blob, removed.is_ok());
        inner.removed.notify_waiters();
        match removed {
            Ok(()) => blobs.push(blob),
            Err(error) => failed.push(error),
        }
    }
    for (name, users) in inner.snapshotter.replaced(&|layer| inner.users(layer))? {
        let runs = |container: &String| inner.index().holds(container);
        if !users.iter().any(runs)
            && let Err(error) = inner.snapshotter.remove_replaced(&name)
        {
            failed.push(error.context("cannot remove a damaged layer that was replaced"));
        }
    }
    // What a removal of an earlier time left, one of this time among it.
    if let Err(error) = inner.snapshotter.sweep() {
        failed.push(error);
    }
    if !layers.is_empty() || !blobs.is_empty() {
        tracing::info!(layers = layers.len(), blobs = blobs.len(), "collected what nothing refers to");
    }
    if let Err(error) = forget(inner, &layers, &blobs) {
        failed.push(error);
    }
    for error in failed.iter().skip(1) {
        tracing::warn!(error = %error.chain(), "collecting failed");
    }
    failed.into_iter().next().map_or(Ok(()), Err)
}

/// Takes the records of what is gone out of the metadata. A pull may have put the same thing in place again
/// since: its record is then in memory, or will be written after this one.
fn forget(inner: &Inner, layers: &[snapshots::ChainId], blobs: &[types::Digest]) -> Result<()> {
    if layers.is_empty() && blobs.is_empty() {
        return Ok(());
    }
    let _recording = inner.recording.lock().unwrap_or_else(|e| e.into_inner());
    let gone = |index: &crate::index::Index| {
        let layers: Vec<_> = layers.iter().filter(|layer| !index.layers.contains_key(*layer)).collect();
        let blobs: Vec<_> = blobs.iter().filter(|blob| !index.blobs.contains_key(*blob)).collect();
        (layers, blobs)
    };
    let (layers, blobs) = gone(&inner.index());
    inner.meta.batch(|tx| {
        layers.iter().try_for_each(|layer| tx.delete(Table::Layers, layer.as_str()))?;
        blobs.iter().try_for_each(|blob| tx.delete(Table::Blobs, blob.as_str()))
    })
}
