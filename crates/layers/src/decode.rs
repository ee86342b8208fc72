//! From the compressed stream of a layer to the uncompressed one, with every bound on its size.
//!
//! It never holds more than a decoder's window and what its caller gives it to fill.

use crate::error::{Error, Result};
use crate::limits::{Charge, UnpackLimits};
use crate::{Compression, window};
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is known of the reader below a decoder.
#[derive(Default)]
struct Watch {
    /// It failed itself: a decoder passes such an error on as if it were its own.
    failed: AtomicBool,
    /// Bytes that it gave.
    count: AtomicU64,
}

struct Watched<R> {
    inner: R,
    watch: Arc<Watch>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let result = self.inner.read(buffer);
        match &result {
            Ok(count) => {
                self.watch.count.fetch_add(*count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                self.watch.failed.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        result
    }
}

/// A decoder with the right to its window, which goes when it goes.
struct Held<R> {
    inner: R,
    _permit: window::Permit,
}

impl<R: Read> Read for Held<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(buffer)
    }
}

/// What a compressed stream unpacks to, without any bound but that of a window.
pub fn open<'r>(
    mut reader: impl Read + Send + 'r,
    compression: Compression,
) -> Result<Box<dyn Read + Send + 'r>> {
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, reader)))
        }
        Compression::Zstd => {
            let failed = |source| Error::Decode { stage: "zstd", source };
            let head = window::head(&mut reader).map_err(|source| Error::Read { source })?;
            let log = match window::of(&head)? {
                window::Size::Normal => window::NORMAL_LOG,
                window::Size::Large => window::LARGE_LOG,
            };
            let permit = window::Permit::wait(log);
            let reader = std::io::Cursor::new(head).chain(reader);
            let mut inner = zstd::stream::read::Decoder::new(reader).map_err(failed)?;
            inner.window_log_max(log).map_err(failed)?;
            Box::new(Held { inner, _permit: permit })
        }
    })
}

/// Decodes and counts.
pub struct Decoder<'r> {
    inner: Box<dyn Read + Send + 'r>,
    stage: &'static str,
    watch: Arc<Watch>,
    total: u64,
    limits: UnpackLimits,
    charge: Charge,
}

impl<'r> Decoder<'r> {
    /// Over a compressed reader.
    pub fn new(
        reader: impl Read + Send + 'r,
        compression: Compression,
        limits: &UnpackLimits,
    ) -> Result<Self> {
        let watch = Arc::new(Watch::default());
        let reader = Watched { inner: reader, watch: Arc::clone(&watch) };
        let stage = match compression {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        let inner = open(reader, compression)?;
        Ok(Self { inner, stage, watch, total: 0, limits: limits.clone(), charge: Charge::new(limits) })
    }

    /// Fills the buffer, to its end unless the stream ends before.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let count = match self.inner.read(&mut buffer[filled..]) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) if self.watch.failed.load(Ordering::Relaxed) => {
                    return Err(Error::Read { source });
                }
                Err(source) => return Err(Error::Decode { stage: self.stage, source }),
            };
            if count == 0 {
                self.charge.keep();
                break;
            }
            // A reader that claims more than it was given room for is broken; a slice behind it would panic.
            let count = count.min(buffer.len() - filled);
            filled += count;
            self.count(count as u64)?;
        }
        Ok(filled)
    }

    fn count(&mut self, count: u64) -> Result<()> {
        self.total += count;
        let UnpackLimits { max_bytes, max_ratio, ratio_from, .. } = self.limits;
        if self.total > max_bytes {
            return Err(Error::TooLarge {
                what: format!("it unpacks to more than {max_bytes} bytes"),
                advice: "raise images.max_layer_bytes if the image is wanted",
            });
        }
        let read = self.watch.count.load(Ordering::Relaxed);
        if max_ratio > 0 && self.total > ratio_from && self.total / u64::from(max_ratio) > read {
            return Err(Error::TooLarge {
                what: format!(
                    "its first {read} bytes unpack to {} bytes and more, over {max_ratio} times as much, as a \
                     bomb does",
                    self.total
                ),
                advice: "raise images.max_layer_ratio if the image is wanted",
            });
        }
        self.charge.take(count)
    }
}
