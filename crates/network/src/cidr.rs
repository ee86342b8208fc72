//! An address with its prefix length, as CNI writes it: `10.88.0.5/16`. Checked when it is read;
//! no I/O.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and how many of its leading bits name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address; host bits may be set.
    pub address: IpAddr,
    /// Bits of the network, up to 32 or 128.
    pub prefix: u8,
}

/// The text is not `address/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with a prefix length, like 10.88.0.0/16")]
pub struct NotCidr(String);

impl Cidr {
    /// Reads `address/prefix`. An IPv4-mapped IPv6 address is taken as the IPv4 address that it is.
    pub fn parse(text: &str) -> Result<Self, NotCidr> {
        let refuse = || NotCidr(types::reference::shorten(text));
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        let prefix: u8 = prefix.parse().map_err(|_| refuse())?;
        if prefix > bits_of(&address) {
            return Err(refuse());
        }
        Ok(Self { address, prefix })
    }

    /// Bits of an address of this family: 32 or 128.
    pub fn bits(&self) -> u8 {
        bits_of(&self.address)
    }

    /// The same network with the host bits cleared.
    pub fn network(&self) -> Cidr {
        let mask = self.mask();
        Cidr { address: from_number(&self.address, to_number(&self.address) & mask), prefix: self.prefix }
    }

    /// Whether `address` is in this network. An address of the other family never is.
    pub fn contains(&self, address: &IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && to_number(address) & self.mask() == to_number(&self.address) & self.mask()
    }

    /// Whether the two networks have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(&other.address) || other.contains(&self.address)
    }

    /// The last address of the network.
    pub fn last(&self) -> IpAddr {
        from_number(&self.address, to_number(&self.address) | (!self.mask() & self.all()))
    }

    fn all(&self) -> u128 {
        if self.address.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX }
    }

    fn mask(&self) -> u128 {
        let host_bits = u32::from(self.bits() - self.prefix);
        self.all() & u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

fn bits_of(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number.
pub fn to_number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The number as an address of the family of `like`.
pub fn from_number(like: &IpAddr, number: u128) -> IpAddr {
    match like {
        // The callers mask to 32 bits; what is above is not an address.
        IpAddr::V4(_) => Ipv4Addr::from_bits((number & u128::from(u32::MAX)) as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

/// The address after `address`; after the last one comes the first.
pub fn next(address: &IpAddr) -> IpAddr {
    from_number(address, to_number(address).wrapping_add(1))
}

/// The bytes of an address in network order.
pub fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Cidr {
    type Error = NotCidr;
    fn try_from(text: String) -> Result<Self, NotCidr> {
        Self::parse(&text)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_have_the_right_ends() {
        let v4 = Cidr::parse("10.88.3.7/16").expect("v4");
        assert_eq!(v4.network().to_string(), "10.88.0.0/16");
        assert_eq!(v4.last().to_string(), "10.88.255.255");
        assert!(
            v4.contains(&"10.88.9.9".parse().expect("ip")) && !v4.contains(&"10.89.0.0".parse().expect("ip"))
        );
        let all = Cidr::parse("1.2.3.4/0").expect("all");
        assert_eq!(
            (all.network().to_string(), all.last().to_string()),
            ("0.0.0.0/0".into(), "255.255.255.255".into())
        );
        let v6 = Cidr::parse("fd00::5/64").expect("v6");
        assert_eq!(v6.last().to_string(), "fd00::ffff:ffff:ffff:ffff");
        assert!(!v6.contains(&"10.0.0.1".parse().expect("ip")));
        assert_eq!(next(&"10.0.0.255".parse().expect("ip")).to_string(), "10.0.1.0");
        assert_eq!(next(&"255.255.255.255".parse().expect("ip")).to_string(), "0.0.0.0");
    }

    #[test]
    fn texts_that_are_no_network_are_refused() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "x/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/008000",
        ] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            if let Ok(cidr) = Cidr::parse(&text) {
                prop_assert!(cidr.contains(&cidr.address) && cidr.contains(&cidr.last()));
            }
        }
    }
}
