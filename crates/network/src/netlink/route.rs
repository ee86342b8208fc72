//! Routes over rtnetlink. `struct rtmsg`: rtnetlink(7).

use super::message::{ACK, CREATE, EXCL, Message, attributes, u32_at};
use super::{NetlinkError, Request, Socket, address::family};
use crate::cidr::{Cidr, octets};
use rustix::io::Errno;
use std::net::IpAddr;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;

/// A route of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to; prefix 0 is the default route.
    pub destination: Cidr,
    /// Through whom; `None` is the link itself.
    pub gateway: Option<IpAddr>,
    /// Metric; lower wins.
    pub priority: Option<u32>,
    /// Path MTU, bytes.
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise, bytes.
    pub advmss: Option<u32>,
}

impl Socket {
    /// The index of the link that packets to `address` leave by; `None` where there is no way.
    pub fn way_to(&mut self, address: &IpAddr) -> Result<Option<u32>, NetlinkError> {
        let mut header = [0; 12];
        header[0] = family(address);
        header[1] = if address.is_ipv4() { 32 } else { 128 };
        let message = Message::new(RTM_GETROUTE, 0, &header).attr(RTA_DST, &octets(address));
        let request = Request::new(message, format!("look up the route to {address}"));
        let found = self.get(request, &[Errno::NETUNREACH, Errno::HOSTUNREACH], |_, payload| {
            let found = attributes(payload.get(12..).ok_or(NetlinkError::Malformed)?)?;
            Ok(found.iter().find(|(kind, _)| *kind == RTA_OIF).and_then(|(_, value)| u32_at(value, 0)))
        })?;
        Ok(found.flatten())
    }
}

/// Adds a route over a link to the main table. One that is there already is fine.
pub fn add(index: u32, device: &str, route: &Route) -> Request {
    let destination = route.destination.network();
    let scope = if route.gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
    let header = [
        family(&destination.address),
        destination.prefix,
        0, // source prefix
        0, // type of service
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        scope,
        RTN_UNICAST,
        0,
        0,
        0,
        0, // flags
    ];
    let mut message = Message::new(RTM_NEWROUTE, ACK | CREATE | EXCL, &header).u32(RTA_OIF, index);
    if destination.prefix > 0 {
        message = message.attr(RTA_DST, &octets(&destination.address));
    }
    if let Some(gateway) = &route.gateway {
        message = message.attr(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(priority) = route.priority {
        message = message.u32(RTA_PRIORITY, priority);
    }
    if route.mtu.is_some() || route.advmss.is_some() {
        message = message.nest(RTA_METRICS, |mut m| {
            if let Some(mtu) = route.mtu {
                m = m.u32(RTAX_MTU, mtu);
            }
            if let Some(advmss) = route.advmss {
                m = m.u32(RTAX_ADVMSS, advmss);
            }
            m
        });
    }
    let through = route.gateway.map(|g| format!(" through {g}")).unwrap_or_default();
    Request::new(message, format!("add the route to {destination}{through} on {device}"))
        .forgiving(&[Errno::EXIST])
}
