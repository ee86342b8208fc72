//! The standard plugins that run in-process, and the choice between them and a binary. Synchronous;
//! they talk to the kernel by netlink and to nobody else.

pub mod bridge;
pub mod loopback;
pub mod portmap;

use crate::conf::{CniVersion, NetworkList, Plugin};
use crate::ipam::{IpamError, RangeConf};
use crate::nat_tables::NatTables;
use crate::netlink::NetlinkError;
use crate::netns::NetnsError;
use crate::nftables::nat::Rules;
use crate::pod::PodNetwork;
use bridge::{Bridge, Wishes};
use rustix::io::Errno;
use types::ErrorKind;

/// What every plugin is told.
#[derive(Debug)]
pub struct Call<'a> {
    /// The pod.
    pub pod: &'a PodNetwork,
    /// The interface's name in the pod.
    pub interface: &'a str,
    /// The version that results are written in.
    pub version: CniVersion,
    /// The network's nf_tables table.
    pub table: &'a str,
    /// What the table's fixed part has to say, beside what pods with ports need.
    pub rules: Rules,
    /// The pod is known to have no address yet.
    pub fresh: bool,
    /// The tables.
    pub nat: &'a NatTables,
}

/// Why a built-in plugin did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PluginFailure {
    /// Addresses.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// Links, addresses, routes, rules.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The pod's namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A kernel parameter.
    #[error("cannot set the kernel parameter net/{name} to {value}")]
    Sysctl {
        /// Its path below `/proc/sys/net`.
        name: String,
        /// The value.
        value: &'static str,
        /// What the system said.
        #[source]
        source: Errno,
    },
    /// Something else deletes what is made here.
    #[error("{0} was deleted while it was being set up; does another program manage it?")]
    Vanished(String),
    /// The bridge's name is taken.
    #[error("{0} is there already and is not a bridge; choose another name for the bridge")]
    NotBridge(String),
    /// A port mapping cannot be used.
    #[error("a port mapping cannot be used: {0}")]
    Port(String),
    /// What the plugin before answered cannot be used.
    #[error("the result of the plugin before cannot be used: {0}")]
    PreviousResult(String),
    /// What is about to be made cannot be recorded.
    #[error("cannot record what is about to be made")]
    Record(#[source] Errno),
}

impl PluginFailure {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PluginFailure::Ipam(error) => error.kind(),
            PluginFailure::Netlink(error) => match error.errno() {
                Some(Errno::PERM | Errno::ACCESS) => ErrorKind::PermissionDenied,
                Some(Errno::NOMEM | Errno::NOBUFS | Errno::NOSPC) => ErrorKind::ResourceExhausted,
                _ => ErrorKind::Internal,
            },
            PluginFailure::Port(_) => ErrorKind::InvalidArgument,
            PluginFailure::NotBridge(_) => ErrorKind::FailedPrecondition,
            _ => ErrorKind::Internal,
        }
    }
}

/// A plugin that runs in-process.
#[derive(Debug, Clone)]
pub enum Builtin {
    /// See [`bridge`].
    Bridge(Box<Bridge>),
    /// See [`portmap`]; whether it asked for the pod's port mappings.
    Portmap(bool),
    /// See [`loopback`].
    Loopback,
}

impl Builtin {
    /// The built-in plugin that does all that `plugin` asks for; else the reason why there is none.
    pub fn choose(list: &NetworkList, plugin: &Plugin, pod: &PodNetwork) -> Result<Self, String> {
        if plugin.options.contains_key("args") {
            return Err("the option args is not built in".to_owned());
        }
        match plugin.kind.as_str() {
            "bridge" => {
                let wishes = Wishes {
                    mac: pod.mac.clone().filter(|_| plugin.wants("mac")),
                    ips: if plugin.wants("ips") { pod.ips.clone() } else { Vec::new() },
                    ranges: Vec::<Vec<RangeConf>>::new(),
                };
                Ok(Builtin::Bridge(Box::new(Bridge::from_options(&list.name, &plugin.options, wishes)?)))
            }
            "portmap" => {
                portmap::check_options(&plugin.options)?;
                Ok(Builtin::Portmap(plugin.wants("portMappings")))
            }
            "loopback" => Ok(Builtin::Loopback),
            other => Err(format!("{other:?} is not a built-in plugin")),
        }
    }
}

/// FNV-1a, 64 bits: for names that have to follow from other names. Not for secrets.
pub fn fnv(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
