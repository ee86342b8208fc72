//! Forgetting connections: the kernel keeps sending a UDP flow where its first packet went, so a
//! client that retries would never reach the pod that a port now leads to (and after DEL would
//! still be sent to an address that may be another pod's). TCP and SCTP connections end by themselves.
//!
//! Numbers: linux/netfilter/nfnetlink_conntrack.h.

use super::nat::Mapping;
use super::{Family, nat};
use crate::netlink::message::{ACK, DUMP, Message, attributes};
use crate::netlink::{NetlinkError, Request, Socket};
use rustix::io::Errno;
use std::net::IpAddr;
use types::pod::Protocol;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const UDP: u8 = 17;
/// More flows than this are not deleted in one go: a bound on memory, not an expectation.
const MOST: usize = 65_536;

fn message(kind: u16, flags: u16, family: Family) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &[family.number(), 0, 0, 0])
}

/// Forgets all UDP flows that were first sent to the node's side of `mappings`.
pub fn forget(socket: &mut Socket, mappings: &[nat::Mapping]) -> Result<(), NetlinkError> {
    for family in Family::ALL {
        let ports: Vec<&Mapping> =
            mappings.iter().filter(|m| m.protocol == Protocol::Udp && Family::of(&m.pod) == family).collect();
        if ports.is_empty() {
            continue;
        }
        let mut stale = Vec::new();
        socket.dump(Request::new(message(GET, DUMP, family), "list the connections"), |_, payload| {
            if let Some((tuple, address, port)) = udp_flow(payload)?
                && stale.len() < MOST
                && ports.iter().any(|m| m.host_port == port && m.host_ip.is_none_or(|ip| ip == address))
            {
                stale.push(tuple);
            }
            Ok(())
        })?;
        for tuple in stale {
            let message = message(DELETE, ACK, family).nest(TUPLE_ORIGINAL, |m| m.raw(&tuple));
            socket.apply(vec![Request::new(message, "forget a connection").forgiving(&[Errno::NOENT])])?;
        }
    }
    Ok(())
}

/// The original tuple, destination address and destination port of a UDP flow.
fn udp_flow(payload: &[u8]) -> Result<Option<(Vec<u8>, IpAddr, u16)>, NetlinkError> {
    let malformed = NetlinkError::Malformed;
    for (kind, tuple) in attributes(payload.get(4..).ok_or(malformed)?)? {
        if kind != TUPLE_ORIGINAL {
            continue;
        }
        let (mut address, mut protocol, mut port) = (None, 0, 0);
        for (kind, part) in attributes(tuple)? {
            for (field, value) in attributes(part)? {
                match (kind, field) {
                    // CTA_IP_V4_DST, CTA_IP_V6_DST
                    (TUPLE_IP, 2) => address = <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
                    (TUPLE_IP, 4) => address = <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
                    // CTA_PROTO_NUM, CTA_PROTO_DST_PORT
                    (TUPLE_PROTOCOL, 1) => protocol = value.first().copied().unwrap_or(0),
                    (TUPLE_PROTOCOL, 3) => port = value.try_into().map(u16::from_be_bytes).unwrap_or(0),
                    _ => {}
                }
            }
        }
        return Ok(address.filter(|_| protocol == UDP).map(|address| (tuple.to_vec(), address, port)));
    }
    Ok(None)
}
