//! The few messages of rtnetlink(7) that moving a device takes. One socket, one request at a time, bounded answers.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x01;
const ACK: u16 = 0x04;
const DUMP: u16 = 0x300;
const CREATE_EXCLUSIVE: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_FLAGS: u16 = 8;
/// `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_BROADCAST`, `IFA_RT_PRIORITY`: what makes an address what it is. Its label is the
/// device's old name.
const KEPT: [u16; 4] = [1, 2, 4, 9];
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFF_UP: u32 = 1;
/// A dump's part has 32 KiB at most (net/netlink/af_netlink.c, `netlink_dump`).
const BUFFER: usize = 64 << 10;
/// Messages of one answer that are read before it counts as endless.
const MESSAGES_MOST: usize = 100_000;

/// A socket in one network namespace; it stays there.
pub struct Netlink(OwnedFd);

/// An address as it is set again elsewhere.
pub struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Netlink {
    /// A socket in the namespace of this process.
    pub fn open() -> Result<Self, Errno> {
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).map(Self)
    }

    /// The index of the device with this name.
    pub fn index(&self, name: &str) -> Result<Option<i32>, Errno> {
        let links = self.links()?;
        Ok(links.into_iter().find(|(_, known)| known == name.as_bytes()).map(|(index, _)| index))
    }

    /// Index and name of every device.
    pub fn links(&self) -> Result<Vec<(i32, Vec<u8>)>, Errno> {
        let mut links = Vec::new();
        self.request(RTM_GETLINK, DUMP, &link_header(0, 0, 0), &[], |kind, body| {
            if let (RTM_NEWLINK, Some(head)) = (kind, body.get(..16)) {
                let index = i32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
                let name = attributes(&body[16..]).find(|(kind, _)| *kind == IFLA_IFNAME);
                let name =
                    name.map(|(_, name)| name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
                links.push((index, name.unwrap_or_default()));
            }
        })?;
        Ok(links)
    }

    /// The permanent addresses of global scope that a device has.
    pub fn addresses(&self, index: i32) -> Result<Vec<Address>, Errno> {
        let mut found = Vec::new();
        self.request(RTM_GETADDR, DUMP, &[0; 8], &[], |kind, body| {
            let Some(&[family, prefix, flags, scope, a, b, c, d]) = body.get(..8) else { return };
            if kind != RTM_NEWADDR || i32::from_ne_bytes([a, b, c, d]) != index || scope != RT_SCOPE_UNIVERSE
            {
                return;
            }
            let all: Vec<_> = attributes(&body[8..]).map(|(kind, value)| (kind, value.to_vec())).collect();
            let wide = all.iter().find(|(kind, _)| *kind == IFA_FLAGS);
            let wide = wide.and_then(|(_, value)| value.as_slice().try_into().ok()).map(u32::from_ne_bytes);
            if wide.unwrap_or(u32::from(flags)) & IFA_F_PERMANENT != 0 {
                let attributes = all.into_iter().filter(|(kind, _)| KEPT.contains(kind)).collect();
                found.push(Address { family, prefix, attributes });
            }
        })?;
        Ok(found)
    }

    /// Moves a device to another namespace and names it there; the kernel takes it down before.
    pub fn push(&self, index: i32, namespace: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let fd = namespace.as_raw_fd().to_ne_bytes();
        let name = [name.as_bytes(), &[0]].concat();
        let wanted = [(IFLA_NET_NS_FD, fd.as_slice()), (IFLA_IFNAME, name.as_slice())];
        self.request(RTM_NEWLINK, ACK, &link_header(index, 0, 0), &wanted, |_, _| {})
    }

    /// Gives a device an address.
    pub fn add(&self, index: i32, address: &Address) -> Result<(), Errno> {
        let [a, b, c, d] = index.to_ne_bytes();
        let head = [address.family, address.prefix, 0, RT_SCOPE_UNIVERSE, a, b, c, d];
        let wanted: Vec<_> =
            address.attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        match self.request(RTM_NEWADDR, ACK | CREATE_EXCLUSIVE, &head, &wanted, |_, _| {}) {
            Err(Errno::EXIST) => Ok(()),
            other => other,
        }
    }

    /// Lets a device carry traffic.
    pub fn up(&self, index: i32) -> Result<(), Errno> {
        self.request(RTM_NEWLINK, ACK, &link_header(index, IFF_UP, IFF_UP), &[], |_, _| {})
    }

    fn request(
        &self,
        kind: u16,
        flags: u16,
        head: &[u8],
        wanted: &[(u16, &[u8])],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Errno> {
        let mut message = vec![0; 16];
        message.extend_from_slice(head);
        for (kind, value) in wanted {
            let length = u16::try_from(value.len() + 4).map_err(|_| Errno::INVAL)?;
            message.extend_from_slice(&length.to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(message.len()).map_err(|_| Errno::INVAL)?;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        rustix::io::retry_on_intr(|| send(&self.0, &message, SendFlags::empty()))?;
        let mut buffer = vec![0; BUFFER];
        for _ in 0..MESSAGES_MOST {
            let (got, _) = rustix::io::retry_on_intr(|| recv(&self.0, &mut buffer[..], RecvFlags::empty()))?;
            let mut rest = &buffer[..got.min(BUFFER)];
            while let Some(&[a, b, c, d, e, f, ..]) = rest.get(..16) {
                let length = u32::from_ne_bytes([a, b, c, d]) as usize;
                let kind = u16::from_ne_bytes([e, f]);
                let Some(body) = rest.get(16..length) else { return Err(Errno::BADMSG) };
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let Some(&[a, b, c, d]) = body.get(..4) else { return Err(Errno::BADMSG) };
                        return match i32::from_ne_bytes([a, b, c, d]) {
                            0 => Ok(()),
                            code => Err(Errno::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    _ => each(kind, body),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        Err(Errno::MSGSIZE)
    }
}

/// `struct ifinfomsg` of `linux/rtnetlink.h`.
fn link_header(index: i32, flags: u32, change: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..].copy_from_slice(&change.to_ne_bytes());
    head
}

/// Kind and value of each attribute; what is cut short ends them.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[a, b, c, d] = rest.get(..4)? else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The upper bits are flags (`NLA_TYPE_MASK`).
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_are_cut_short_end_them() {
        let bytes = [5, 0, 3, 0, b'x', 0, 0, 0, 200, 0, 1, 0, 1];
        let bytes = bytes.map(|b| b);
        let all: Vec<_> = attributes(&bytes).collect();
        assert_eq!(all, [(3, b"x".as_slice())]);
        for bad in [&[0, 0, 0, 0][..], &[3, 0, 1, 0], &[1], &[]] {
            assert_eq!(attributes(bad).count(), 0, "{bad:?}");
        }
    }

    #[test]
    fn the_loopback_device_is_found_and_others_are_not() {
        let netlink = Netlink::open().expect("open");
        assert!(netlink.index("lo").expect("ask").is_some());
        assert_eq!(netlink.index("no-such-device0").expect("ask"), None);
    }
}
