//! What layers are, in one number each, where no blob is kept that says it: a check compares the two. It is taken of a
//! layer right after it is recorded, on a thread of its own, while what was unpacked is still in memory; no pull waits for it.
//!
//! It reads layers and writes their records. A layer that has its number keeps it; one that is put in place of a
//! damaged one gets its own.

use crate::Inner;
use crate::index::LayerRecord;
use snapshots::ChainId;
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use store::meta::Table;
use types::{Error, ErrorKind, Result};

/// Says when there are layers without a number.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    due: bool,
    closed: bool,
    /// Layers that were put in place of others so far.
    replaced: u64,
}

impl Fingerprints {
    /// Starts the thread. It ends with `inner`, which it does not keep.
    pub(crate) fn start(self: &Arc<Self>, inner: Weak<Inner>) -> Result<()> {
        let own = self.clone();
        let thread = std::thread::Builder::new().name("fingerprints".into()).spawn(move || own.run(&inner));
        thread.map(drop).map_err(|cause| {
            Error::with_source(ErrorKind::ResourceExhausted, "cannot start the fingerprints' thread", cause)
        })?;
        self.wake();
        Ok(())
    }

    /// Layers were recorded.
    pub(crate) fn wake(&self) {
        self.state().due = true;
        self.changed.notify_all();
    }

    /// A layer was put in place of another: a number that is being taken may be that of the other.
    pub(crate) fn replaced(&self) {
        self.state().replaced += 1;
        self.wake();
    }

    /// The images are closed.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits until there is something to do. False when there will be nothing any more.
    fn wait(&self) -> bool {
        let mut state = self.state();
        while !state.due && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        state.due = false;
        !state.closed
    }

    fn run(&self, inner: &Weak<Inner>) {
        // What cannot be read now is not tried again before the next start.
        let mut tried: HashSet<ChainId> = HashSet::new();
        while self.wait() {
            loop {
                let replaced = self.state().replaced;
                // Kept only while something is written: whoever closes the images need not wait for a disk.
                let Some((layer, snapshotter)) = inner
                    .upgrade()
                    .and_then(|inner| Some((inner.without_fingerprint(&tried)?, inner.snapshotter.clone())))
                else {
                    break;
                };
                match snapshotter.fingerprint_layer(&layer, false) {
                    Ok(Some(fingerprint)) => {
                        let Some(inner) = inner.upgrade() else { return };
                        let current = || self.state().replaced == replaced;
                        if let Err(error) = inner.note_fingerprint(&layer, fingerprint, &current) {
                            tracing::warn!(%layer, error = %error.chain(), "what a layer is could not be recorded");
                            tried.insert(layer);
                        }
                    }
                    // This snapshotter has no trees to look at.
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%layer, error = %error.chain(), "a layer cannot be looked at");
                        tried.insert(layer);
                    }
                }
                if self.state().closed {
                    return;
                }
            }
        }
    }
}

impl Inner {
    /// A layer whose number is not known.
    fn without_fingerprint(&self, tried: &HashSet<ChainId>) -> Option<ChainId> {
        let index = self.index();
        let mut unknown =
            index.layers.iter().filter(|(_, record)| record.fingerprint.is_none() && !record.damaged);
        unknown.find(|(layer, _)| !tried.contains(*layer)).map(|(layer, _)| layer.clone())
    }

    /// Writes it, unless the layer is not the one any more that was looked at. Blocks.
    fn note_fingerprint(
        &self,
        layer: &ChainId,
        fingerprint: [u8; 32],
        current: &dyn Fn() -> bool,
    ) -> Result<()> {
        let _one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        let Some(known) = self.index().layers.get(layer).copied() else { return Ok(()) };
        if known.damaged || known.fingerprint.is_some() || !current() {
            return Ok(());
        }
        let record = LayerRecord { fingerprint: Some(fingerprint), ..known };
        self.meta.put(Table::Layers, layer.as_str(), &record)?;
        self.index().layers.insert(layer.clone(), record);
        Ok(())
    }
}
