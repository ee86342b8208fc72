//! The uncompressed stream of a layer: decoded, counted, hashed, handed out in slices of one buffer.
//!
//! Every byte passes here once and is hashed before anyone looks at it. Nothing is allocated by a size
//! that the stream declares.

use crate::error::{Error, Result};
use crate::{Compression, UnpackLimits};
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::io::{BufReader, Read};
use std::rc::Rc;

/// One record of a tar (POSIX pax, "ustar Interchange Format").
pub const BLOCK: usize = 512;

/// Large enough that one `write` per buffer costs little, small enough to stay in the cache.
const BUFFER: usize = 128 << 10;

/// Windows up to 128 MiB, what `zstd --long` makes at most; RFC 8878 asks decoders for 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Remembers whether the reader itself failed: a decoder passes such an error on as if it were its own.
struct Watched<R> {
    inner: R,
    failed: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let result = self.inner.read(buffer);
        if matches!(&result, Err(error) if error.kind() != std::io::ErrorKind::Interrupted) {
            self.failed.set(true);
        }
        result
    }
}

/// Decodes, counts and hashes.
pub struct Stream<'r> {
    inner: Box<dyn Read + 'r>,
    stage: &'static str,
    reader_failed: Rc<Cell<bool>>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes handed out so far.
    position: u64,
    /// Bytes decoded so far.
    total: u64,
    max: u64,
    hash: Sha256,
    ended: bool,
}

impl<'r> Stream<'r> {
    /// Over a compressed reader.
    pub fn new(reader: impl Read + 'r, compression: Compression, limits: &UnpackLimits) -> Result<Self> {
        let reader_failed = Rc::new(Cell::new(false));
        let reader = Watched { inner: reader, failed: Rc::clone(&reader_failed) };
        let (inner, stage): (Box<dyn Read + 'r>, _) = match compression {
            Compression::None => (Box::new(reader), "uncompressed"),
            Compression::Gzip => (
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, reader))),
                "gzip",
            ),
            Compression::Zstd => {
                let failed = |source| Error::Decode { stage: "zstd", source };
                let mut decoder = zstd::stream::read::Decoder::new(reader).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
                (Box::new(decoder), "zstd")
            }
        };
        Ok(Self {
            inner,
            stage,
            reader_failed,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            position: 0,
            total: 0,
            max: limits.max_bytes,
            hash: Sha256::new(),
            ended: false,
        })
    }

    /// A refusal that names the place.
    pub fn refuse(&self, what: impl Into<String>) -> Error {
        Error::Refused { offset: self.position, what: what.into() }
    }

    /// Reads until `wanted` bytes lie in the buffer or the stream ends; `wanted` is at most a block.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        if self.end - self.start >= wanted || self.ended {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < wanted && !self.ended {
            let count = match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) if self.reader_failed.get() => return Err(Error::Read { source }),
                Err(source) => return Err(Error::Decode { stage: self.stage, source }),
            };
            // A reader that claims more than it was given room for is broken; the slice below would panic.
            let count = count.min(self.buffer.len() - self.end);
            self.ended = count == 0;
            self.total += count as u64;
            if self.total > self.max {
                return Err(Error::TooLarge { what: format!("it unpacks to more than {} bytes", self.max) });
            }
            self.hash.update(&self.buffer[self.end..self.end + count]);
            self.end += count;
        }
        Ok(())
    }

    /// One block, or `None` where the stream ends at its border.
    pub fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        self.fill(BLOCK)?;
        let have = &self.buffer[self.start..self.end];
        match have.first_chunk::<BLOCK>() {
            Some(block) => {
                let block = *block;
                self.start += BLOCK;
                self.position += BLOCK as u64;
                Ok(Some(block))
            }
            None if have.is_empty() => Ok(None),
            None => Err(self.refuse("the stream ends in the middle of a header; it was cut off")),
        }
    }

    /// At most `limit` bytes of what comes next; at least one unless `limit` is 0. An early end is an error.
    pub fn chunk(&mut self, limit: u64) -> Result<&[u8]> {
        if limit == 0 {
            return Ok(&[]);
        }
        self.fill(1)?;
        let have = self.end - self.start;
        if have == 0 {
            return Err(self.refuse("the stream ends in the middle of an entry; it was cut off"));
        }
        let count = usize::try_from(limit).unwrap_or(usize::MAX).min(have);
        let from = self.start;
        self.start += count;
        self.position += count as u64;
        Ok(&self.buffer[from..from + count])
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            count -= self.chunk(count)?.len() as u64;
        }
        Ok(())
    }

    /// Reads whatever is left and gives the hash of everything (OCI image spec: a DiffID covers the whole tar).
    pub fn finish(mut self) -> Result<types::Digest> {
        loop {
            self.start = self.end;
            self.fill(1)?;
            if self.start == self.end {
                return Ok(types::Digest::sha256(&self.hash.finalize().into()));
            }
        }
    }
}
