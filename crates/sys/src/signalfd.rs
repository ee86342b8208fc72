//! Reading every signal from a descriptor, for a program that waits for one process in the foreground and
//! passes on what it is sent. Handles nothing itself.

use rustix::fd::{FromRawFd, OwnedFd};
use std::io;

/// A descriptor from which blocked signals are read (signalfd(2)); blocking, close-on-exec. Block them first:
/// [`crate::signal::block_all`].
pub fn all() -> io::Result<OwnedFd> {
    // SAFETY: sigfillset initialises the set before use; -1 asks for a new descriptor, which nobody else owns.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut set);
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Waits for the next signal and answers its number.
pub fn next(signals: &OwnedFd) -> io::Result<i32> {
    // `struct signalfd_siginfo` has 128 bytes; the first four are the number (signalfd(2)).
    let mut record = [0; 128];
    loop {
        match rustix::io::read(signals, &mut record) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(128) => {
                let [a, b, c, d, ..] = record;
                return Ok(i32::from_ne_bytes([a, b, c, d]));
            }
            Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }
}
