//! The rules of one pod network: masquerading, ports of the node that lead into pods, and what makes
//! those reachable from the node and from the pods themselves. One table per network and family,
//! named `corten_…`; nothing outside it is ever changed.
//!
//! ```text
//! map host_ports    { l4proto . dport          : pod . port }   ports on every address of the node
//! map host_ip_ports { daddr . l4proto . dport  : pod . port }   ports on one address
//! set mapped        { pod . l4proto . port . original dport }   connections that these maps made
//! prerouting, output   daddr . l4proto . dport → host_ip_ports;  to this node: l4proto . dport → host_ports
//! postrouting          mapped, from 127.0.0.0/8 or the pods' subnet → masquerade
//!                      from a masqueraded subnet to elsewhere, not multicast → masquerade
//! guard (raw)          from the bridge to 127.0.0.0/8 → drop
//! ```
//!
//! The destination address is always part of the match, or has to be the node's own: without that a
//! port mapping swallows the node's forwarded traffic to that port (CVE-2025-67499). The guard is
//! there because `route_localnet`, which 127.0.0.1 needs, would let pods reach what listens on the
//! node's loopback (CVE-2020-8558 of another project).
//!
//! A port is an element, not a rule: adding and removing one costs the same however many there are.

use super::expression::Rule;
use super::{Family, Hook, Set, Transaction, table_exists};
use crate::cidr::{Cidr, octets};
use crate::netlink::{NetlinkError, Socket};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use types::pod::Protocol;

const HOST_PORTS: &str = "host_ports";
const HOST_IP_PORTS: &str = "host_ip_ports";
const MAPPED: &str = "mapped";

// Hook numbers: `enum nf_inet_hooks`, linux/netfilter.h; priorities: linux/netfilter_ipv4.h
// (raw −300, destination NAT −100, source NAT 100).
const PREROUTING: Hook = Hook { kind: "nat", number: 0, priority: -100 };
const OUTPUT: Hook = Hook { kind: "nat", number: 3, priority: -100 };
const POSTROUTING: Hook = Hook { kind: "nat", number: 4, priority: 100 };
const GUARD: Hook = Hook { kind: "filter", number: 0, priority: -300 };

/// A port of the node that leads to a port of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Transport.
    pub protocol: Protocol,
    /// The node's address; `None` is every one.
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The pod's address.
    pub pod: IpAddr,
    /// The pod's port.
    pub pod_port: u16,
}

/// What the fixed part of a network's table says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Subnets whose traffic to elsewhere leaves with the node's address.
    pub masquerade: BTreeSet<Cidr>,
    /// Subnets of pods with port mappings.
    pub subnets: BTreeSet<Cidr>,
    /// Interfaces with `route_localnet`.
    pub guarded: BTreeSet<String>,
}

impl Rules {
    /// Takes in `more`; says whether that changed anything.
    pub fn join(&mut self, more: &Rules) -> bool {
        let before = self.clone();
        self.masquerade.extend(more.masquerade.iter().copied());
        self.subnets.extend(more.subnets.iter().copied());
        self.guarded.extend(more.guarded.iter().cloned());
        *self != before
    }

    /// Whether there is anything to say for a family.
    fn concerns(&self, family: Family) -> bool {
        self.masquerade.iter().chain(&self.subnets).any(|s| Family::of(&s.address) == family)
    }
}

/// The protocol's number in an IP header.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn sets(family: Family) -> [Set; 3] {
    // `nft`'s type numbers: ipv4_addr 7, ipv6_addr 8, inet_proto 12, inet_service 13.
    let address = if family == Family::V4 { 7 } else { 8 };
    let target = (address << 6 | 13, family.length() + 4);
    [
        Set { name: HOST_PORTS, key: (12 << 6 | 13, 8), data: Some(target) },
        Set {
            name: HOST_IP_PORTS,
            key: ((address << 6 | 12) << 6 | 13, family.length() + 8),
            data: Some(target),
        },
        Set {
            name: MAPPED,
            key: (((address << 6 | 12) << 6 | 13) << 6 | 13, family.length() + 12),
            data: None,
        },
    ]
}

/// Parts of a concatenation are padded to four bytes each.
fn port(key: &mut Vec<u8>, port: u16) {
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
}

fn protocol(key: &mut Vec<u8>, protocol: Protocol) {
    key.extend_from_slice(&[number(protocol), 0, 0, 0]);
}

impl Mapping {
    fn family(&self) -> Family {
        Family::of(&self.pod)
    }

    /// Which map, and the key in it.
    fn key(&self) -> (&'static str, Vec<u8>) {
        let mut key = self.host_ip.as_ref().map(octets).unwrap_or_default();
        protocol(&mut key, self.protocol);
        port(&mut key, self.host_port);
        (if self.host_ip.is_some() { HOST_IP_PORTS } else { HOST_PORTS }, key)
    }

    fn target(&self) -> Vec<u8> {
        let mut data = octets(&self.pod);
        port(&mut data, self.pod_port);
        data
    }

    fn mapped(&self) -> Vec<u8> {
        let mut key = octets(&self.pod);
        protocol(&mut key, self.protocol);
        port(&mut key, self.pod_port);
        port(&mut key, self.host_port);
        key
    }

    /// Whether the two want the same port of the node. A port on one address and the same port on
    /// every address are two elements, but which of two pods a client reaches would be a riddle.
    pub fn collides(&self, other: &Mapping) -> bool {
        self.family() == other.family()
            && self.protocol == other.protocol
            && self.host_port == other.host_port
            && (self.host_ip.is_none() || other.host_ip.is_none() || self.host_ip == other.host_ip)
    }

