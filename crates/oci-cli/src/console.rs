//! The terminal's way to the caller: its master goes over a socket that the caller listens on (runc,
//! `docs/terminals.md`), or this program relays it where it stays in the foreground.

use crate::socket::Socket;
use crate::terminal::Terminal;
use rustix::fd::{AsFd, OwnedFd};
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// Who gets the terminal's master.
#[derive(Debug)]
pub enum Console {
    /// Nobody: the process has none.
    None,
    /// The caller. Connected before anything else is made.
    Socket(Socket),
    /// This program.
    Relay,
}

impl Console {
    /// What fits a process that has a terminal or not; `stays` says whether this program waits for its end.
    pub fn of(terminal: bool, socket: Option<&Path>, stays: bool) -> Result<Self> {
        match (terminal, socket) {
            (true, Some(path)) => Socket::connect(path, "console").map(Self::Socket),
            (false, None) => Ok(Self::None),
            (true, None) if stays => Ok(Self::Relay),
            (true, None) => Err(Error::invalid(
                "process.terminal is true, and nobody stays for the terminal: give --console-socket, which takes it, or set it to false",
            )),
            (false, Some(_)) => Err(Error::invalid(
                "--console-socket is for processes with a terminal: leave it out, or set process.terminal to true",
            )),
        }
    }

    /// Gives the master away; what is left is to be relayed. With the socket its message is the terminal's name.
    pub fn take(self, master: Option<OwnedFd>) -> Result<Option<Terminal>> {
        match (self, master) {
            (Self::None, None) => Ok(None),
            (Self::Socket(socket), Some(master)) => {
                let name = rustix::pty::ptsname(&master, Vec::new()).map_err(|errno| {
                    Error::with_source(
                        ErrorKind::Internal,
                        "cannot name the terminal",
                        std::io::Error::from(errno),
                    )
                })?;
                socket.send(master.as_fd(), name.as_bytes()).map(|()| None)
            }
            (Self::Relay, Some(master)) => Terminal::new(master).map(Some),
            (_, None) => Err(Error::internal("the container's process made no terminal")),
            (Self::None, Some(_)) => {
                Err(Error::internal("the container's process made a terminal that nobody takes"))
            }
        }
    }
}
