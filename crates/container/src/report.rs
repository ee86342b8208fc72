//! How a launching child tells its supervisor how far it came: small messages on a `SOCK_SEQPACKET` pair
//! whose end in the child closes with a successful exec.

use crate::failure::{Failure, Step, Tried};
use crate::plan::ResolvedUser;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// The largest report in bytes; longer sentences are cut.
const REPORT_MAX: usize = 16 << 10;

/// One message of the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Everything but the exec is done; for a terminal, its descriptor comes along.
    Ready(ResolvedUser),
    /// A step failed; nothing follows.
    Failed(Failure),
    /// Everything is mounted; the child waits to be let on, see [`crate::detached::Detached::pauses`].
    Mounted,
    /// Something that was asked for could not be had and is not vital.
    Warning(String),
    /// The next thing that the child does is loading a seccomp filter whose listener will be this descriptor of it.
    Listener(i32),
}

/// A report, with the descriptor that came along.
pub type Said = (Report, Option<OwnedFd>);

/// The supervisor's end.
#[derive(Debug)]
pub struct Receiver(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub struct Sender(OwnedFd);

/// A connected pair; both ends close on exec.
pub fn pair() -> Step<(Sender, Receiver)> {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .tried(|| "cannot make the socket for the child's report".into())?;
    Ok((Sender(a), Receiver(b)))
}

impl Sender {
    /// Sends one report, with a descriptor where there is one.
    pub fn send(&self, report: &Report, fd: Option<BorrowedFd<'_>>) -> Step {
        let mut report = report.clone();
        if let Report::Failed(Failure { message, .. }) | Report::Warning(message) = &mut report {
            while message.len() > REPORT_MAX / 2 {
                message.pop();
            }
        }
        let bytes = postcard::to_allocvec(&report)
            .map_err(|e| Failure::system(format!("cannot encode a report: {e}")))?;
        self::send(&self.0, &bytes, fd)
    }
}

impl Receiver {
    /// The next report and its descriptor; `None` once the child has closed its end.
    pub fn receive(&self) -> Step<Option<Said>> {
        loop {
            if let Some(received) = self.receive_with(RecvFlags::empty())? {
                return Ok(received);
            }
        }
    }

    /// As [`Receiver::receive`], without waiting: the outer `None` means that nothing has come yet.
    pub fn try_receive(&self) -> Step<Option<Option<Said>>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, flags: RecvFlags) -> Step<Option<Option<Said>>> {
        let (bytes, fd) = match self::receive(&self.0, flags)? {
            None => return Ok(None),
            Some(None) => return Ok(Some(None)),
            Some(Some(received)) => received,
        };
        let report = postcard::from_bytes(&bytes)
            .map_err(|e| Failure::system(format!("the child's report cannot be read: {e}")))?;
        Ok(Some(Some((report, fd))))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends one message, with a descriptor where there is one.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Step {
    let fds;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = fd {
        fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        .tried(|| "cannot report to the supervisor".into())?;
    Ok(())
}

/// A message and its descriptor.
type Received = (Vec<u8>, Option<OwnedFd>);

/// The next message: the outer `None` where nothing has come yet, the inner at the end.
pub(crate) fn receive(socket: &OwnedFd, flags: RecvFlags) -> Step<Option<Option<Received>>> {
    let mut buffer = vec![0; REPORT_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            other => break other.tried(|| "cannot read the child's report".into())?,
        }
    };
    if got.bytes == 0 {
        return Ok(Some(None));
    }
    if got.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(Failure::system("the child's report is longer than the protocol allows"));
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    buffer.truncate(got.bytes);
    Ok(Some(Some((buffer, fd))))
}
