//! Work that nobody waits for, counted, so that whoever stops the daemon can wait for it after all.

use std::future::Future;
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub struct Background {
    running: watch::Sender<usize>,
}

/// Counts down also when the work panics or its runtime ends.
struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Background {
    /// Nothing is running.
    pub fn new() -> Self {
        Self { running: watch::Sender::new(0) }
    }

    /// Starts work.
    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.running.send_modify(|count| *count += 1);
        let running = Running(self.running.clone());
        tokio::spawn(async move {
            let _running = running;
            work.await;
        });
    }

    /// Waits until nothing is running.
    pub async fn settled(&self) {
        // The sender is ours, so the channel is open.
        let _ = self.running.subscribe().wait_for(|count| *count == 0).await;
    }
}
