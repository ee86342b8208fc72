//! Bytes that a caller sends in many messages, on their way to whoever takes them. A slow taker makes the caller wait; a
//! caller that is there and sends nothing is waited for as long as a registry would be, and then given up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tonic::Streaming;
use types::Result;

/// Messages that wait for their taker.
pub const WAITING: usize = 4;

/// The next message; `None` at the end of all.
pub async fn next<M>(messages: &mut Streaming<M>, patience: Duration) -> Result<Option<M>> {
    match tokio::time::timeout(patience, messages.message()).await {
        Ok(message) => message.map_err(images::broken_off),
        Err(_) => Err(images::stalled(patience)),
    }
}

/// Hands the data of `messages` on until there is no more; `read` counts. What goes wrong on the way is handed on too.
/// Only the time that is spent waiting for the caller counts. A message without data is a sign of life: what the caller
/// reads from may take its time.
pub async fn feed<M>(
    mut messages: Streaming<M>,
    patience: Duration,
    taker: Sender<Result<bytes::Bytes>>,
    read: &AtomicU64,
    mut data: impl FnMut(M) -> Result<Option<Vec<u8>>>,
) {
    loop {
        let piece = match next(&mut messages, patience).await {
            Ok(None) => return,
            Ok(Some(message)) => match data(message) {
                Ok(Some(piece)) => Ok(piece),
                // It was the end.
                Ok(None) => return,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let over = piece.is_err();
        read.fetch_add(piece.as_ref().map_or(0, Vec::len) as u64, Ordering::Relaxed);
        if taker.send(piece.map(Into::into)).await.is_err() || over {
            return;
        }
    }
}
