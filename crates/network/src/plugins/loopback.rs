//! The loopback plugin, in-process: sets `lo` up in the pod's namespace. The kernel gives it its
//! addresses by itself.

use super::PluginFailure;
use crate::netlink::{Request, Socket, link};
use crate::netns::{self, Netns};

/// `lo` is the first link of every namespace (`LOOPBACK_IFINDEX`, include/net/net_namespace.h).
const INDEX: u32 = 1;

/// The request that sets it up.
pub fn up() -> Request {
    link::set_up(INDEX, "lo")
}

/// ADD. There is no DEL: it goes with the namespace.
pub fn add(netns: &Netns) -> Result<(), PluginFailure> {
    netns::run_in(netns, || Ok(Socket::route()?.apply(vec![up()])?))
}
