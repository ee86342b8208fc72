//! How much memory a zstd stream asks for, told from its first frame header (RFC 8878, section 3.1.1.1), and
//! who may have a large one.
//!
//! A frame may ask for gigabytes. Encoders of images use up to 8 MiB, and 32 MiB at their best level. All layers
//! that are unpacked at the same moment share a bound: who comes when it is used up waits.

use crate::error::{Error, Result};
use std::io::Read;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// 8 MiB, which RFC 8878 asks every decoder to have.
pub const NORMAL_LOG: u32 = 23;
/// 32 MiB.
pub const LARGE_LOG: u32 = 25;

/// The longest frame header, with its magic number.
const HEAD: usize = 18;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How large a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// [`NORMAL_LOG`] is enough.
    Normal,
    /// It takes [`LARGE_LOG`].
    Large,
}

/// The first bytes of a stream; fewer only where it is shorter.
pub fn head(reader: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    reader.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The window that the first frame asks for. What cannot be told here is large: the decoder holds to that.
pub fn of(head: &[u8]) -> Result<Size> {
    let Some(window) = declared(head) else { return Ok(Size::Large) };
    if window <= 1 << NORMAL_LOG {
        return Ok(Size::Normal);
    }
    if window <= 1 << LARGE_LOG {
        return Ok(Size::Large);
    }
    Err(Error::TooLarge {
        what: format!("unpacking its zstd stream needs a window of {window} bytes; 32 MiB are the most"),
        advice: "compress the layer again without --ultra and --long",
    })
}

fn declared(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(&MAGIC)?;
    let (&descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let &byte = rest.first()?;
        let base = 1_u64 << (10 + (byte >> 3));
        return Some(base + base / 8 * u64::from(byte & 7));
    }
    // Without a window of its own the content's size is the window; a dictionary id comes before it.
    let rest = rest.get([0, 1, 2, 4][usize::from(descriptor & 3)]..)?;
    let field = |length: usize| {
        let bytes = rest.get(..length)?;
        Some(bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    match descriptor >> 6 {
        0 => field(1),
        1 => field(2).map(|size| size + 256),
        2 => field(4),
        _ => field(8),
    }
}

/// Bytes of all windows at one moment: four that are normal, or one that is large.
const MOST: u64 = 32 << 20;

/// Bytes of windows that are in use.
static TAKEN: Mutex<u64> = Mutex::new(0);
static FREE: Condvar = Condvar::new();

fn taken() -> MutexGuard<'static, u64> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to a window.
pub struct Permit(u64);

impl Permit {
    /// Waits until there is room for a window of `1 << log` bytes, which is at most [`LARGE_LOG`].
    pub fn wait(log: u32) -> Self {
        let bytes = 1 << log.min(LARGE_LOG);
        let mut taken = taken();
        while *taken + bytes > MOST {
            taken = FREE.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Self(bytes)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *taken() -= self.0;
        FREE.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_told_from_the_header() {
        let frame = |rest: &[u8]| [&MAGIC[..], rest].concat();
        assert_eq!(declared(&frame(&[0x00, 0x00])), Some(1 << 10));
        assert_eq!(declared(&frame(&[0x04, 0x69])), Some((1 << 23) + (1 << 20)));
        assert_eq!(declared(&frame(&[0x20, 9])), Some(9));
        assert_eq!(declared(&frame(&[0x61, 7, 1, 1])), Some(513));
        assert_eq!(declared(&frame(&[0xa0, 0, 0, 0, 4])), Some(64 << 20));
        assert_eq!(
            declared(&frame(&[0xe3, 1, 2, 3, 4, 255, 255, 255, 255, 255, 255, 255, 255])),
            Some(u64::MAX)
        );
        for short in [&[][..], &[0x20], &[0xa0, 1, 1]] {
            assert_eq!(declared(&frame(short)), None, "{short:?}");
        }
        assert_eq!(of(&frame(&[0x00, 0x68])).ok(), Some(Size::Normal));
        assert_eq!(of(&frame(&[0x00, 0x78])).ok(), Some(Size::Large));
        assert!(of(&frame(&[0x00, 0x80])).is_err(), "64 MiB");
        assert_eq!(of(&[0x50, 0x2a, 0x4d, 0x18]).ok(), Some(Size::Large), "a skippable frame");
        let real = zstd::encode_all(&[7; 100][..], 3).expect("zstd");
        assert_eq!(of(&real).ok(), Some(Size::Normal));
    }
}
