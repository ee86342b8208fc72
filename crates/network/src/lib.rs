//! Pod networks: namespaces, CNI configuration and results, built-in plugins, plugin binaries.
//!
//! [`Network`] is the whole of it for the engine. Below it, from the outside in: `attach` and
//! `detach` (the order of things and their record), `conf`, `derived`, `exec` and `result` (the CNI
//! specification), `plugins` (the standard plugins in-process), `ipam` (addresses), `netlink` and
//! `nftables` (the kernel), `netns`.
//!
//! It executes nothing but the plugins of a network configuration: no `ip`, no `nft`, no
//! `iptables`. It never changes a link, a table or a file of an address that it did not make, and
//! never lets a thread that serves others enter a namespace.

mod attach;
mod background;
pub mod cidr;
pub mod conf;
mod default_network;
mod derived;
mod detach;
pub mod exec;
mod files;
pub mod ipam;
mod nat_tables;
pub mod netlink;
pub mod netns;
mod network;
pub mod nftables;
mod plugins;
mod pod;
mod record;
pub mod result;
mod sysctl;

pub use network::{Network, NetworkConfig, NetworkStatus};
pub use pod::{Attachment, PodNetwork};
