//! The terminal's way to the caller: its master goes over a socket that the caller listens on (runc,
//! `docs/terminals.md`). Copies no bytes of the terminal itself.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// A connection to the caller's socket, made before anything else is.
#[derive(Debug)]
pub struct Console(OwnedFd);

/// The connection for a process that has a terminal, `None` for one that has none.
pub fn connect_for(terminal: bool, socket: Option<&Path>) -> Result<Option<Console>> {
    match (terminal, socket) {
        (true, Some(path)) => Console::connect(path).map(Some),
        (false, None) => Ok(None),
        (true, None) => Err(Error::invalid(
            "process.terminal is true: give --console-socket, which takes the terminal, or set it to false",
        )),
        (false, Some(_)) => Err(Error::invalid(
            "--console-socket is for processes with a terminal: leave it out, or set process.terminal to true",
        )),
    }
}

impl Console {
    fn connect(path: &Path) -> Result<Self> {
        let fail = |errno: rustix::io::Errno| {
            Error::with_source(
                ErrorKind::InvalidArgument,
                format!("cannot connect to the console socket {}", path.display()),
                std::io::Error::from(errno),
            )
        };
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(fail)?;
        // A socket's path has 107 bytes at most (unix(7)); callers' folders are longer than that at times.
        let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(fail)?;
        connect(&socket, &address).map_err(fail)?;
        Ok(Self(socket))
    }

    /// Sends the master; the message is the terminal's name.
    pub fn send(&self, master: &OwnedFd) -> Result<()> {
        let fail = |errno: rustix::io::Errno| {
            Error::with_source(
                ErrorKind::Unavailable,
                "cannot send the terminal over the console socket",
                std::io::Error::from(errno),
            )
        };
        let name = rustix::pty::ptsname(master, Vec::new()).map_err(fail)?;
        let fds = [master.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&self.0, &[IoSlice::new(name.as_bytes())], &mut control, SendFlags::NOSIGNAL)
            .map(|_| ())
            .map_err(fail)
    }
}
