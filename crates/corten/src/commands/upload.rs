//! Bytes that a verb sends to the runtime: what a thread writes becomes the messages of a call, a few at a time.
//! It holds some MiB at most, however large the whole is.

use futures_util::Stream;
use futures_util::stream;
use std::io::{self, Write};
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinHandle;
use tonic::Status;
use types::{Error, ErrorKind, Result};

/// Bytes of one message. gRPC's own limit is 4 MiB unless a server says otherwise.
const PART: usize = 512 << 10;
/// Messages that wait to be sent.
const WAITING: usize = 4;
/// After so long without bytes an empty message is sent: what they come from, as `docker save` before its first byte, may
/// take its time, and a runtime gives up who is silent. It is below the shortest `registry.progress_timeout`.
const STILL_HERE: Duration = Duration::from_secs(2);

/// Takes bytes on a thread that may block, and makes messages of them.
pub struct Upload<M> {
    part: Vec<u8>,
    send: Sender<M>,
    wrap: fn(Vec<u8>) -> M,
}

impl<M: Send + 'static> Upload<M> {
    /// An upload that begins with `first`, and the messages.
    pub fn new(first: M, wrap: fn(Vec<u8>) -> M) -> (Self, impl Stream<Item = M> + Send + 'static) {
        Self::with_signs(STILL_HERE, first, wrap)
    }

    fn with_signs(
        every: Duration,
        first: M,
        wrap: fn(Vec<u8>) -> M,
    ) -> (Self, impl Stream<Item = M> + Send + 'static) {
        let (send, receive) = mpsc::channel(WAITING);
        // There is room for one.
        let _ = send.try_send(first);
        let messages = stream::unfold(receive, move |mut receive| async move {
            let message = match tokio::time::timeout(every, receive.recv()).await {
                Ok(message) => message?,
                Err(_) => wrap(Vec::new()),
            };
            Some((message, receive))
        });
        (Self { part: Vec::with_capacity(PART), send, wrap }, messages)
    }

    fn message(&mut self, message: M) -> io::Result<()> {
        // The call ended: it has the reason, and this is only how the thread hears of it.
        self.send.blocking_send(message).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends what is left, and `last` behind it.
    pub fn finish(mut self, last: Option<M>) -> io::Result<()> {
        self.flush()?;
        last.map_or(Ok(()), |last| self.message(last))
    }
}

impl<M: Send + 'static> Write for Upload<M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        if self.part.len() == PART {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        self.message((self.wrap)(part))
    }
}

/// The answer of a call, and the thread that feeds it. What went wrong here is told rather than what the runtime made
/// of half an upload; a call that ends early ends the thread.
pub async fn both<T>(
    what: &str,
    reading: JoinHandle<io::Result<()>>,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<Result<T, Status>> {
    let mut call = std::pin::pin!(call);
    let read = tokio::select! {
        answer = &mut call => return Ok(answer),
        read = reading => read,
    };
    match read {
        // The other side went away: the answer says why.
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::with_source(ErrorKind::InvalidArgument, format!("cannot {what}"), error))
        }
        Err(error) => Err(Error::with_source(ErrorKind::Internal, format!("cannot {what}"), error)),
        Ok(_) => Ok(call.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn an_upload_that_has_nothing_yet_says_that_it_is_still_there() {
        let (mut upload, messages) = Upload::with_signs(Duration::from_millis(20), vec![9], |data| data);
        let mut messages = std::pin::pin!(messages);
        assert_eq!(messages.next().await.unwrap(), [9]);
        for _ in 0..3 {
            assert_eq!(messages.next().await.unwrap(), [0; 0], "nothing was written");
        }
        let writing = tokio::task::spawn_blocking(move || {
            upload.write_all(b"abc")?;
            upload.finish(Some(vec![8]))
        });
        let rest: Vec<Vec<u8>> = messages.filter(|part| std::future::ready(!part.is_empty())).collect().await;
        assert_eq!(rest, [b"abc".to_vec(), vec![8]]);
        writing.await.unwrap().unwrap();
    }
}
