//! Bounds of one archive and of one image: what may be unpacked before it ends with an error.
//!
//! Nothing here looks at an archive; the decoder, the reader and the unpacker ask.

use crate::error::{Error, Result};
use rustix::fs::StatVfs;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds of one archive. Reaching one ends the unpacking with `ResourceExhausted`.
#[derive(Debug, Clone)]
pub struct UnpackLimits {
    /// Bytes of the uncompressed stream, and bytes of all holes of sparse files.
    pub max_bytes: u64,
    /// Entries, whiteouts included.
    pub max_entries: u64,
    /// Bytes of a path or link target.
    pub max_path: usize,
    /// Bytes of all extended attributes of one entry, names included.
    pub max_xattr_bytes: usize,
    /// How many times longer than what was read the uncompressed stream may become, from [`Self::ratio_from`] bytes
    /// on. 0 is no bound. Deflate makes at most 1,032 bytes of one, and only of what says nothing.
    pub max_ratio: u32,
    /// Uncompressed bytes that come without a look at the ratio.
    pub ratio_from: u64,
    /// Bytes that stay free on the target's file system, and with them one inode in a hundred. 0: it may be filled.
    pub reserve: u64,
    /// What all layers of one image share.
    pub budget: Option<Arc<Budget>>,
}

impl UnpackLimits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        max_bytes: 64 << 30,
        max_entries: 2_000_000,
        max_path: 4095,
        max_xattr_bytes: 256 << 10,
        max_ratio: 250,
        ratio_from: 1 << 30,
        reserve: 0,
        budget: None,
    };
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Uncompressed bytes that all layers of one image may have together.
#[derive(Debug)]
pub struct Budget {
    all: u64,
    left: AtomicU64,
}

impl Budget {
    /// For one pull.
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { all: bytes, left: AtomicU64::new(bytes) })
    }
}

/// What one archive took of its image's budget. It is given back where the archive is not unpacked to its end:
/// the layer may come again from another registry.
pub struct Charge {
    budget: Option<Arc<Budget>>,
    taken: u64,
}

impl Charge {
    pub fn new(limits: &UnpackLimits) -> Self {
        Self { budget: limits.budget.clone(), taken: 0 }
    }

    /// Takes `bytes` more.
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        let Some(budget) = &self.budget else { return Ok(()) };
        let took =
            budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if took.is_err() {
            let all = budget.all;
            return Err(Error::TooLarge {
                what: format!("with the image's other layers it unpacks to more than {all} bytes"),
                advice: "raise images.max_image_bytes if the image is wanted",
            });
        }
        self.taken += bytes;
        Ok(())
    }

    /// The archive came to its end.
    pub fn keep(&mut self) {
        self.taken = 0;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.left.fetch_add(self.taken, Ordering::Relaxed);
        }
    }
}

/// The most bytes that are written between two looks at what is free.
const LOOK_EVERY_BYTES: u64 = 32 << 20;
/// The least: as close as it comes to what has to stay free.
const LOOK_AT_LEAST_AFTER: u64 = 1 << 20;
/// Inodes that are made between two looks.
const LOOK_EVERY_INODES: u64 = 4096;

/// Watches what is free where a layer goes.
pub struct Room {
    reserve: u64,
    next: (u64, u64),
}

impl Room {
    pub fn new(limits: &UnpackLimits) -> Self {
        Self { reserve: limits.reserve, next: (0, 0) }
    }

    /// Looks again if enough was made since the last look.
    pub fn check(&mut self, root: BorrowedFd<'_>, bytes: u64, inodes: u64) -> Result<()> {
        if bytes < self.next.0 && inodes < self.next.1 {
            return Ok(());
        }
        if self.reserve == 0 {
            return Ok(());
        }
        self.next = (bytes.saturating_add(LOOK_EVERY_BYTES), inodes.saturating_add(LOOK_EVERY_INODES));
        // A file system that cannot tell has no reserve.
        let Ok(stat) = rustix::fs::fstatvfs(root) else { return Ok(()) };
        self.judge(&stat)?;
        self.next.0 = bytes.saturating_add(self.next_look(&stat));
        Ok(())
    }

    /// Bytes until the next look: half of what may still be taken, for others write, too.
    fn next_look(&self, stat: &StatVfs) -> u64 {
        let spare = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(self.reserve);
        (spare / 2).clamp(LOOK_AT_LEAST_AFTER, LOOK_EVERY_BYTES)
    }

    fn judge(&self, stat: &StatVfs) -> Result<()> {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let reserve = self.reserve;
        if free < reserve {
            return Err(Error::TooLarge {
                what: format!("{free} bytes are free where layers are kept, and {reserve} must stay free"),
                advice: "make room, or lower images.min_free",
            });
        }
        // Some file systems (btrfs) make inodes as they need them and say 0.
        if stat.f_files > 0 && stat.f_favail < stat.f_files / 100 {
            return Err(Error::TooLarge {
                what: format!("only {} inodes are free where layers are kept", stat.f_favail),
                advice: "remove images or files that are not needed",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_a_broken_off_layer_took_of_the_budget_comes_back() {
        let budget = Budget::new(100);
        let limits = UnpackLimits { budget: Some(Arc::clone(&budget)), ..UnpackLimits::DEFAULT };
        let mut first = Charge::new(&limits);
        first.take(60).expect("room");
        assert!(Charge::new(&limits).take(41).is_err());
        drop(first);
        let mut again = Charge::new(&limits);
        again.take(100).expect("all of it is there again");
        again.keep();
        drop(again);
        assert!(Charge::new(&limits).take(1).is_err(), "a whole layer stays counted");
    }

    #[test]
    fn bytes_and_inodes_stay_free() {
        let root = std::fs::File::open("/").expect("open");
        let mut stat = rustix::fs::fstatvfs(&root).expect("statvfs");
        (stat.f_frsize, stat.f_files, stat.f_favail) = (1, 0, 0);
        let mut room = Room { reserve: 50, next: (0, 0) };
        stat.f_bavail = 50;
        room.judge(&stat).expect("enough is free");
        assert_eq!(room.next_look(&stat), LOOK_AT_LEAST_AFTER);
        stat.f_bavail = 50 + (20 << 20);
        assert_eq!(room.next_look(&stat), 10 << 20);
        stat.f_bavail = u64::MAX;
        assert_eq!(room.next_look(&stat), LOOK_EVERY_BYTES);
        stat.f_bavail = 49;
        assert!(room.judge(&stat).expect_err("less").to_string().contains("49 bytes are free"));
        (stat.f_bavail, stat.f_files, stat.f_favail) = (50, 1000, 9);
        assert!(room.judge(&stat).expect_err("no inodes").to_string().contains("9 inodes"));
        room.reserve = u64::MAX;
        assert!(room.check(root.as_fd(), 0, 0).is_err());
        room.check(root.as_fd(), LOOK_EVERY_BYTES - 1, LOOK_EVERY_INODES - 1).expect("no look yet");
        assert!(room.check(root.as_fd(), LOOK_EVERY_BYTES, 0).is_err());
        assert!(Room { reserve: u64::MAX, next: (0, 0) }.check(root.as_fd(), 0, 0).is_err());
        Room { reserve: 0, next: (0, 0) }.check(root.as_fd(), 0, 0).expect("it may be filled");
    }
}
