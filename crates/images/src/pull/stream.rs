//! One blob on its way from the network, or from the content store, into whoever reads it: hashed,
//! counted and (if it is kept) written to the content store as it passes. Memory: what waits in the queue, and twice
//! as much again.

use super::keeper::{Keeper, Keeping};
use super::queue::{Found, Receiver};
use super::turns::{TURNS, Turn};
use bytes::{Buf, Bytes};
use content::Ingest;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;
use types::{Digest, Error, ErrorKind, Result};

/// The most that is read of a stored blob at once, in bytes.
const PART_MAX: usize = 120 << 10;
/// How long the network may take for the next bytes before another layer is decoded meanwhile.
const SHORT: Duration = Duration::from_millis(1);
/// Bytes from which on a blob is worth a thread that hashes and stores it.
const LONG: u64 = 1 << 20;
/// For ever, as long as the other end is there.
const EVER: Duration = Duration::from_secs(3600);

/// Where the bytes come from.
pub(crate) enum Source {
    /// The network; closed early where fetching failed.
    Network(Receiver),
    /// A blob of the content store.
    Stored(File),
}

/// What ended a stream before its time.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The source ended early; whoever feeds it knows why.
    Ended,
    /// More bytes came than the manifest says.
    TooLong,
    /// The content store failed.
    Store(Error),
}

/// A blob that is read from beginning to end.
pub(crate) struct BlobReader {
    source: Source,
    /// What was taken from the network at once.
    parts: VecDeque<Bytes>,
    part: Bytes,
    /// Taken with the second part: what a decoder waits for before it begins, it finds in the first.
    turn: Option<Turn<'static>>,
    keeping: Keeping,
    count: u64,
    size: u64,
    fault: Option<Fault>,
}

impl BlobReader {
    /// A blob of `size` bytes; what passes is also written to `ingest`.
    pub(crate) fn new(source: Source, digest: &Digest, size: u64, ingest: Option<Ingest>) -> BlobReader {
        BlobReader {
            source,
            parts: VecDeque::new(),
            part: Bytes::new(),
            turn: None,
            keeping: Keeping::Here(Keeper::new(digest, ingest)),
            count: 0,
            size,
            fault: None,
        }
    }

    /// The first bytes, without consuming them; fewer than `wanted` only where the blob is shorter.
    pub(crate) fn head(&mut self, wanted: usize) -> Bytes {
        while self.part.len() < wanted {
            match self.fetch() {
                Ok(more) if !more.is_empty() => {
                    self.part = [std::mem::take(&mut self.part), more].concat().into();
                }
                _ => break,
            }
        }
        self.part.slice(..self.part.len().min(wanted))
    }

    /// Reads what is left, and gives back the ingest once length and digest are what `digest` says.
    ///
    /// The reader of an archive may stop before the blob's last byte; all of it counts.
    pub(crate) fn finish(mut self, digest: &Digest) -> Result<Option<Ingest>, Problem> {
        if self.fault.is_none() {
            while self.fetch().is_ok_and(|part| !part.is_empty()) {}
        }
        match self.fault {
            Some(Fault::Ended) => return Err(Problem::Ended),
            Some(Fault::TooLong) => {
                return Err(Problem::WrongContent(format!(
                    "it is longer than the {} bytes that its manifest says",
                    self.size
                )));
            }
            Some(Fault::Store(error)) => return Err(Problem::Other(error)),
            None => {}
        }
        let (found, ingest) = self.keeping.finish().map_err(Problem::Other)?;
        if found != *digest {
            return Err(Problem::WrongContent(format!("its digest is {found}")));
        }
        Ok(ingest)
    }

