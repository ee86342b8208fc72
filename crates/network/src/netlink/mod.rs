//! A small netlink client: one socket, requests with their answers, nothing subscribed.
//!
//! The kernel works a request off inside `sendto` (netlink(7)), so a call costs two system calls,
//! and several requests in one datagram cost one send and the answers' receives. A socket belongs
//! to the network namespace of the thread that opened it, for its whole life, wherever it is used.

pub mod address;
pub mod link;
pub mod message;
pub mod route;

use message::{Message, Received, messages};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType,
    netlink::SocketAddrNetlink,
};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Larger than any datagram that the kernel sends: it builds dumps in 32 KiB at most
/// (`NLMSG_GOODSIZE`, net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 * 1024;
/// More answers than any request here can have; a bound, not an expectation.
const MOST_ANSWERS: usize = 1 << 17;

/// What can go wrong on a netlink socket.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("cannot {action} the netlink socket")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: Errno,
    },
    /// The kernel refused a request.
    #[error("cannot {action}")]
    Refused {
        /// What was asked.
        action: String,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// A request does not fit its message.
    #[error("netlink attribute {attribute} would be too long; nothing was sent")]
    TooLong {
        /// The attribute's type.
        attribute: u16,
    },
    /// An answer's lengths do not add up.
    #[error("the kernel's netlink answer is malformed")]
    Malformed,
}

impl NetlinkError {
    /// The kernel's answer, where it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Refused { source, .. } | NetlinkError::Socket { source, .. } => Some(*source),
            _ => None,
        }
    }
}

impl From<crate::netns::NetnsError> for NetlinkError {
    fn from(error: crate::netns::NetnsError) -> Self {
        let source = match &error {
            crate::netns::NetnsError::System { source, .. } => *source,
            crate::netns::NetnsError::NotNamespace { .. } => Errno::INVAL,
        };
        NetlinkError::Refused { action: error.to_string().replacen("cannot ", "", 1), source }
    }
}

/// A request with the words for its failure.
#[derive(Debug)]
pub struct Request {
    message: Message,
    action: String,
    forgiven: &'static [Errno],
    answered: bool,
}

impl Request {
    /// `action` completes "cannot …".
    pub fn new(message: Message, action: impl Into<String>) -> Self {
        Self { message, action: action.into(), forgiven: &[], answered: true }
    }

    /// These answers count as success, for requests whose wish is already the case.
    pub fn forgiving(mut self, errnos: &'static [Errno]) -> Self {
        self.forgiven = errnos;
        self
    }

    /// The kernel answers this one only to refuse it, and with it everything that follows.
    pub fn unanswered(mut self) -> Self {
        self.answered = false;
        self
    }
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// For links, addresses and routes (rtnetlink(7)).
    pub fn route() -> Result<Self, NetlinkError> {
        Self::open(None)
    }

