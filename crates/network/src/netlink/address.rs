//! Addresses over rtnetlink. `struct ifaddrmsg`: rtnetlink(7); flags: linux/if_addr.h.

use super::message::{ACK, CREATE, DUMP, EXCL, Message, attributes, u32_at};
use super::{NetlinkError, Request, Socket};
use crate::cidr::{Cidr, octets};
use rustix::io::Errno;
use std::net::IpAddr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 0x02;

/// `AF_INET` or `AF_INET6`, as one byte.
pub(super) fn family(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

fn request(kind: u16, flags: u16, index: u32, address: &Cidr, verb: &str, device: &str) -> Request {
    let mut header = [family(&address.address), address.prefix, 0, 0, 0, 0, 0, 0];
    if address.address.is_ipv6() {
        // The address management gave it to nobody else, and duplicate address detection would
        // keep it unusable for a second (RFC 4862, section 5.4).
        header[2] = IFA_F_NODAD;
    }
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(&address.address);
    let mut message =
        Message::new(kind, ACK | flags, &header).attr(IFA_LOCAL, &bytes).attr(IFA_ADDRESS, &bytes);
    if address.address.is_ipv4() && address.prefix < 31 {
        message = message.attr(IFA_BROADCAST, &octets(&address.last()));
    }
    Request::new(message, format!("{verb} {address} on {device}"))
}

/// Adds an address to a link. One that is there already is fine.
pub fn add(index: u32, device: &str, address: &Cidr) -> Request {
    request(RTM_NEWADDR, CREATE | EXCL, index, address, "set the address", device).forgiving(&[Errno::EXIST])
}

/// Takes an address off a link. What is gone already is fine.
pub fn delete(index: u32, device: &str, address: &Cidr) -> Request {
    request(RTM_DELADDR, 0, index, address, "remove the address", device)
        .forgiving(&[Errno::ADDRNOTAVAIL, Errno::NODEV])
}

impl Socket {
    /// All addresses of the socket's namespace, with the index of their link.
    pub fn addresses(&mut self) -> Result<Vec<(u32, Cidr)>, NetlinkError> {
        let mut all = Vec::new();
        let message = Message::new(RTM_GETADDR, DUMP, &[0; 8]);
        self.dump(Request::new(message, "list the addresses"), |kind, payload| {
            if kind == RTM_NEWADDR
                && let Some(found) = read(payload)?
            {
                all.push(found);
            }
            Ok(())
        })?;
        Ok(all)
    }
}

fn read(payload: &[u8]) -> Result<Option<(u32, Cidr)>, NetlinkError> {
    let (Some(prefix), Some(index)) = (payload.get(1).copied(), u32_at(payload, 4)) else {
        return Err(NetlinkError::Malformed);
    };
    let mut address = None;
    let mut local = None;
    for (kind, value) in attributes(payload.get(8..).ok_or(NetlinkError::Malformed)?)? {
        let parsed = match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
            _ => None,
        };
        match kind {
            IFA_LOCAL => local = parsed,
            IFA_ADDRESS => address = parsed,
            _ => {}
        }
    }
    // IPv6 has only IFA_ADDRESS; on point-to-point links IFA_LOCAL is our own end (rtnetlink(7)).
    Ok(local.or(address).map(|address| {
        let cidr = Cidr { address, prefix };
        (index, Cidr { prefix: prefix.min(cidr.bits()), ..cidr })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = read(&bytes);
        }
    }
}
