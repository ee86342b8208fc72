//! Network links and addresses of our own network namespace, without netlink: `/sys/class/net`,
//! `/proc/net/fib_trie` and `/proc/net/if_inet6`.

use crate::{Result, Tried};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Names of all links.
pub fn names() -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir("/sys/class/net").tried("read /sys/class/net")?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Addresses that are this node's own, of both families. A kernel without IPv6 has no such file.
pub fn addresses() -> Result<BTreeSet<String>> {
    let v4 = std::fs::read_to_string("/proc/net/fib_trie").tried("read /proc/net/fib_trie")?;
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut found: BTreeSet<_> = parse_v4(&v4).map(|address| address.to_string()).collect();
    found.extend(parse_v6(&v6).map(|address| address.to_string()));
    Ok(found)
}

/// A leaf is `|-- 10.0.0.1`, and `/32 host LOCAL` in the line below makes it an own address.
fn parse_v4(text: &str) -> impl Iterator<Item = Ipv4Addr> {
    text.lines()
        .zip(text.lines().skip(1))
        .filter(|(_, below)| below.trim() == "/32 host LOCAL")
        .filter_map(|(leaf, _)| leaf.trim().strip_prefix("|-- ").and_then(|address| address.parse().ok()))
}

/// `fe80…16 bytes in hex ifindex prefix scope flags name`
fn parse_v6(text: &str) -> impl Iterator<Item = Ipv6Addr> {
    text.lines().filter_map(|line| {
        let digits = line.split(' ').next()?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_told_from_routes() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.88.0.0\n        /16 link UNICAST\n     |-- 10.88.0.1\n        /32 host LOCAL\n";
        assert_eq!(parse_v4(text).collect::<Vec<_>>(), [Ipv4Addr::new(10, 88, 0, 1)]);
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(parse_v6(text).collect::<Vec<_>>(), [Ipv6Addr::LOCALHOST]);
    }

    #[test]
    fn the_loopback_link_is_there() {
        assert!(names().expect("a list").contains("lo"));
    }
}
