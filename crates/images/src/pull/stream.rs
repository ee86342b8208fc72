//! One blob on its way from the network, or from the content store, into whoever reads it: hashed,
//! counted and (if it is kept) written to the content store as it passes. Memory: one part at a time,
//! and a few more in the channel.

use bytes::{Buf, Bytes};
use content::{Hasher, Ingest};
use std::fs::File;
use std::io::{self, Read};
use tokio::sync::mpsc;
use types::{Digest, Error, ErrorKind, Result};

/// The largest part that is handed on, in bytes.
pub(crate) const PART_MAX: usize = 64 << 10;
/// Parts that may wait between the network and the reader.
pub(crate) const PARTS_WAITING: usize = 8;

/// Where the bytes come from.
pub(crate) enum Source {
    /// The network; closed early where fetching failed.
    Network(mpsc::Receiver<Bytes>),
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
    part: Bytes,
    hasher: Hasher,
    count: u64,
    size: u64,
    ingest: Option<Ingest>,
    fault: Option<Fault>,
}

impl BlobReader {
    /// A blob of `size` bytes; what passes is also written to `ingest`.
    pub(crate) fn new(source: Source, digest: &Digest, size: u64, ingest: Option<Ingest>) -> BlobReader {
        BlobReader {
            source,
            part: Bytes::new(),
            hasher: Hasher::new(digest.algorithm()),
            count: 0,
            size,
            ingest,
            fault: None,
        }
    }

    /// The first bytes, without consuming them; fewer than four only where the blob is shorter.
    pub(crate) fn magic(&mut self) -> [u8; 4] {
        while self.part.len() < 4 {
            match self.fetch() {
                Ok(more) if !more.is_empty() => {
                    self.part = [std::mem::take(&mut self.part), more].concat().into();
                }
                _ => break,
            }
        }
        let mut magic = [0; 4];
        let known = self.part.len().min(4);
        magic[..known].copy_from_slice(&self.part[..known]);
        magic
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
        let found = self.hasher.finish();
        if found != *digest {
            return Err(Problem::WrongContent(format!("its digest is {found}")));
        }
        Ok(self.ingest)
    }

    /// The next part from the source; empty at the end.
    fn fetch(&mut self) -> io::Result<Bytes> {
        if self.fault.is_some() {
            return Err(broken());
        }
        let part = match &mut self.source {
            Source::Network(parts) => parts.blocking_recv().unwrap_or_default(),
            Source::Stored(file) => {
                let mut buffer = vec![0; PART_MAX];
                match file.read(&mut buffer) {
                    Ok(length) => {
                        buffer.truncate(length);
                        buffer.into()
                    }
                    Err(cause) => {
                        let error = Error::with_source(
                            ErrorKind::Internal,
                            "cannot read a stored layer; remove the image and pull it again",
                            cause,
                        );
                        return Err(self.fail(Fault::Store(error)));
                    }
                }
            }
        };
        if part.is_empty() {
            if self.count < self.size {
                return Err(self.fail(Fault::Ended));
            }
            return Ok(part);
        }
        self.count += part.len() as u64;
        if self.count > self.size {
            return Err(self.fail(Fault::TooLong));
        }
        self.hasher.update(&part);
        if let Some(ingest) = &mut self.ingest
            && let Err(error) = ingest.write(&part)
        {
            return Err(self.fail(Fault::Store(error)));
        }
        Ok(part)
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
    use types::digest::Algorithm;

    fn reader(parts: &[&'static [u8]], digest: &Digest, size: u64) -> BlobReader {
        let (send, receive) = mpsc::channel(16);
        for part in parts {
            send.try_send(Bytes::from_static(part)).expect("room");
        }
        BlobReader::new(Source::Network(receive), digest, size, None)
    }

    #[test]
    fn a_whole_blob_passes_even_where_its_reader_stops_early() {
        let digest = Hasher::of(Algorithm::Sha256, b"hello world");
        let mut blob = reader(&[b"h", b"el", b"lo world"], &digest, 11);
        assert_eq!(&blob.magic(), b"hell");
        let mut first = [0; 5];
        blob.read_exact(&mut first).expect("read");
        assert_eq!(&first, b"hello");
        blob.finish(&digest).expect("whole");
        let short = Hasher::of(Algorithm::Sha256, b"ab");
        let mut blob = reader(&[b"ab"], &short, 2);
        assert_eq!(blob.magic(), [b'a', b'b', 0, 0]);
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