    /// The next part from the source; empty at the end.
    fn fetch(&mut self) -> io::Result<Bytes> {
        if self.fault.is_some() {
            return Err(broken());
        }
        if self.turn.as_ref().is_some_and(Turn::is_over) {
            self.turn = None;
        }
        if self.parts.is_empty() {
            self.parts = self.more()?;
            if let Err(error) = self.keeping.take(&self.parts) {
                return Err(self.fail(Fault::Store(error)));
            }
        }
        let part = self.parts.pop_front().unwrap_or_default();
        if part.is_empty() {
            // What is left is to write what was decoded.
            self.turn = None;
            if self.count < self.size {
                return Err(self.fail(Fault::Ended));
            }
            return Ok(part);
        }
        if self.count > 0 && self.turn.is_none() {
            self.turn = Some(TURNS.wait());
        }
        self.count += part.len() as u64;
        if self.count > self.size {
            return Err(self.fail(Fault::TooLong));
        }
        if self.count >= LONG {
            self.keeping.spread();
        }
        Ok(part)
    }

    /// What the source has; nothing at its end.
    fn more(&mut self) -> io::Result<VecDeque<Bytes>> {
        match &mut self.source {
            Source::Network(queue) => {
                let mut patience = SHORT;
                loop {
                    match queue.take(patience) {
                        Found::Parts(parts) => return Ok(parts),
                        // Others may decode while this one waits.
                        Found::Nothing => (self.turn, patience) = (None, EVER),
                        Found::End => return Ok(VecDeque::new()),
                    }
                }
            }
            Source::Stored(file) => {
                let mut buffer = vec![0; PART_MAX];
                match file.read(&mut buffer) {
                    Ok(0) => Ok(VecDeque::new()),
                    Ok(length) => {
                        buffer.truncate(length);
                        Ok([buffer.into()].into())
                    }
                    Err(cause) => {
                        let error = Error::with_source(
                            ErrorKind::Internal,
                            "cannot read a stored layer; remove the image and pull it again",
                            cause,
                        );
                        Err(self.fail(Fault::Store(error)))
                    }
                }
            }
        }
    }

    fn fail(&mut self, fault: Fault) -> io::Error {
        self.fault = Some(fault);
        broken()
    }
}

/// Why a blob is not what its descriptor says.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It ended early; the feeding side knows more.
    Ended,
    /// Length or digest are wrong.
    WrongContent(String),
    /// Something of our own failed.
    Other(Error),
}

/// The reader of the archive learns only that it is over; the reason waits in `fault`.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the layer did not arrive whole")
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.part.is_empty() {
            self.part = self.fetch()?;
        }
        let length = self.part.len().min(buffer.len());
        self.part.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::queue::queue;
    use content::Hasher;
    use types::digest::Algorithm;

    fn reader(parts: &[&'static [u8]], digest: &Digest, size: u64) -> BlobReader {
        let (mut send, receive) = queue();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        for part in parts {
            assert!(runtime.block_on(send.send(Bytes::from_static(part))), "room");
        }
        BlobReader::new(Source::Network(receive), digest, size, None)
    }

    #[test]
    fn a_whole_blob_passes_even_where_its_reader_stops_early() {
        let digest = Hasher::of(Algorithm::Sha256, b"hello world");
        let mut blob = reader(&[b"h", b"el", b"lo world"], &digest, 11);
        assert_eq!(&blob.head(4)[..], b"hell");
        let mut first = [0; 5];
        blob.read_exact(&mut first).expect("read");
        assert_eq!(&first, b"hello");
        blob.finish(&digest).expect("whole");
        let short = Hasher::of(Algorithm::Sha256, b"ab");
        let mut blob = reader(&[b"ab"], &short, 2);
        assert_eq!(&blob.head(4)[..], b"ab");
        let mut all = Vec::new();
        assert!(blob.read_to_end(&mut all).is_ok() && all == b"ab");
        blob.finish(&short).expect("whole");
    }

    #[test]
    fn what_is_too_short_too_long_or_different_is_told_apart() {
        let digest = Hasher::of(Algorithm::Sha256, b"hello");
        assert!(matches!(reader(&[b"hell"], &digest, 5).finish(&digest), Err(Problem::Ended)));
        assert!(matches!(
            reader(&[b"hello", b"!"], &digest, 5).finish(&digest),
            Err(Problem::WrongContent(_))
        ));
        assert!(matches!(reader(&[b"hellO"], &digest, 5).finish(&digest), Err(Problem::WrongContent(_))));
        let mut blob = reader(&[b"hello!"], &digest, 5);
        assert!(io::copy(&mut blob, &mut io::sink()).is_err());
    }
}
