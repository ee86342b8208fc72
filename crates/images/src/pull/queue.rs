//! Bytes of one blob between the task that has them from the network and the thread that reads them.
//!
//! Bounded by bytes, not by parts, and made to wake seldom: the reader takes all that is there at once, and the task is
//! woken once for that. It verifies nothing.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes that may wait. The reader has as many in its hands, and one part more.
pub(super) const WAITING_MAX: usize = 1 << 20;

/// A part counts as so many bytes at least: the smallest one may hold on to a buffer of hyper's, which has 8 KiB.
const PART_MIN: usize = 8 << 10;

#[derive(Default)]
struct State {
    parts: VecDeque<Bytes>,
    /// What the parts count for.
    bytes: usize,
    /// The sender is gone.
    ended: bool,
    /// The reader is gone.
    left: bool,
    /// The reader sleeps.
    waits: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something is there, or the sender is gone.
    filled: Condvar,
    /// There is room, or the reader is gone.
    room: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network's end.
pub(super) struct Sender(Arc<Shared>);

/// The reader's end.
pub(crate) struct Receiver(Arc<Shared>);

/// A new queue.
pub(super) fn queue() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    (Sender(shared.clone()), Receiver(shared))
}

impl Sender {
    /// Waits for room. False where nobody reads any more.
    pub(super) async fn send(&mut self, part: Bytes) -> bool {
        loop {
            {
                let mut state = self.0.state();
                if state.left {
                    return false;
                }
                if state.bytes < WAITING_MAX {
                    state.bytes += part.len().max(PART_MIN);
                    state.parts.push_back(part);
                    let wake = std::mem::take(&mut state.waits);
                    drop(state);
                    if wake {
                        self.0.filled.notify_one();
                    }
                    return true;
                }
            }
            // A word that came before this is kept for it.
            self.0.room.notified().await;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.filled.notify_one();
    }
}

/// What a reader finds.
pub(super) enum Found {
    /// All that waited.
    Parts(VecDeque<Bytes>),
    /// Nothing came in the time.
    Nothing,
    /// Nothing will come.
    End,
}

impl Receiver {
    /// Takes all that is there, and waits at most `patience` for something. Blocks.
    pub(super) fn take(&mut self, patience: Duration) -> Found {
        let mut state = self.0.state();
        let nothing = |state: &mut State| {
            state.waits = state.parts.is_empty() && !state.ended;
            state.waits
        };
        if nothing(&mut state) {
            let waited = self.0.filled.wait_timeout_while(state, patience, nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waits = false;
        if state.parts.is_empty() {
            return if state.ended { Found::End } else { Found::Nothing };
        }
        let full = state.bytes >= WAITING_MAX;
        state.bytes = 0;
        let parts = std::mem::take(&mut state.parts);
        drop(state);
        if full {
            self.0.room.notify_one();
        }
        Found::Parts(parts)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.left = true;
        state.parts.clear();
        drop(state);
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn part(length: usize) -> Bytes {
        vec![7; length].into()
    }

    #[tokio::test]
    async fn no_more_waits_than_the_bound_and_nothing_is_lost() {
        let (mut send, mut receive) = queue();
        let reader = std::thread::spawn(move || {
            let mut all = 0;
            loop {
                match receive.take(LONG) {
                    Found::Parts(parts) => {
                        let bytes: usize = parts.iter().map(Bytes::len).sum();
                        assert!(bytes < WAITING_MAX + 100_000, "{bytes}");
                        all += bytes;
                    }
                    Found::Nothing => {}
                    Found::End => return all,
                }
            }
        });
        for _ in 0..200 {
            assert!(send.send(part(100_000)).await);
        }
        drop(send);
        assert_eq!(reader.join().expect("reader"), 20_000_000);
    }

    #[tokio::test]
    async fn a_full_queue_holds_its_sender_until_it_is_read_or_left() {
        let (mut send, mut receive) = queue();
        assert!(send.send(part(WAITING_MAX)).await);
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, send.send(part(1))).await.is_err(), "full");
        assert!(matches!(receive.take(LONG), Found::Parts(parts) if parts.len() == 1));
        assert!(send.send(part(WAITING_MAX)).await);
        let waits = tokio::spawn(async move { send.send(part(1)).await });
        tokio::task::yield_now().await;
        drop(receive);
        assert!(!waits.await.expect("sender"), "nobody reads");
    }

    #[tokio::test]
    async fn tiny_parts_are_as_few_as_large_ones() {
        let (mut send, mut receive) = queue();
        for _ in 0..WAITING_MAX / PART_MIN {
            assert!(send.send(part(1)).await);
        }
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, send.send(part(1))).await.is_err(), "full");
        assert!(matches!(receive.take(LONG), Found::Parts(parts) if parts.len() == WAITING_MAX / PART_MIN));
    }

    #[test]
    fn a_reader_gives_up_after_its_patience_and_sees_the_end() {
        let (send, mut receive) = queue();
        assert!(matches!(receive.take(Duration::from_millis(5)), Found::Nothing));
        drop(send);
        assert!(matches!(receive.take(LONG), Found::End));
    }
}
