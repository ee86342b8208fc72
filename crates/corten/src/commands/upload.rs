//! Bytes that a verb sends to the runtime: what a thread writes becomes the messages of a call, a few at a time.
//! It holds some MiB at most, however large the whole is.

use std::io::{self, Write};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tonic::Status;
use types::{Error, ErrorKind, Result};

/// Bytes of one message. gRPC's own limit is 4 MiB unless a server says otherwise.
const PART: usize = 512 << 10;
/// Messages that wait to be sent.
const WAITING: usize = 4;

/// Takes bytes on a thread that may block, and makes messages of them.
pub struct Upload<M> {
    part: Vec<u8>,
    send: Sender<M>,
    wrap: fn(Vec<u8>) -> M,
}

impl<M> Upload<M> {
    /// An upload that begins with `first`, and the messages.
    pub fn new(first: M, wrap: fn(Vec<u8>) -> M) -> (Self, Receiver<M>) {
        let (send, receive) = mpsc::channel(WAITING);
        // There is room for one.
        let _ = send.try_send(first);
        (Self { part: Vec::with_capacity(PART), send, wrap }, receive)
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

impl<M> Write for Upload<M> {
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
