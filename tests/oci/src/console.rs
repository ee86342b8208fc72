//! The other end of `--console-socket`: gets a terminal's master.

use crate::output::{PATIENCE, until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens; it may get several masters, one by one.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens at a new socket in a folder.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("console");
        let listener = UnixListener::bind(&path).expect("a socket");
        listener.set_nonblocking(true).expect("a socket that does not block");
        Self { listener, path }
    }

    /// What to give to `--console-socket`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// The name that came with the master, and the master.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    #[must_use]
    pub fn master(&self) -> (String, OwnedFd) {
        let (name, mut fds) = self.descriptors();
        (name, fds.pop().expect("a descriptor in the message"))
    }

    /// The text and all descriptors (at most 16) of the next message.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    #[must_use]
    pub fn descriptors(&self) -> (String, Vec<OwnedFd>) {
        let (stream, _) = until("a connection to the socket", || self.listener.accept().ok());
        receive(&stream)
    }
}

/// One message with descriptors.
///
/// # Panics
/// When none comes.
#[track_caller]
#[must_use]
pub fn receive(stream: &UnixStream) -> (String, Vec<OwnedFd>) {
    stream.set_nonblocking(false).expect("a socket that blocks");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let mut text = vec![0; 65536];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .expect("a message on the socket");
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    (String::from_utf8_lossy(&text[..got.bytes]).trim_end_matches('\0').to_owned(), fds)
}

/// Everything that comes from a terminal until its last process ends, with line ends as `\n`.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn read_all(master: OwnedFd) -> String {
    let mut file = std::fs::File::from(master);
    let mut bytes = Vec::new();
    loop {
        let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&limit));
        assert_ne!(ready, Ok(0), "the terminal stays open: {}", String::from_utf8_lossy(&bytes));
        let mut part = [0; 4096];
        // The end of a terminal whose last process ended is EIO (pty(7)).
        match file.read(&mut part) {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&bytes).replace("\r\n", "\n"),
            Ok(count) => bytes.extend(&part[..count]),
        }
    }
}
