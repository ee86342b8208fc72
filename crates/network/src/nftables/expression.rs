//! The nf_tables expressions that the rules here are made of. Numbers: linux/netfilter/nf_tables.h,
//! all in network order on the wire; data to compare with is in the order that the packet or the
//! kernel has it.

use super::Family;
use crate::cidr::{Cidr, octets};
use crate::netlink::message::Message;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;

/// `NFT_REG32_00`: the first of sixteen registers of four bytes.
const FIRST_REGISTER: u32 = 8;
/// `NFT_REG_VERDICT`
const VERDICT: u32 = 0;

/// `NFT_META_IIFNAME`
const META_IIFNAME: u32 = 6;
/// `NFT_META_L4PROTO`
const META_L4PROTO: u32 = 16;
/// `NFT_CT_STATUS`
const CT_STATUS: u32 = 2;
/// `NFT_CT_PROTO_DST`
const CT_PROTO_DST: u32 = 12;
/// `IPS_DST_NAT` of linux/netfilter/nf_conntrack_common.h: the connection's destination was changed.
const IPS_DST_NAT: u32 = 1 << 5;
/// `RTN_LOCAL` of linux/rtnetlink.h: an address of this node.
const RTN_LOCAL: u32 = 2;
/// `IFNAMSIZ`
const INTERFACE_NAME: usize = 16;

/// A rule being built: expressions that are tried one after the other until one does not match.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    expressions: Vec<Expression>,
}

#[derive(Debug, Clone)]
enum Expression {
    Payload { register: u32, base: u32, offset: u32, length: u32 },
    Meta { key: u32, register: u32 },
    ConntrackStatus,
    OriginalPort { register: u32 },
    LocalDestination,
    And { mask: Vec<u8> },
    Compare { equal: bool, data: Vec<u8> },
    Lookup { set: &'static str, map: bool },
    DestinationNat { family: Family },
    Masquerade,
    Drop,
}

/// Registers that `bytes` take.
fn registers(bytes: usize) -> u32 {
    // Keys have 28 bytes at most.
    u32::try_from(bytes.div_ceil(4)).unwrap_or(0)
}

impl Rule {
    fn with(mut self, more: impl IntoIterator<Item = Expression>) -> Self {
        self.expressions.extend(more);
        self
    }

    fn address(self, family: Family, source: bool, network: &Cidr, equal: bool) -> Self {
        let network = network.network();
        let length = registers(family.length()) * 4;
        let load = Expression::Payload {
            register: FIRST_REGISTER,
            base: 1,
            offset: if source { family.source_offset() } else { family.destination_offset() },
            length,
        };
        let host = Cidr { address: network.last(), prefix: network.prefix };
        // One bits where the network's lowest and highest address agree.
        let mask: Vec<u8> =
            octets(&network.address).iter().zip(octets(&host.address)).map(|(a, b)| !(a ^ b)).collect();
        self.with([
            load,
            Expression::And { mask },
            Expression::Compare { equal, data: octets(&network.address) },
        ])
    }

    /// The packet comes from `network`.
    pub fn source_in(self, family: Family, network: &Cidr) -> Self {
        self.address(family, true, network, true)
    }

    /// The packet goes to `network`.
    pub fn destination_in(self, family: Family, network: &Cidr) -> Self {
        self.address(family, false, network, true)
    }

    /// The packet does not go to `network`.
    pub fn destination_not_in(self, family: Family, network: &Cidr) -> Self {
        self.address(family, false, network, false)
    }

    /// The packet goes to an address of this node.
    pub fn to_this_node(self) -> Self {
        self.with([
            Expression::LocalDestination,
            Expression::Compare { equal: true, data: RTN_LOCAL.to_ne_bytes().to_vec() },
        ])
    }

    /// The packet came in by the interface of that name.
    pub fn came_by(self, name: &str) -> Self {
        let mut data = name.as_bytes().to_vec();
        data.resize(INTERFACE_NAME, 0);
        self.with([
            Expression::Meta { key: META_IIFNAME, register: FIRST_REGISTER },
            Expression::Compare { equal: true, data },
        ])
    }

    /// The destination of the packet's connection was changed.
    pub fn redirected(self) -> Self {
        self.with([
            Expression::ConntrackStatus,
            Expression::And { mask: IPS_DST_NAT.to_ne_bytes().to_vec() },
            Expression::Compare { equal: false, data: vec![0; 4] },
        ])
    }

