//! The ways in which kernels are told what an overlay consists of. The newest that works is taken; tests, and
//! nobody else, keep a process from the newer ones, so that one kernel shows them all.

use std::sync::atomic::{AtomicU8, Ordering};

/// How an overlay gets its layers, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Way {
    /// All of them in one string of mount(2), at a place in the caller's mount namespace.
    OneString,
    /// Path by path (Linux 6.7).
    OneByOne,
    /// By descriptors of mounts that are attached nowhere (Linux 6.15).
    Descriptors,
}

static NEWEST: AtomicU8 = AtomicU8::new(Way::Descriptors as u8);

/// From now on this process and its children mount as on an older kernel. For tests.
#[doc(hidden)]
pub fn at_most(way: Way) {
    NEWEST.store(way as u8, Ordering::Relaxed);
}

/// Whether `way` is tried in this process.
pub(super) fn is_tried(way: Way) -> bool {
    way as u8 <= NEWEST.load(Ordering::Relaxed)
}
