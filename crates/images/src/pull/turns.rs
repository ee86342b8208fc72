//! Who decodes: as many layers at once as the machine has cores, though more arrive. What all of them do at the same
//! time each does more slowly: they share caches, and the file system makes them wait for one another.
//!
//! It is for speed only. A layer that does not get its turn in [`PATIENCE`] goes on without, so nothing waits for
//! ever; one that waits for the network lets others go on.

use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a layer waits for its turn.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a turn is while others wait: a connection that is not read from for long is closed by its server.
const LONG: Duration = Duration::from_secs(1);

/// The turns of the whole node.
pub(super) static TURNS: LazyLock<Turns> =
    LazyLock::new(|| Turns::new(std::thread::available_parallelism().map_or(2, usize::from)));

/// Some turns at once, first come, first served.
pub(super) struct Turns {
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    /// Numbers below this one have their turn, or had it.
    admitted: u64,
    /// The next number.
    next: u64,
}

/// The right to decode.
pub(super) struct Turn<'t> {
    of: &'t Turns,
    since: Instant,
}

impl Turns {
    fn new(at_once: usize) -> Turns {
        Turns { state: Mutex::new(State { admitted: at_once as u64, next: 0 }), ended: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, and not for ever. Blocks.
    pub(super) fn wait(&self) -> Turn<'_> {
        self.wait_for(PATIENCE)
    }

    fn wait_for(&self, patience: Duration) -> Turn<'_> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        if number >= state.admitted {
            drop(self.ended.wait_timeout_while(state, patience, |state| number >= state.admitted));
        }
        Turn { of: self, since: Instant::now() }
    }
}

impl Turn<'_> {
    /// Whether it is over: it was long, and others wait.
    pub(super) fn is_over(&self) -> bool {
        self.since.elapsed() >= LONG && {
            let state = self.of.state();
            state.next > state.admitted
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of.state().admitted += 1;
        self.of.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn no_more_than_so_many_at_once_and_who_is_done_admits_the_next() {
        let turns = Turns::new(2);
        let (one, two) = (turns.wait(), turns.wait());
        std::thread::scope(|scope| {
            let (say, hear) = channel();
            let turns = &turns;
            scope.spawn(move || {
                let turn = turns.wait_for(Duration::from_secs(60));
                say.send(()).expect("said");
                drop(turn);
            });
            assert!(hear.recv_timeout(Duration::from_millis(50)).is_err(), "two are at work");
            drop(one);
            hear.recv_timeout(Duration::from_secs(30)).expect("its turn");
        });
        drop(two);
    }

    #[test]
    fn a_turn_that_never_comes_is_not_waited_for_and_is_not_counted_twice() {
        let turns = Turns::new(1);
        let first = turns.wait();
        let without = turns.wait_for(Duration::from_millis(1));
        assert!(!first.is_over(), "it is young");
        drop((first, without));
        let last = turns.wait_for(Duration::from_secs(60));
        assert!(last.since.elapsed() < Duration::from_secs(30));
        assert_eq!(turns.state().admitted, 3);
    }
}