    /// `127.0.0.1:8080/tcp`, for messages.
    pub fn display(&self) -> String {
        let word = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        match self.host_ip {
            Some(address) => format!("{}/{word}", std::net::SocketAddr::new(address, self.host_port)),
            None => format!("{}/{word}", self.host_port),
        }
    }
}

fn multicast(family: Family) -> Cidr {
    match family {
        Family::V4 => Cidr { address: Ipv4Addr::new(224, 0, 0, 0).into(), prefix: 4 },
        Family::V6 => Cidr { address: Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), prefix: 8 },
    }
}

const LOOPBACK: Cidr = Cidr { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 };

/// Makes the table of a family, or makes the one that is there say exactly `rules`. Elements stay.
fn build_family(socket: &mut Socket, family: Family, table: &str, rules: &Rules) -> Result<(), NetlinkError> {
    let mut change = Transaction::new(family, table).table();
    for set in sets(family) {
        change = change.set(&set);
    }
    let by_address = || Rule::default().lookup(family, HOST_IP_PORTS, true, false, true).redirect(family);
    let by_port =
        || Rule::default().to_this_node().lookup(family, HOST_PORTS, false, false, true).redirect(family);
    change = change
        .empty_chain("prerouting", PREROUTING)
        .rule("prerouting", &by_address())
        .rule("prerouting", &by_port())
        .empty_chain("output", OUTPUT)
        .rule("output", &by_address())
        .rule("output", &by_port())
        .empty_chain("postrouting", POSTROUTING);
    let ours = |subnets: &BTreeSet<Cidr>| -> Vec<Cidr> {
        subnets.iter().copied().filter(|s| Family::of(&s.address) == family).collect()
    };
    let mapped = || Rule::default().redirected().lookup(family, MAPPED, true, true, false);
    if family == Family::V4 {
        change = change.rule("postrouting", &mapped().source_in(family, &LOOPBACK).masquerade());
        change = change.empty_chain("guard", GUARD);
        for interface in &rules.guarded {
            change = change
                .rule("guard", &Rule::default().came_by(interface).destination_in(family, &LOOPBACK).drop());
        }
    }
    for subnet in ours(&rules.subnets) {
        change = change.rule("postrouting", &mapped().source_in(family, &subnet).masquerade());
    }
    let masquerade = ours(&rules.masquerade);
    for subnet in &masquerade {
        let mut rule =
            Rule::default().source_in(family, subnet).destination_not_in(family, &multicast(family));
        for inside in &masquerade {
            rule = rule.destination_not_in(family, inside);
        }
        change = change.rule("postrouting", &rule.masquerade());
    }
    change.commit(socket)
}

/// Makes the tables, or makes those that are there say exactly `rules`.
pub fn build(socket: &mut Socket, table: &str, rules: &Rules) -> Result<(), NetlinkError> {
    for family in Family::ALL.into_iter().filter(|family| rules.concerns(*family)) {
        build_family(socket, family, table, rules)?;
    }
    Ok(())
}

/// Whether the tables that `rules` needs are there; somebody may have flushed the node's rules.
pub fn complete(socket: &mut Socket, table: &str, rules: &Rules) -> Result<bool, NetlinkError> {
    for family in Family::ALL {
        if rules.concerns(family) && !table_exists(socket, family, table)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Opens the ports. All of one family or none. Where a port leads elsewhere already, the kernel's
/// answer is EBUSY or EEXIST.
pub fn map(socket: &mut Socket, table: &str, mappings: &[Mapping]) -> Result<(), NetlinkError> {
    for family in Family::ALL {
        let mut change = Transaction::new(family, table);
        let mut any = false;
        for mapping in mappings.iter().filter(|m| m.family() == family) {
            let (set, key) = mapping.key();
            any = true;
            change =
                change.element(set, &key, Some(&mapping.target())).element(MAPPED, &mapping.mapped(), None);
        }
        if any {
            change.commit(socket)?;
        }
    }
    Ok(())
}

/// Closes the ports. What is gone already, table included, is fine.
pub fn unmap(socket: &mut Socket, table: &str, mappings: &[Mapping]) -> Result<(), NetlinkError> {
    for family in Family::ALL {
        let of_family: Vec<&Mapping> = mappings.iter().filter(|m| m.family() == family).collect();
        if of_family.is_empty() {
            continue;
        }
        let remove = |mappings: &[&Mapping], socket: &mut Socket| {
            mappings
                .iter()
                .fold(Transaction::new(family, table), |change, mapping| {
                    let (set, key) = mapping.key();
                    change.delete_element(set, &key).delete_element(MAPPED, &mapping.mapped())
                })
                .commit(socket)
        };
        match remove(&of_family, socket) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            other => {
                other?;
                continue;
            }
        }
        // Something is missing, and the kernel takes nothing or all: one element at a time.
        for mapping in of_family {
            let (set, key) = mapping.key();
            for (set, key) in [(set, key), (MAPPED, mapping.mapped())] {
                match Transaction::new(family, table).delete_element(set, &key).commit(socket) {
                    Err(error) if error.errno() == Some(Errno::NOENT) => {}
                    other => other?,
                }
            }
        }
    }
    Ok(())
}

/// Deletes the network's tables. What is gone already is fine.
pub fn remove(socket: &mut Socket, table: &str) -> Result<(), NetlinkError> {
    for family in Family::ALL {
        if table_exists(socket, family, table)? {
            match Transaction::new(family, table).delete_table().commit(socket) {
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                other => other?,
            }
        }
    }
    Ok(())
}
