//! Where a registry may lead a pull: by a redirect, by the name of its token server, by the place of an upload. What
//! this machine can reach is more than what the registry can, and must not be asked on its behalf. Pure.
//!
//! containerd and Docker follow wherever they are led. No registry keeps content or tokens at these addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services of clouds that have no link-local address: they give secrets of the machine to whoever asks from it
/// (documentation of Alibaba Cloud ECS, Oracle Cloud and Azure's wire server; of EC2's instance metadata for IPv6).
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // EKS Pod Identity, which gives credentials; Google's, Oracle's and Scaleway's by IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// How a request comes to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Led {
    /// It is the host that is configured, or that the image names: wherever it is.
    No,
    /// A registry of this machine leads there.
    FromHere,
    /// A registry elsewhere leads there.
    FromAfar,
}

/// Why an address is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    address: IpAddr,
    what: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the registry leads to {}, {}, where nothing is asked for it", self.address, self.what)
    }
}

impl std::error::Error for Refused {}

impl Led {
    /// Whether an address may be asked, by TLS or without it.
    pub(crate) fn allows(self, address: IpAddr, https: bool) -> Result<(), Refused> {
        let refuse = |what| Err(Refused { address, what });
        // An IPv4 address may be written as one of IPv6 (RFC 4291, 2.5.5.2).
        let plain = address.to_canonical();
        let local = match plain {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        match self {
            Led::No => Ok(()),
            _ if local => refuse("a link-local address, as metadata services of clouds have"),
            _ if METADATA.contains(&plain) => refuse("the metadata service of a cloud"),
            _ if plain.is_unspecified() || plain.is_multicast() => refuse("which is no address of a server"),
            // By TLS it has to prove its name.
            Led::FromAfar if plain.is_loopback() && !https => refuse("this machine itself, in plain text"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(led: Led, address: &str, https: bool) -> bool {
        led.allows(address.parse().expect(address), https).is_ok()
    }

    #[test]
    fn no_registry_leads_to_metadata_services_or_to_what_only_this_machine_can_ask() {
        for never in [
            "169.254.169.254",
            "169.254.170.2",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            for led in [Led::FromHere, Led::FromAfar] {
                assert!(!allowed(led, never, true) && !allowed(led, never, false), "{never}");
            }
            assert!(allowed(Led::No, never, false), "what is configured is asked: {never}");
        }
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!allowed(Led::FromAfar, own, false), "{own}");
            assert!(allowed(Led::FromAfar, own, true) && allowed(Led::FromHere, own, false), "{own}");
        }
        // Token servers and stores inside the network are real.
        for real in
            ["10.1.2.3", "192.168.0.1", "172.16.0.1", "fd12::1", "100.64.0.1", "1.1.1.1", "2606:4700::1"]
        {
            assert!(allowed(Led::FromAfar, real, false), "{real}");
        }
    }
}
