//! Bytes that a caller sends in many messages, on their way to whoever takes them. A slow taker makes the caller wait.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::Sender;
use tonic::Streaming;
use types::Result;

/// Messages that wait for their taker.
pub const WAITING: usize = 4;

/// Hands the data of `messages` on until there is no more; `read` counts. What goes wrong on the way is handed on too.
pub async fn feed<M>(
    mut messages: Streaming<M>,
    taker: Sender<Result<bytes::Bytes>>,
    read: &AtomicU64,
    mut data: impl FnMut(M) -> Result<Option<Vec<u8>>>,
) {
    loop {
        let piece = match messages.message().await {
            Ok(None) => return,
            Ok(Some(message)) => match data(message) {
                Ok(Some(piece)) => Ok(piece),
                // It was the end.
                Ok(None) => return,
                Err(error) => Err(error),
            },
            Err(status) => Err(images::broken_off(status)),
        };
        let over = piece.is_err();
        read.fetch_add(piece.as_ref().map_or(0, Vec::len) as u64, Ordering::Relaxed);
        if taker.send(piece.map(Into::into)).await.is_err() || over {
            return;
        }
    }
}
