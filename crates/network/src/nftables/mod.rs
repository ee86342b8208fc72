//! A small nf_tables client: transactions of tables, sets, chains, rules and elements, straight to
//! the kernel. It executes no `nft` and no `iptables`, touches no table but the ones that it is told
//! the name of, and reads nothing back but whether a table is there.
//!
//! A transaction is one datagram between a begin and an end message; the kernel takes all of it or
//! nothing (net/netfilter/nfnetlink.c).

pub mod conntrack;
pub mod expression;
pub mod nat;

use crate::netlink::message::{ACK, APPEND, CREATE, Message};
use crate::netlink::{NetlinkError, Request, Socket};
use expression::Rule;
use rustix::io::Errno;
use std::net::IpAddr;

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// Bytes of an address.
    fn length(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// Where the source address is in the packet's header (RFC 791, RFC 8200).
    fn source_offset(self) -> u32 {
        match self {
            Family::V4 => 12,
            Family::V6 => 8,
        }
    }

    fn destination_offset(self) -> u32 {
        match self {
            Family::V4 => 16,
            Family::V6 => 24,
        }
    }

    /// How `nft` names the family.
    pub fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }
}

/// Where a base chain hooks into the packet's way, and in which order.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// `NF_INET_PRE_ROUTING` 0, `…_LOCAL_OUT` 3, `…_POST_ROUTING` 4.
    pub number: u32,
    /// Lower comes first.
    pub priority: i32,
}

/// A set, or a map where `data` is something.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    /// Its name in the table.
    pub name: &'static str,
    /// `nft`'s number for the key's type (six bits per part), for listings only; and its bytes.
    pub key: (u32, usize),
    /// The same of the mapped data.
    pub data: Option<(u32, usize)>,
}

fn message(kind: u16, flags: u16, family: u8) -> Message {
    // `struct nfgenmsg`: family, version 0, resource id 0.
    Message::new(SUBSYSTEM << 8 | kind, flags, &[family, 0, 0, 0])
}

fn boundary(kind: u16) -> Request {
    // The resource id of a boundary is the subsystem, in network order.
    let message = Message::new(kind, 0, &[0, 0, 0, SUBSYSTEM.to_be_bytes()[1]]);
    Request::new(message, "begin an nf_tables transaction (does the kernel have nf_tables?)").unanswered()
}

/// Changes to one table, made all together or not at all.
#[derive(Debug)]
pub struct Transaction<'a> {
    family: Family,
    table: &'a str,
    requests: Vec<Request>,
    sets: u32,
}

impl<'a> Transaction<'a> {
    /// Nothing yet.
    pub fn new(family: Family, table: &'a str) -> Self {
        Self { family, table, requests: vec![boundary(BATCH_BEGIN)], sets: 0 }
    }

    fn push(mut self, message: Message, action: String, forgiven: &'static [Errno]) -> Self {
        let action = format!("{action} in nf_tables table {} {}", self.family.word(), self.table);
        self.requests.push(Request::new(message, action).forgiving(forgiven));
        self
    }

    fn message(&self, kind: u16, flags: u16) -> Message {
        message(kind, ACK | flags, self.family.number()).text(1, self.table)
    }

    /// Makes the table, if it is not there.
    pub fn table(self) -> Self {
        let message = self.message(NEWTABLE, CREATE).be32(2, 0);
        self.push(message, "create the table".to_owned(), &[])
    }

    /// Deletes the table and everything in it.
    pub fn delete_table(self) -> Self {
        let message = self.message(DELTABLE, 0);
        self.push(message, "delete the table".to_owned(), &[])
    }

    /// Makes a set, if it is not there.
    pub fn set(mut self, set: &Set) -> Self {
        self.sets += 1;
        let flags = if set.data.is_some() { 0x8 } else { 0 }; // NFT_SET_MAP
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(0); // 28 at most
        let mut message = self
            .message(NEWSET, CREATE)
            .text(2, set.name)
            .be32(3, flags)
            .be32(4, set.key.0)
            .be32(5, length(set.key.1));
        if let Some((kind, bytes)) = set.data {
            message = message.be32(6, kind).be32(7, length(bytes));
        }
        // An id is asked for even where nothing in the transaction refers to it.
        let message = message.be32(10, self.sets);
        self.push(message, format!("create the set {}", set.name), &[])
    }

    /// Makes a base chain, if it is not there, and takes all its rules away.
    pub fn empty_chain(self, name: &str, hook: Hook) -> Self {
        let message = self
            .message(NEWCHAIN, CREATE)
            .text(3, name)
            .text(7, hook.kind)
            .nest(4, |m| m.be32(1, hook.number).be32(2, hook.priority.cast_unsigned()));
        let flush = self.message(DELRULE, 0).text(2, name);
        self.push(message, format!("create the chain {name}"), &[]).push(
            flush,
            format!("empty the chain {name}"),
            &[],
        )
    }

    /// Appends a rule.
    pub fn rule(self, chain: &str, rule: &Rule) -> Self {
        let message = self.message(NEWRULE, CREATE | APPEND).text(2, chain).nest(4, |m| rule.write(m));
        self.push(message, format!("add a rule to the chain {chain}"), &[])
    }

    /// Adds an element. One that is there with the same data is fine; with other data the kernel
    /// answers EBUSY or EEXIST.
    pub fn element(self, set: &str, key: &[u8], data: Option<&[u8]>) -> Self {
        let message = self.elements(NEWSETELEM, CREATE, set, key, data);
        self.push(message, format!("add an element to {set}"), &[])
    }

    /// Takes an element away; that it is not there is ENOENT, and undoes the transaction.
    pub fn delete_element(self, set: &str, key: &[u8]) -> Self {
        let message = self.elements(DELSETELEM, 0, set, key, None);
        self.push(message, format!("remove an element of {set}"), &[])
    }

    fn elements(&self, kind: u16, flags: u16, set: &str, key: &[u8], data: Option<&[u8]>) -> Message {
        self.message(kind, flags).text(2, set).nest(3, |m| {
            m.nest(1, |m| {
                let m = m.nest(1, |m| m.attr(1, key));
                match data {
                    Some(data) => m.nest(2, |m| m.attr(1, data)),
                    None => m,
                }
            })
        })
    }

    /// Hands everything to the kernel.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        self.requests.push(boundary(BATCH_END));
        socket.apply(self.requests)
    }
}

/// Whether the table is there. Costs two system calls.
pub fn table_exists(socket: &mut Socket, family: Family, table: &str) -> Result<bool, NetlinkError> {
    let message = message(GETTABLE, 0, family.number()).text(1, table);
    let request = Request::new(message, format!("look up nf_tables table {} {table}", family.word()));
    Ok(socket.get(request, &[Errno::NOENT], |_, _| Ok(()))?.is_some())
}
