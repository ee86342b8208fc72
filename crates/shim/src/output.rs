//! A container's output: read as it comes, written to its log.

use cri_log::Stream;
use rustix::fd::AsFd;
use rustix::io::Errno;

/// How much one read takes, in bytes; half a pipe, so that two streams take turns.
pub const CHUNK: usize = 32 << 10;

/// Which descriptor is readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    /// The log's word for it.
    pub fn stream(self) -> Stream {
        match self {
            Self::Stdout => Stream::Stdout,
            Self::Stderr => Stream::Stderr,
        }
    }
}

/// What a read brought.
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// Nothing ever more.
    End,
}

/// Reads once. A terminal whose other side is closed answers EIO (pty(7)), which is its end.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Read {
    loop {
        return match rustix::io::read(&fd, &mut *buffer) {
            Ok(0) => Read::End,
            Ok(count) => Read::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Read::Empty,
            Err(_) => Read::End,
        };
    }
}
