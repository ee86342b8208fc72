//! What a request carries: nothing, a few bytes, or a part of a blob that is read while it is sent. It can be
//! made again from the start for every attempt.

use crate::error::RegistryError;
use crate::transport::Outgoing;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// Where a blob that is pushed is read from.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// Opens a blob at an offset; called again for every attempt.
pub(crate) type Open<'a> = &'a (dyn Fn(u64) -> io::Result<BlobReader> + Send + Sync);

/// Bytes that are read from a blob at once.
const PART: usize = 64 << 10;

/// See the module.
pub(crate) enum Payload<'a> {
    /// No body.
    Empty,
    /// A manifest.
    Whole { media_type: &'a str, bytes: Bytes },
    /// The bytes `start..end` of a blob.
    Part { open: Open<'a>, start: u64, end: u64, sent: Arc<AtomicU64> },
}

impl Payload<'_> {
    /// A new body.
    pub(crate) fn body(&self) -> Result<Outgoing, RegistryError> {
        Ok(match self {
            Payload::Empty => empty(),
            Payload::Whole { bytes, .. } => whole(bytes.clone()),
            Payload::Part { open, start, end, sent } => {
                let reader = open(*start).map_err(|cause| RegistryError::Source { cause })?;
                sent.store(*start, Ordering::Relaxed);
                let left = end.saturating_sub(*start);
                Sending { reader, left, part: BytesMut::new(), sent: sent.clone() }.boxed_unsync()
            }
        })
    }

    pub(crate) fn media_type(&self) -> Option<&str> {
        match self {
            Payload::Empty => None,
            Payload::Whole { media_type, .. } => Some(media_type),
            Payload::Part { .. } => Some("application/octet-stream"),
        }
    }

    /// How far the sending is, and where it ends.
    pub(crate) fn sent(&self) -> Option<(&AtomicU64, u64)> {
        match self {
            Payload::Part { sent, end, .. } => Some((sent, *end)),
            _ => None,
        }
    }
}

/// No body.
pub(crate) fn empty() -> Outgoing {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body from memory.
pub(crate) fn whole(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body of known length from a reader.
struct Sending {
    reader: BlobReader,
    left: u64,
    part: BytesMut,
    sent: Arc<AtomicU64>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let size = usize::try_from(this.left).unwrap_or(usize::MAX).min(PART);
        this.part.resize(size, 0);
        let mut buffer = ReadBuf::new(&mut this.part);
        match Pin::new(&mut this.reader).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(cause)) => Poll::Ready(Some(Err(cause))),
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                if read == 0 {
                    let cause =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than its size");
                    return Poll::Ready(Some(Err(cause)));
                }
                this.left -= read as u64;
                this.sent.fetch_add(read as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(this.part.split_to(read).freeze()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
