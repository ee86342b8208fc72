//! Pulls of the same reference with the same credentials are one pull. It runs as a task of its own, so a
//! client that goes away takes it down only where nobody else waits for it.

use crate::image::ImageRecord;
use crate::progress::{Listeners, ProgressSender};
use registry::Auth;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use types::{Error, ErrorKind, Reference, Result};

/// Credentials are part of the key: nobody gets an image with what somebody else knows.
type Key = (Reference, Option<Auth>);
type Outcome = Result<Arc<ImageRecord>, Arc<Error>>;

/// The pulls that run.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Key, Weak<Flight>>>);

/// One running pull. Everyone who waits has a share of it; with the last one the task ends.
struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    listeners: Arc<Listeners>,
    task: AbortHandle,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Flights {
    /// Joins the running pull of `key`, or starts `pull`; waits for its end.
    pub(crate) async fn join<F>(
        &self,
        key: Key,
        progress: Option<ProgressSender>,
        pull: impl FnOnce(Arc<Listeners>) -> F,
    ) -> Result<Arc<ImageRecord>>
    where
        F: Future<Output = Result<Arc<ImageRecord>>> + Send + 'static,
    {
        let flight = self.board(key, progress, pull);
        let mut outcome = flight.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|o| o.clone());
        match ended {
            Some(Ok(record)) => Ok(record),
            Some(Err(error)) => Err(shared(&error)),
            // The sender is gone without a word: the task panicked or the runtime shuts down.
            None => Err(Error::new(ErrorKind::Cancelled, "the pull was given up")),
        }
    }

    fn board<F>(
        &self,
        key: Key,
        progress: Option<ProgressSender>,
        pull: impl FnOnce(Arc<Listeners>) -> F,
    ) -> Arc<Flight>
    where
        F: Future<Output = Result<Arc<ImageRecord>>> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(|e| e.into_inner());
        flights.retain(|_, flight| flight.strong_count() > 0);
        let running = flights.get(&key).and_then(Weak::upgrade).filter(|f| f.outcome.borrow().is_none());
        if let Some(flight) = running {
            if let Some(progress) = progress {
                flight.listeners.add(progress);
            }
            return flight;
        }
        let listeners = Arc::new(Listeners::default());
        if let Some(progress) = progress {
            listeners.add(progress);
        }
        let (tell, outcome) = watch::channel(None);
        let work = pull(listeners.clone());
        let task = tokio::spawn(async move {
            let result = work.await.map_err(Arc::new);
            tell.send_replace(Some(result));
        });
        let flight = Arc::new(Flight { outcome, listeners, task: task.abort_handle() });
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }
}

/// The same error for one more waiter; its causes become one text.
fn shared(error: &Error) -> Error {
    match std::error::Error::source(error) {
        Some(cause) => Error::with_source(error.kind(), error.message(), types::error::chain(cause)),
        None => Error::new(error.kind(), error.message()),
    }
}
