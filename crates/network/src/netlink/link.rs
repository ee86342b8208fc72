//! Links over rtnetlink: look up, list, make bridges and veth pairs, change, delete.
//! Attribute numbers: linux/if_link.h, linux/veth.h; `struct ifinfomsg`: rtnetlink(7).

use super::message::{ACK, CREATE, DUMP, EXCL, Message, attributes, u32_at};
use super::{NetlinkError, Request, Socket};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
/// `RTEXT_FILTER_SKIP_STATS`: spares the kernel half of a link's description.
const SKIP_STATS: u32 = 1 << 3;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFF_UP: u32 = 0x1;
const IFF_PROMISC: u32 = 0x100;
const AF_BRIDGE: u8 = 7;
/// `IFNAMSIZ` is 16 with the closing NUL.
const LONGEST_NAME: usize = 15;

/// A hardware address of Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads `0a:58:0a:58:00:05`; refuses group addresses, which no interface may have.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        (parts.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A link as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `IFF_…`
    pub flags: u32,
    /// Its hardware address, where that is six bytes long.
    pub mac: Mac,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// The index of the bridge that it is a port of; 0 for none.
    pub master: u32,
    /// `veth`, `bridge`…; empty for devices without a kind.
    pub kind: String,
}

impl Link {
    /// Whether it is administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }
}

/// Whether the kernel takes `name` as an interface name (`dev_valid_name`, net/core/dev.c).
pub fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'))
}

/// `struct ifinfomsg`
fn info(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn text(payload: &[u8]) -> String {
    let end = payload.iter().position(|b| *b == 0).unwrap_or(payload.len());
    String::from_utf8_lossy(&payload[..end]).into_owned()
}

fn read(payload: &[u8]) -> Result<Link, NetlinkError> {
    let malformed = NetlinkError::Malformed;
    let (Some(index), Some(flags)) = (u32_at(payload, 4), u32_at(payload, 8)) else { return Err(malformed) };
    let mut link = Link { index, flags, ..Link::default() };
    for (kind, value) in attributes(payload.get(16..).ok_or(malformed)?)? {
        match kind {
            IFLA_ADDRESS => link.mac = value.try_into().map(Mac).unwrap_or_default(),
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or(0),
            IFLA_MASTER => link.master = u32_at(value, 0).unwrap_or(0),
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value)? {
                    if kind == IFLA_INFO_KIND {
                        link.kind = text(value);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(link)
}

impl Socket {
    /// The link of that name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let message = Message::new(RTM_GETLINK, 0, &info(0, 0, 0, 0))
            .u32(IFLA_EXT_MASK, SKIP_STATS)
            .text(IFLA_IFNAME, name);
        self.get(Request::new(message, format!("look up {name}")), &[Errno::NODEV], |_, payload| {
            read(payload)
        })
    }

    /// The link of that index, if there is one.
    pub fn link_at(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let message = Message::new(RTM_GETLINK, 0, &info(0, index, 0, 0)).u32(IFLA_EXT_MASK, SKIP_STATS);
        self.get(Request::new(message, format!("look up link {index}")), &[Errno::NODEV], |_, payload| {
            read(payload)
        })
    }

    /// All links of the socket's namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut all = Vec::new();
        let message = Message::new(RTM_GETLINK, DUMP, &info(0, 0, 0, 0)).u32(IFLA_EXT_MASK, SKIP_STATS);
        self.dump(Request::new(message, "list the links"), |kind, payload| {
            if kind == RTM_NEWLINK {
                all.push(read(payload)?);
            }
            Ok(())
        })?;
        Ok(all)
    }
}

/// Makes a bridge, down. Its address is set from the start: left alone, a bridge takes the lowest
/// of its ports' and changes it as ports come and go.
pub fn create_bridge(name: &str, mac: Mac, mtu: Option<u32>) -> Request {
    let mut message = Message::new(RTM_NEWLINK, ACK | CREATE | EXCL, &info(0, 0, 0, 0))
        .text(IFLA_IFNAME, name)
        .attr(IFLA_ADDRESS, &mac.0);
    if let Some(mtu) = mtu {
        message = message.u32(IFLA_MTU, mtu);
    }
    let message = message.nest(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
    Request::new(message, format!("create the bridge {name}"))
}

/// What a veth pair is made of.
#[derive(Debug)]
pub struct Veth<'a> {
    /// The name of the node's end.
    pub name: &'a str,
    /// The bridge that the node's end becomes a port of.
    pub master: u32,
    /// MTU of both ends; `None` is the kernel's default.
    pub mtu: Option<u32>,
    /// The name of the pod's end.
    pub peer: &'a str,
    /// The address of the pod's end; `None` lets the kernel choose.
    pub peer_mac: Option<Mac>,
    /// The pod's namespace.
    pub netns: BorrowedFd<'a>,
}

/// Makes a veth pair in one request: the node's end up and a port of its bridge, the pod's end
/// made directly in the pod's namespace (no move, no rename), still down.
pub fn create_veth(veth: &Veth<'_>) -> Request {
    let mtu = |m: Message| match veth.mtu {
        Some(mtu) => m.u32(IFLA_MTU, mtu),
        None => m,
    };
    let message = Message::new(RTM_NEWLINK, ACK | CREATE | EXCL, &info(0, 0, IFF_UP, IFF_UP))
        .text(IFLA_IFNAME, veth.name)
        .u32(IFLA_MASTER, veth.master);
    let message = mtu(message).nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
            m.nest(VETH_INFO_PEER, |m| {
                let m = mtu(m.raw(&info(0, 0, 0, 0)).text(IFLA_IFNAME, veth.peer))
                    // A descriptor is never negative.
                    .u32(IFLA_NET_NS_FD, veth.netns.as_raw_fd().cast_unsigned());
                match veth.peer_mac {
                    Some(mac) => m.attr(IFLA_ADDRESS, &mac.0),
                    None => m,
                }
            })
        })
    });
    Request::new(message, format!("create the veth pair {} and {}", veth.name, veth.peer))
}

