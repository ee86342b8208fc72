//! Sockets that the caller listens on, and that get one descriptor each: the terminal's master, a pidfd, a seccomp
//! listener. Sends once, never reads.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// A connection to a caller's socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    /// For messages.
    what: &'static str,
}

impl Socket {
    /// Connects; `what` names the socket for people.
    pub fn connect(path: &Path, what: &'static str) -> Result<Self> {
        let fail = |errno: rustix::io::Errno| {
            Error::with_source(
                ErrorKind::InvalidArgument,
                format!("cannot connect to the {what} socket {}", path.display()),
                std::io::Error::from(errno),
            )
        };
        let fd =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(fail)?;
        // A socket's path has 107 bytes at most (unix(7)); callers' folders are longer than that at times.
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(fail)?;
        connect(&fd, &address).map_err(fail)?;
        Ok(Self { fd, what })
    }

    /// Sends a descriptor with a message.
    pub fn send(&self, fd: BorrowedFd<'_>, message: &[u8]) -> Result<()> {
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = sendmsg(&self.fd, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL);
        let sent = sent.map_err(std::io::Error::from).and_then(|mut sent| {
            // The descriptor goes with the first byte; a long state may need more than one call.
            while sent < message.len() {
                sent += rustix::net::send(&self.fd, &message[sent..], SendFlags::NOSIGNAL)?;
            }
            Ok(())
        });
        sent.map_err(|error| {
            Error::with_source(
                ErrorKind::Unavailable,
                format!("cannot send over the {} socket", self.what),
                error,
            )
        })
    }
}
