//! The uncompressed stream of a layer: hashed, and handed out in slices of a few buffers.
//!
//! Every byte passes here once and is hashed before anyone looks at it. Nothing is allocated by a size
//! that the stream declares. A stream that is longer than one buffer is decoded on one thread and hashed on another
//! while the caller works on what both are done with.

use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::{Compression, UnpackLimits};
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

/// One record of a tar (POSIX pax, "ustar Interchange Format").
pub const BLOCK: usize = 512;

/// Large enough that one `write` per buffer costs little. A multiple of a record: none lies in two buffers.
const BUFFER: usize = 256 << 10;

/// Buffers of one stream: one being filled, one being hashed, one being written, and some to even out.
const BUFFERS: usize = 6;

type Buffer = Box<[u8]>;

/// What goes from thread to thread. A buffer that is not full is the last one.
enum Message {
    Data(Buffer, usize),
    End(Option<types::Digest>),
    Failed(Error),
}

/// Who decodes and hashes.
enum Source<'r> {
    /// The caller's own thread.
    Here(Box<Decoder<'r>>, Sha256),
    /// Two others.
    Threads { filled: Receiver<Message>, empty: SyncSender<Buffer> },
    /// All was read.
    Done(types::Digest),
    /// It failed before.
    Broken,
}

/// Hands out a stream.
pub struct Stream<'r> {
    source: Source<'r>,
    buffer: Buffer,
    start: usize,
    end: usize,
    /// Bytes handed out so far.
    position: u64,
}

impl<'r> Stream<'r> {
    /// Over a compressed reader.
    pub fn new(
        reader: impl Read + Send + 'r,
        compression: Compression,
        limits: &UnpackLimits,
    ) -> Result<Self> {
        let decoder = Box::new(Decoder::new(reader, compression, limits)?);
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self { source: Source::Here(decoder, Sha256::new()), buffer, start: 0, end: 0, position: 0 })
    }

    /// Decodes and hashes on two threads of `scope` from now on, unless the stream fits into one buffer or the
    /// machine has no threads left.
    pub fn spread<'scope>(&mut self, scope: &'scope Scope<'scope, '_>) -> Result<()>
    where
        'r: 'scope,
    {
        self.fill()?;
        if !matches!(self.source, Source::Here(..)) {
            return Ok(());
        }
        let (give_decoder, take_decoder) = sync_channel::<Box<Decoder<'r>>>(1);
        let (give_hash, take_hash) = sync_channel::<Sha256>(1);
        let (empty, to_fill) = sync_channel::<Buffer>(BUFFERS);
        let (decoded, to_hash) = sync_channel::<Message>(BUFFERS + 1);
        let (hashed, filled) = sync_channel::<Message>(BUFFERS + 1);
        let decode = move || {
            if let Ok(decoder) = take_decoder.recv() {
                decode(*decoder, &to_fill, &decoded);
            }
        };
        let hash = move || {
            if let Ok(sum) = take_hash.recv() {
                hash(sum, &to_hash, &hashed);
            }
        };
        let named = |name: &str| Builder::new().name(name.to_owned());
        // What waits for its work ends without it: a thread that cannot be started costs nothing but time.
        if named("layer-decode").spawn_scoped(scope, decode).is_err()
            || named("layer-hash").spawn_scoped(scope, hash).is_err()
        {
            return Ok(());
        }
        for _ in 1..BUFFERS {
            // There is room for all of them.
            let _ = empty.send(vec![0; BUFFER].into_boxed_slice());
        }
        if let Source::Here(decoder, sum) =
            std::mem::replace(&mut self.source, Source::Threads { filled, empty })
        {
            let _ = give_decoder.send(decoder);
            let _ = give_hash.send(sum);
        }
        Ok(())
    }

    /// A refusal that names the place.
    pub fn refuse(&self, what: impl Into<String>) -> Error {
        Error::Refused { offset: self.position, what: what.into() }
    }

    /// Gets the next buffer where this one is used up.
    fn fill(&mut self) -> Result<()> {
        if self.start < self.end {
            return Ok(());
        }
        (self.start, self.end) = (0, 0);
        match &mut self.source {
            Source::Done(_) => Ok(()),
            Source::Broken => Err(self.refuse("it was read on behind an error")),
            Source::Here(decoder, sum) => {
                let count = match decoder.fill(&mut self.buffer) {
                    Ok(count) => count,
                    Err(error) => {
                        self.source = Source::Broken;
                        return Err(error);
                    }
                };
                sum.update(&self.buffer[..count]);
                self.end = count;
                if count < self.buffer.len() {
                    self.source = Source::Done(digest(std::mem::take(sum)));
                }
                Ok(())
            }
            Source::Threads { filled, empty } => {
                // Nobody takes it where all was decoded.
                let _ = empty.send(std::mem::take(&mut self.buffer));
                match filled.recv() {
                    Ok(Message::Data(buffer, count)) => {
                        (self.buffer, self.end) = (buffer, count);
                        Ok(())
                    }
                    Ok(Message::End(Some(digest))) => {
                        self.source = Source::Done(digest);
                        Ok(())
                    }
                    Ok(Message::Failed(error)) => {
                        self.source = Source::Broken;
                        Err(error)
                    }
                    // A thread that is gone without a word panicked; its scope passes that on.
                    Ok(Message::End(None)) | Err(_) => {
                        self.source = Source::Broken;
                        Err(self.refuse("its decoder is gone"))
                    }
                }
            }
        }
    }

    /// One block, or `None` where the stream ends at its border.
    pub fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        self.fill()?;
        // Only data and its padding lie between blocks: this one begins at a multiple of its size.
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
        self.fill()?;
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
            self.fill()?;
            if let (Source::Done(digest), 0) = (&self.source, self.end) {
                return Ok(digest.clone());
            }
        }
    }
}

fn digest(sum: Sha256) -> types::Digest {
    types::Digest::sha256(&sum.finalize().into())
}

/// Ends where the stream ends, where it fails, and where nobody wants more.
fn decode(mut decoder: Decoder<'_>, to_fill: &Receiver<Buffer>, decoded: &SyncSender<Message>) {
    while let Ok(mut buffer) = to_fill.recv() {
        let message = match decoder.fill(&mut buffer) {
            Ok(0) => Message::End(None),
            Ok(count) => Message::Data(buffer, count),
            Err(error) => Message::Failed(error),
        };
        let last = matches!(message, Message::End(_) | Message::Failed(_));
        if decoded.send(message).is_err() || last {
            return;
        }
    }
}

fn hash(mut sum: Sha256, to_hash: &Receiver<Message>, hashed: &SyncSender<Message>) {
    while let Ok(message) = to_hash.recv() {
        let message = match message {
            Message::Data(buffer, count) => {
                sum.update(&buffer[..count]);
                Message::Data(buffer, count)
            }
            Message::End(_) => Message::End(Some(digest(sum.clone()))),
            failed @ Message::Failed(_) => failed,
        };
        if hashed.send(message).is_err() {
            return;
        }
    }
}