    /// Loads the destination address, where wanted, then the protocol and the destination port,
    /// and where wanted the port that the connection was first made to; looks the whole up.
    pub fn lookup(
        self,
        family: Family,
        set: &'static str,
        address: bool,
        original_port: bool,
        map: bool,
    ) -> Self {
        let mut register = FIRST_REGISTER;
        let mut rule = self;
        if address {
            let length = registers(family.length()) * 4;
            let offset = family.destination_offset();
            rule = rule.with([Expression::Payload { register, base: 1, offset, length }]);
            register += registers(family.length());
        }
        rule = rule.with([
            Expression::Meta { key: META_L4PROTO, register },
            // The destination port of TCP, UDP and SCTP alike.
            Expression::Payload { register: register + 1, base: 2, offset: 2, length: 2 },
        ]);
        if original_port {
            rule = rule.with([Expression::OriginalPort { register: register + 2 }]);
        }
        rule.with([Expression::Lookup { set, map }])
    }

    /// Changes the destination to the address and port that the lookup found.
    pub fn redirect(self, family: Family) -> Self {
        self.with([Expression::DestinationNat { family }])
    }

    /// Changes the source to the node's own address.
    pub fn masquerade(self) -> Self {
        self.with([Expression::Masquerade])
    }

    /// Drops the packet.
    pub fn drop(self) -> Self {
        self.with([Expression::Drop])
    }

    /// Appends the expressions to a rule's message.
    pub(super) fn write(&self, message: Message) -> Message {
        self.expressions.iter().fold(message, |m, e| m.nest(NFTA_LIST_ELEM, |m| e.write(m)))
    }
}

fn named(message: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    message.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data)
}

fn value(message: Message, kind: u16, bytes: &[u8]) -> Message {
    message.nest(kind, |m| m.attr(NFTA_DATA_VALUE, bytes))
}

impl Expression {
    fn write(&self, m: Message) -> Message {
        match self {
            Expression::Payload { register, base, offset, length } => {
                named(m, "payload", |m| m.be32(1, *register).be32(2, *base).be32(3, *offset).be32(4, *length))
            }
            Expression::Meta { key, register } => named(m, "meta", |m| m.be32(2, *key).be32(1, *register)),
            Expression::ConntrackStatus => named(m, "ct", |m| m.be32(2, CT_STATUS).be32(1, FIRST_REGISTER)),
            // Direction 0 is the original one (`IP_CT_DIR_ORIGINAL`), one byte.
            Expression::OriginalPort { register } => {
                named(m, "ct", |m| m.be32(2, CT_PROTO_DST).be32(1, *register).attr(3, &[0]))
            }
            // Flag 2 looks up the destination (`NFTA_FIB_F_DADDR`), result 3 is the address's type.
            Expression::LocalDestination => {
                named(m, "fib", |m| m.be32(3, 2).be32(2, 3).be32(1, FIRST_REGISTER))
            }
            Expression::And { mask } => named(m, "bitwise", |m| {
                let length = registers(mask.len()) * 4;
                let m = m.be32(1, FIRST_REGISTER).be32(2, FIRST_REGISTER).be32(3, length);
                value(value(m, 4, mask), 5, &vec![0; mask.len()])
            }),
            Expression::Compare { equal, data } => {
                named(m, "cmp", |m| value(m.be32(1, FIRST_REGISTER).be32(2, u32::from(!equal)), 3, data))
            }
            Expression::Lookup { set, map } => named(m, "lookup", |m| {
                let m = m.be32(2, FIRST_REGISTER);
                let m = if *map { m.be32(3, FIRST_REGISTER) } else { m };
                m.text(1, set)
            }),
            Expression::DestinationNat { family } => named(m, "nat", |m| {
                m.be32(1, 1)
                    .be32(2, u32::from(family.number()))
                    .be32(3, FIRST_REGISTER)
                    .be32(5, FIRST_REGISTER + registers(family.length()))
            }),
            Expression::Masquerade => named(m, "masq", |m| m),
            // Verdict 0 is NF_DROP.
            Expression::Drop => named(m, "immediate", |m| {
                m.be32(1, VERDICT).nest(2, |m| m.nest(NFTA_DATA_VERDICT, |m| m.be32(NFTA_VERDICT_CODE, 0)))
            }),
        }
    }
}