/// Sets a link up.
pub fn set_up(index: u32, name: &str) -> Request {
    let message = Message::new(RTM_NEWLINK, ACK, &info(0, index, IFF_UP, IFF_UP));
    Request::new(message, format!("set {name} up"))
}

/// Sets a link down.
pub fn set_down(index: u32, name: &str) -> Request {
    let message = Message::new(RTM_NEWLINK, ACK, &info(0, index, 0, IFF_UP));
    Request::new(message, format!("set {name} down"))
}

/// Sets a link's promiscuous mode.
pub fn set_promiscuous(index: u32, name: &str) -> Request {
    let message = Message::new(RTM_NEWLINK, ACK, &info(0, index, IFF_PROMISC, IFF_PROMISC));
    Request::new(message, format!("set {name} promiscuous"))
}

/// Sets a link's MTU.
pub fn set_mtu(index: u32, name: &str, mtu: u32) -> Request {
    let message = Message::new(RTM_NEWLINK, ACK, &info(0, index, 0, 0)).u32(IFLA_MTU, mtu);
    Request::new(message, format!("set the MTU of {name} to {mtu}"))
}

/// Sets a link's hardware address.
pub fn set_mac(index: u32, name: &str, mac: Mac) -> Request {
    let message = Message::new(RTM_NEWLINK, ACK, &info(0, index, 0, 0)).attr(IFLA_ADDRESS, &mac.0);
    Request::new(message, format!("set the hardware address of {name} to {mac}"))
}

/// Makes a link a port of a bridge; 0 takes it off.
pub fn set_master(index: u32, name: &str, master: u32) -> Request {
    let message = Message::new(RTM_NEWLINK, ACK, &info(0, index, 0, 0)).u32(IFLA_MASTER, master);
    Request::new(message, format!("change the bridge of {name}"))
}

/// Lets a bridge send frames back through the port that they came from, so that a pod reaches
/// itself through a port of the node.
pub fn set_hairpin(index: u32, name: &str) -> Request {
    let message = Message::new(RTM_SETLINK, ACK, &info(AF_BRIDGE, index, 0, 0))
        .nest(IFLA_PROTINFO, |m| m.attr(IFLA_BRPORT_MODE, &[1]));
    Request::new(message, format!("set the hairpin mode of {name}"))
}

/// Deletes a link; of a veth pair, both ends. What is gone already is fine.
pub fn delete(name: &str) -> Request {
    let message = Message::new(RTM_DELLINK, ACK, &info(0, 0, 0, 0)).text(IFLA_IFNAME, name);
    Request::new(message, format!("delete {name}")).forgiving(&[Errno::NODEV])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_the_kernel_refuses_are_refused() {
        for good in ["eth0", "corten0", "corten-1f2e", "a.b"] {
            assert!(valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-letters-", "ü"] {
            assert!(!valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn only_unicast_addresses_are_read() {
        assert_eq!(Mac::parse("0a:58:0A:00:00:05").expect("good").to_string(), "0a:58:0a:00:00:05");
        for bad in [
            "",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "0a:58:0a:00:00",
            "0a:58:0a:00:00:05:06",
            "0a-58-0a-00-00-05",
            "+a:58:0a:00:00:05",
        ] {
            assert!(Mac::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