    /// For nf_tables.
    pub fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        let failed = |action| move |source| NetlinkError::Socket { action, source };
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
                .map_err(failed("open"))?;
        // Answers are there when sendto returns; the limit only guards against a wait without end.
        rustix::net::sockopt::set_socket_timeout(
            &fd,
            rustix::net::sockopt::Timeout::Recv,
            Some(Duration::from_secs(10)),
        )
        .map_err(failed("configure"))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let kernel = SocketAddrNetlink::new(0, 0);
        let failed = |source| NetlinkError::Socket { action: "send on", source };
        let sent =
            rustix::io::retry_on_intr(|| rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &kernel))
                .map_err(failed)?;
        if sent == bytes.len() { Ok(()) } else { Err(failed(Errno::MSGSIZE)) }
    }

    /// One datagram of the kernel. What others send to this socket is dropped.
    fn receive(&mut self) -> Result<usize, NetlinkError> {
        let failed = |source| NetlinkError::Socket { action: "receive on", source };
        loop {
            let (length, _, from): (usize, usize, Option<SocketAddrAny>) = rustix::io::retry_on_intr(|| {
                rustix::net::recvfrom(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC)
            })
            .map_err(failed)?;
            let kernel = from
                .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                .is_some_and(|from| from.pid() == 0);
            if !kernel {
                continue;
            }
            if length > self.buffer.len() {
                return Err(NetlinkError::Malformed);
            }
            return Ok(length);
        }
    }

    /// Sends all requests in one datagram and waits for every answer. The first refusal is the
    /// error; what was asked after it was tried all the same.
    pub fn apply(&mut self, requests: Vec<Request>) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut expected = Vec::with_capacity(requests.len());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(&request.message.finish(self.sequence)?);
            expected.push((request.action, request.forgiven, request.answered));
        }
        if expected.is_empty() {
            return Ok(());
        }
        self.send(&bytes)?;
        let mut refused: Option<(usize, Errno)> = None;
        let mut open = expected.iter().filter(|(_, _, answered)| *answered).count();
        while open > 0 {
            let length = self.receive()?;
            for answer in messages(&self.buffer[..length])? {
                if answer.kind != message::ERROR {
                    continue;
                }
                let index = answer.sequence.wrapping_sub(first) as usize;
                let Some((_, forgiven, answered)) = expected.get(index) else { continue };
                let errno = refusal(&answer)?;
                open = if *answered { open.saturating_sub(1) } else { 0 };
                if let Some(errno) = errno
                    && !forgiven.contains(&errno)
                    && refused.is_none_or(|(at, _)| index < at)
                {
                    refused = Some((index, errno));
                }
            }
        }
        match refused {
            None => Ok(()),
            Some((index, source)) => {
                Err(NetlinkError::Refused { action: std::mem::take(&mut expected[index].0), source })
            }
        }
    }

    /// Asks for one object. `None` where the kernel says that it is not there.
    pub fn get<T>(
        &mut self,
        request: Request,
        absent: &[Errno],
        read: impl FnOnce(u16, &[u8]) -> Result<T, NetlinkError>,
    ) -> Result<Option<T>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.message.finish(sequence)?)?;
        loop {
            let length = self.receive()?;
            for answer in messages(&self.buffer[..length])? {
                if answer.sequence != sequence {
                    continue;
                }
                if answer.kind != message::ERROR {
                    return read(answer.kind, answer.payload).map(Some);
                }
                return match refusal(&answer)? {
                    Some(errno) if absent.contains(&errno) => Ok(None),
                    Some(source) => Err(NetlinkError::Refused { action: request.action, source }),
                    None => Ok(None),
                };
            }
        }
    }

    /// Asks for all objects, and hands each to `each`.
    pub fn dump(
        &mut self,
        request: Request,
        mut each: impl FnMut(u16, &[u8]) -> Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.message.finish(sequence)?)?;
        for _ in 0..MOST_ANSWERS {
            let length = self.receive()?;
            for answer in messages(&self.buffer[..length])? {
                if answer.sequence != sequence {
                    continue;
                }
                match answer.kind {
                    message::DONE => return Ok(()),
                    message::ERROR => {
                        return match refusal(&answer)? {
                            None => Ok(()),
                            Some(source) => Err(NetlinkError::Refused { action: request.action, source }),
                        };
                    }
                    kind => each(kind, answer.payload)?,
                }
            }
        }
        Err(NetlinkError::Malformed)
    }
}

/// `struct nlmsgerr` begins with a negative errno, 0 for an acknowledgement.
fn refusal(answer: &Received<'_>) -> Result<Option<Errno>, NetlinkError> {
    let code = message::u32_at(answer.payload, 0).ok_or(NetlinkError::Malformed)?.cast_signed();
    match code {
        0 => Ok(None),
        -4095..=-1 => Ok(Some(Errno::from_raw_os_error(-code))),
        _ => Err(NetlinkError::Malformed),
    }
}
