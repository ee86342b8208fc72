//! Leases: what running work needs is not collected, whether or not an image has it by then.
//!
//! A lease is taken before it is looked whether something is there. It lives in memory only: when the process
//! ends, so does the work, and what that left is collected at the next start.

use crate::Inner;
use crate::collect::When;
use snapshots::ChainId;
use std::pin::pin;
use std::sync::Arc;
use types::Digest;

/// Keeps layers and blobs for as long as it lives. Blocking work that uses them must hold it, too.
#[derive(Debug)]
pub(crate) struct Lease {
    inner: Arc<Inner>,
    id: u64,
}

impl Inner {
    /// A lease on nothing yet.
    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        Lease { inner: self.clone(), id: self.index().open_lease() }
    }
}

impl Lease {
    /// Keeps blobs, too. See [`Lease::need`].
    pub(crate) async fn blobs(&self, blobs: impl IntoIterator<Item = Digest> + Send) {
        self.need([], blobs).await;
    }

    /// Keeps layers and blobs, too, whether or not they are there. Once this returns, what is there stays: what
    /// was being removed at that moment is gone.
    pub(crate) async fn need(
        &self,
        layers: impl IntoIterator<Item = ChainId> + Send,
        blobs: impl IntoIterator<Item = Digest> + Send,
    ) {
        self.inner.index().extend_lease(self.id, layers, blobs);
        loop {
            // Registered before it is looked, so that no end of a removal is missed.
            let mut removed = pin!(self.inner.removed.notified());
            removed.as_mut().enable();
            if !self.inner.index().lease_meets_removal(self.id) {
                return;
            }
            removed.await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.inner.index().close_lease(self.id);
        // What was fetched and is no image's stays a while, for the next attempt, unless space is short.
        let short = self.inner.reserve.check(0).is_err();
        self.inner.collector.wake(if short { When::Soon } else { When::Later });
    }
}
