//! The bytes of an archive on their way out: a tar of regular files that looks the same whenever it is written.

use super::found::lost;
use bytes::Bytes;
use content::{Content, Hasher};
use std::io::{self, Read, Write};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc::Sender;
use types::{Digest, Error, ErrorKind, Result};

/// Bytes of one part.
const PART: usize = 256 << 10;

/// Takes what is written apart into messages. Its writer blocks while the receiver is slow.
pub(super) struct Outgoing {
    part: Vec<u8>,
    send: Sender<Result<Bytes>>,
}

impl Outgoing {
    pub fn new(send: Sender<Result<Bytes>>) -> Self {
        Self { part: Vec::with_capacity(PART), send }
    }
}

impl Write for Outgoing {
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
        self.send.blocking_send(Ok(part.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A tar that is being written.
pub(super) struct Files(Builder<Outgoing>);

impl Files {
    pub fn new(out: Outgoing) -> Self {
        Self(Builder::new(out))
    }

    /// A small file.
    pub fn text(&mut self, name: &str, text: &[u8]) -> Result<()> {
        self.file(name, text.len() as u64, text)
    }

    /// A file of exactly `size` bytes.
    pub fn file(&mut self, name: &str, size: u64, mut data: impl Read) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        let mut counted = Counted { inner: (&mut data).take(size), count: 0 };
        self.0.append_data(&mut header, name, &mut counted).map_err(|cause| broken(name, cause))?;
        // The header has promised the size; a tar that does not keep it is none.
        if counted.count != size {
            return Err(Error::internal(format!("{name} has fewer bytes than it had a moment ago")));
        }
        Ok(())
    }

    /// A blob as it lies in the content store; one that is damaged ends the archive.
    pub fn blob(&mut self, name: &str, content: &Content, digest: &Digest, size: u64) -> Result<()> {
        let file = content.open_blob(digest)?.ok_or_else(|| lost(digest))?;
        let mut hashed = Hashed { inner: file, hasher: Hasher::new(digest.algorithm()) };
        self.file(name, size, &mut hashed)?;
        let found = hashed.hasher.finish();
        if found != *digest {
            return Err(Error::internal(format!(
                "{digest} is damaged (its content is {found}); run `corten images check --repair` and export again"
            )));
        }
        Ok(())
    }

    /// Writes the end.
    pub fn finish(self) -> Result<()> {
        let mut out = self.0.into_inner().map_err(|cause| broken("the archive's end", cause))?;
        out.flush().map_err(|cause| broken("the archive's end", cause))
    }
}

fn broken(name: &str, cause: io::Error) -> Error {
    let kind =
        if cause.kind() == io::ErrorKind::BrokenPipe { ErrorKind::Cancelled } else { ErrorKind::Internal };
    Error::with_source(kind, format!("cannot write {name} into the archive"), cause)
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
