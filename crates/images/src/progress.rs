//! What a pull tells about itself while it runs. Telling never holds the pull up: a listener that has
//! gone away is forgotten.

use std::sync::Mutex;
use types::Digest;

/// Where progress is sent.
pub type ProgressSender = tokio::sync::mpsc::UnboundedSender<Progress>;

/// One event of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The reference was resolved; the layers that follow are all there is.
    Resolved {
        /// The reference.
        reference: String,
        /// What it resolved to (the index's digest where it is one).
        digest: Digest,
        /// Number of layers.
        layers: usize,
        /// Bytes of all layers, compressed.
        bytes: u64,
    },
    /// A layer's state. At most about ten a second for each layer.
    Layer {
        /// The compressed layer.
        digest: Digest,
        /// Its size in bytes.
        total: u64,
        /// Bytes that have arrived.
        done: u64,
        /// What is being done with it.
        state: LayerState,
    },
    /// The image is recorded.
    Done,
}

/// What is being done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// It waits for its turn.
    Waiting,
    /// It is being fetched and unpacked at the same time.
    Fetching,
    /// It is unpacked and waits for the layers below, or is being synced.
    Unpacked,
    /// It is in place.
    Done,
    /// It was here already.
    Present,
}

/// Everyone who listens to one pull.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Vec<ProgressSender>>);

impl Listeners {
    pub(crate) fn add(&self, sender: ProgressSender) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push(sender);
    }

    pub(crate) fn tell(&self, event: &Progress) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).retain(|s| s.send(event.clone()).is_ok());
    }
}
