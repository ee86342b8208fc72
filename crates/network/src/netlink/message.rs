//! Netlink messages as bytes: building them and taking them apart. Both ends check every length,
//! for an attribute's length field has 16 bits and a payload that does not fit would be cut into
//! attributes of the payload's author's choosing (CVE-2021-43784 in another runtime). No I/O here.
//!
//! Layout: linux/netlink.h. All numbers are in the machine's byte order unless a protocol says otherwise.

use super::NetlinkError;

/// `NLM_F_REQUEST`
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub const APPEND: u16 = 0x800;
/// `NLMSG_ERROR`
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`
pub const DONE: u16 = 3;
/// `NLA_F_NESTED`
pub const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are its type (`NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`: length, type, flags, sequence, port.
pub const HEADER: usize = 16;

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// One message being built.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
    too_long: Option<u16>,
}

impl Message {
    /// A request of `kind` with more `flags`, and the protocol's fixed header after netlink's own.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes()); // length, set by `finish`
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence, set by `finish`; port 0 is the kernel
        bytes.extend_from_slice(fixed);
        bytes.resize(padded(bytes.len()), 0);
        Self { bytes, too_long: None }
    }

    /// Appends an attribute.
    pub fn attr(mut self, kind: u16, payload: &[u8]) -> Self {
        let Ok(length) = u16::try_from(payload.len() + 4) else {
            self.too_long.get_or_insert(kind);
            return self;
        };
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(padded(self.bytes.len()), 0);
        self
    }

    /// A number in the machine's order.
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// A number in network order, as nfnetlink wants them.
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Text with its closing NUL. A NUL inside would end it early: it counts as too long.
    pub fn text(mut self, kind: u16, text: &str) -> Self {
        if text.contains('\0') {
            self.too_long.get_or_insert(kind);
            return self;
        }
        let mut payload = text.as_bytes().to_vec();
        payload.push(0);
        self.attr(kind, &payload)
    }

    /// An attribute that holds attributes.
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let mut filled = fill(self);
        match u16::try_from(filled.bytes.len() - start) {
            Ok(length) => {
                filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
                filled.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
            }
            Err(_) => {
                filled.too_long.get_or_insert(kind);
            }
        }
        filled
    }

    /// Bytes without any attribute header, as a fixed structure at the start of a nest.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(padded(self.bytes.len()), 0);
        self
    }

    /// The finished bytes, with their length and sequence number.
    pub fn finish(mut self, sequence: u32) -> Result<Vec<u8>, NetlinkError> {
        if let Some(attribute) = self.too_long {
            return Err(NetlinkError::TooLong { attribute });
        }
        let length = u32::try_from(self.bytes.len()).map_err(|_| NetlinkError::TooLong { attribute: 0 })?;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(self.bytes)
    }
}

/// A message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its type.
    pub kind: u16,
    /// Which request it answers.
    pub sequence: u32,
    /// Everything after the header.
    pub payload: &'a [u8],
}

/// Two bytes at `at`, in the machine's order.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_ne_bytes)
}

/// Four bytes at `at`, in the machine's order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The messages in one datagram. What does not fit is an error, never a guess.
pub fn messages(mut datagram: &[u8]) -> Result<Vec<Received<'_>>, NetlinkError> {
    let mut all = Vec::new();
    while !datagram.is_empty() {
        let (Some(length), Some(kind), Some(sequence)) =
            (u32_at(datagram, 0), u16_at(datagram, 4), u32_at(datagram, 8))
        else {
            return Err(NetlinkError::Malformed);
        };
        let length = usize::try_from(length).map_err(|_| NetlinkError::Malformed)?;
        let payload = datagram.get(HEADER..length).ok_or(NetlinkError::Malformed)?;
        all.push(Received { kind, sequence, payload });
        datagram = datagram.get(padded(length)..).unwrap_or(&[]);
    }
    Ok(all)
}

/// The attributes in `bytes`: type without its flag bits, and payload.
pub fn attributes(mut bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, NetlinkError> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else {
            return Err(NetlinkError::Malformed);
        };
        let length = usize::from(length);
        let payload = bytes.get(4..length).ok_or(NetlinkError::Malformed)?;
        all.push((kind & TYPE_MASK, payload));
        bytes = bytes.get(padded(length)..).unwrap_or(&[]);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_payload_that_does_not_fit_an_attribute_is_refused() {
        // 65532 bytes and the header are 65536: the 16-bit length would be 0.
        for length in [65_532, 65_536, 1 << 20] {
            let message = Message::new(16, ACK, &[0; 16]).attr(3, &vec![b'A'; length]);
            assert!(matches!(message.finish(1), Err(NetlinkError::TooLong { attribute: 3 })), "{length}");
        }
        let nested =
            Message::new(16, 0, &[]).nest(18, |m| (0..3).fold(m, |m, _| m.attr(1, &vec![0; 30_000])));
        assert!(nested.finish(1).is_err());
        assert!(Message::new(16, 0, &[]).text(3, "eth0\0x").finish(1).is_err());
        assert!(Message::new(16, 0, &[]).attr(3, &vec![0; 65_531]).finish(1).is_ok());
    }

    #[test]
    fn what_is_built_is_read_back() {
        let bytes = Message::new(16, ACK, &[7; 16])
            .text(3, "eth0")
            .nest(18, |m| m.u32(1, 5).attr(2, b"xyz"))
            .finish(9)
            .expect("short");
        let all = messages(&bytes).expect("own bytes");
        assert_eq!((all[0].kind, all[0].sequence), (16, 9));
        let attrs = attributes(&all[0].payload[16..]).expect("own bytes");
        assert_eq!(attrs[0], (3, &b"eth0\0"[..]));
        assert_eq!(
            attributes(attrs[1].1).expect("nest"),
            vec![(1, &5u32.to_ne_bytes()[..]), (2, &b"xyz"[..])]
        );
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let mut bytes = Message::new(16, 0, &[0; 4]).finish(1).expect("short");
        for length in [0u32, 15, 1000, u32::MAX] {
            bytes[0..4].copy_from_slice(&length.to_ne_bytes());
            assert!(messages(&bytes).is_err(), "{length}");
        }
        for attribute in [&[3u8, 0, 1, 0][..], &[200, 0, 1, 0, 1], &[4, 0, 1], &[0, 0, 0, 0]] {
            assert!(attributes(attribute).is_err(), "{attribute:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = messages(&bytes);
            let _ = attributes(&bytes);
        }
    }
}
