//! A retried call joins the one that is running: the kubelet's retries never meet "name is reserved".
//!
//! The work runs as a task of its own, so a caller that goes away does not break it off half way.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use types::{Error, ErrorKind, Result};

type Outcome = std::result::Result<Arc<dyn Any + Send + Sync>, Arc<Error>>;

/// Running operations by key.
#[derive(Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<String, Shared<BoxFuture<'static, Outcome>>>>>);

impl Flights {
    /// Runs `work`, or waits for the work of the same key that is running already.
    pub async fn join<T, F>(&self, key: String, work: impl FnOnce() -> F) -> Result<T>
    where
        T: Clone + Send + Sync + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let flight = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = self.launch(key.clone(), work());
                    flights.insert(key, flight.clone());
                    flight
                }
            }
        };
        match flight.await {
            Ok(value) => value
                .downcast_ref::<T>()
                .cloned()
                .ok_or_else(|| Error::internal("two operations of different kinds share a key")),
            // An error is shared by all who wait; each gets its sentence and kind.
            Err(error) => Err(Error::new(error.kind(), error.chain())),
        }
    }

    fn launch<T, F>(&self, key: String, work: F) -> Shared<BoxFuture<'static, Outcome>>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let flights = self.0.clone();
        let task = tokio::spawn(async move {
            let result = std::panic::AssertUnwindSafe(work).catch_unwind().await;
            flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            match result {
                Ok(Ok(value)) => Ok(Arc::new(value) as Arc<dyn Any + Send + Sync>),
                Ok(Err(error)) => Err(Arc::new(error)),
                Err(_) => Err(Arc::new(Error::internal("the operation broke off; the log has the reason"))),
            }
        });
        task.map(|joined| {
            joined.unwrap_or_else(|e| {
                Err(Arc::new(Error::with_source(
                    ErrorKind::Cancelled,
                    "the daemon is stopping; try again",
                    e,
                )))
            })
        })
        .boxed()
        .shared()
    }

    /// Waits until nothing runs any more.
    pub async fn drain(&self) {
        loop {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned();
            match next {
                Some(flight) => {
                    let _ = flight.await;
                    // The key is removed before the outcome is there; this only guards against a busy loop.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn calls_with_one_key_share_one_piece_of_work() {
        let flights = Flights::default();
        let count = Arc::new(AtomicU32::new(0));
        let call = |key: &str| {
            let count = count.clone();
            flights.join(key.to_owned(), move || async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(count.fetch_add(1, Ordering::Relaxed))
            })
        };
        let (a, b, c) = tokio::join!(call("x"), call("x"), call("y"));
        assert_eq!(a.expect("a"), b.expect("b"));
        c.expect("c");
        assert_eq!(count.load(Ordering::Relaxed), 2);
        call("x").await.expect("a later call runs anew");
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_goes_away() {
        let flights = Flights::default();
        let count = Arc::new(AtomicU32::new(0));
        let inner = count.clone();
        let call = flights.join("x".to_owned(), move || async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            inner.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), call).await.is_err());
        flights.drain().await;
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
