//! Address management on the node, in the on-disk format of the host-local plugin
//! (plugins/ipam/host-local of containernetworking/plugins), so that the two can share a folder:
//! `<dataDir>/<network>/<address>` holds `<container id>\r\n<interface>`, `last_reserved_ip.<set>`
//! the last address given out, and `lock` is locked with flock(2) around every change.
//!
//! One thing is done better than there: an address file is written under another name and linked
//! into place, so a process that dies in between leaves no file without an owner.

mod disk;
mod range;

pub use range::{Range, RangeConf, RangeSet};

use crate::cidr::Cidr;
use disk::Store;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use types::ErrorKind;

/// Where host-local keeps its files when the configuration does not say.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// What can go wrong with addresses.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The configuration cannot be used.
    #[error("the address management of network {network:?}: {reason}")]
    Config {
        /// The network.
        network: String,
        /// What is wrong.
        reason: String,
    },
    /// Every address is taken.
    #[error("network {network:?} has no free address in {ranges}; remove pods, or widen the range")]
    Exhausted {
        /// The network.
        network: String,
        /// Its ranges.
        ranges: String,
    },
    /// The address that was asked for is taken, or not in a range.
    #[error("network {network:?} cannot give out {address}: {reason}")]
    NotAvailable {
        /// The network.
        network: String,
        /// Which.
        address: IpAddr,
        /// Why.
        reason: &'static str,
    },
    /// The container has an address already.
    #[error("{address} is given to {owner} already; detach it first")]
    Duplicate {
        /// Which.
        address: IpAddr,
        /// To whom.
        owner: String,
    },
    /// The folder cannot be used.
    #[error("cannot {action} in {}", folder.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// Where.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: rustix::io::Errno,
    },
}

impl IpamError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            IpamError::Config { .. } => ErrorKind::InvalidArgument,
            IpamError::Exhausted { .. } => ErrorKind::ResourceExhausted,
            IpamError::NotAvailable { .. } | IpamError::Duplicate { .. } => ErrorKind::FailedPrecondition,
            IpamError::Folder { source: rustix::io::Errno::AGAIN, .. } => ErrorKind::Unavailable,
            IpamError::Folder { .. } => ErrorKind::Internal,
        }
    }
}

/// An address that was given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address with its subnet's prefix length.
    pub address: Cidr,
    /// The subnet's gateway.
    pub gateway: IpAddr,
}

/// A route as a configuration writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConf {
    /// Where to.
    pub dst: Cidr,
    /// Through whom; by default the gateway of the pod's address.
    pub gw: Option<IpAddr>,
    /// Path MTU, bytes.
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise, bytes.
    pub advmss: Option<u32>,
    /// Metric.
    pub priority: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Conf {
    #[serde(rename = "type")]
    _type: String,
    subnet: Option<Cidr>,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
    #[serde(default)]
    ranges: Vec<Vec<RangeConf>>,
    #[serde(default)]
    routes: Vec<RouteConf>,
    #[serde(default)]
    data_dir: PathBuf,
}

/// The address management of one network.
#[derive(Debug, Clone)]
pub struct HostLocal {
    network: String,
    folder: PathBuf,
    sets: Vec<RangeSet>,
    /// Routes for pods.
    pub routes: Vec<RouteConf>,
}

impl HostLocal {
    /// Reads an `ipam` object. Every option has to be known; the reason names the one that is not.
    /// `more` are range sets of the runtime (capability `ipRanges`), which come first.
    pub fn from_conf(network: &str, ipam: &Value, more: &[Vec<RangeConf>]) -> Result<Self, IpamError> {
        let refuse = |reason: String| IpamError::Config { network: network.to_owned(), reason };
        if !crate::files::valid_name(network) {
            return Err(refuse("the network's name cannot be a folder's name".to_owned()));
        }
        let conf = Conf::deserialize(ipam).map_err(|e| refuse(e.to_string()))?;
        let mut ranges = more.to_vec();
        if let Some(subnet) = conf.subnet {
            let (range_start, range_end, gateway) = (conf.range_start, conf.range_end, conf.gateway);
            ranges.push(vec![RangeConf { subnet, range_start, range_end, gateway }]);
        }
        ranges.extend(conf.ranges);
        if ranges.is_empty() || ranges.len() > 64 {
            return Err(refuse("1 to 64 range sets are needed".to_owned()));
        }
        let sets: Vec<RangeSet> =
            ranges.iter().map(|r| RangeSet::check(r)).collect::<Result<_, _>>().map_err(refuse)?;
        for (index, set) in sets.iter().enumerate() {
            if sets[..index].iter().any(|other| other.overlaps(set)) {
                return Err(refuse(format!("the range set {set} overlaps another")));
            }
        }
        let data =
            if conf.data_dir.as_os_str().is_empty() { Path::new(DEFAULT_DATA_DIR) } else { &conf.data_dir };
        Ok(Self { network: network.to_owned(), folder: data.join(network), sets, routes: conf.routes })
    }

    /// The subnets that addresses come from.
    pub fn subnets(&self) -> impl Iterator<Item = Cidr> + '_ {
        self.sets.iter().flat_map(RangeSet::subnets)
    }

    /// Gives out one address of every range set. On failure nothing stays given out.
    /// `fresh` says that this owner is known to have none, which saves reading every file.
    pub fn reserve(
        &self,
        id: &str,
        interface: &str,
        requested: &[IpAddr],
        fresh: bool,
    ) -> Result<Vec<Lease>, IpamError> {
        let store = Store::open(&self.folder)?;
        let _lock = store.lock()?;
        if !fresh && let Some(address) = store.owned(id, interface)?.first() {
            return Err(IpamError::Duplicate { address: *address, owner: id.to_owned() });
        }
        let mut leases = Vec::with_capacity(self.sets.len());
        let outcome = self.reserve_all(&store, id, interface, requested, &mut leases);
        if outcome.is_err() {
            for lease in &leases {
                let lease: &Lease = lease;
                // The error that is reported is the first one; a file that stays is found by `release`.
                let _ = store.release(id, interface, &[lease.address.address]);
            }
        }
        outcome.map(|()| leases)
    }

    fn reserve_all(
        &self,
        store: &Store,
        id: &str,
        interface: &str,
        requested: &[IpAddr],
        leases: &mut Vec<Lease>,
    ) -> Result<(), IpamError> {
        if let Some(address) = requested.iter().find(|a| !self.sets.iter().any(|s| s.range_of(a).is_some())) {
            return Err(self.not_available(address, "it is in none of the network's ranges"));
        }
        let taken = store.taken()?;
        let draft = store.draft(id, interface)?;
        for (index, set) in self.sets.iter().enumerate() {
            let wanted = requested.iter().find_map(|a| set.range_of(a).map(|r| (*a, r)));
            let chosen = if let Some((address, range)) = wanted {
                if address == range.gateway {
                    return Err(self.not_available(&address, "it is the gateway's"));
                }
                if !draft.claim(&address)? {
                    return Err(self.not_available(&address, "it is given out already"));
                }
                Some((address, range))
            } else {
                let last = store.last(index)?;
                let mut chosen = None;
                for (address, range) in set.from_after(last.as_ref()) {
                    if !taken.contains(&address) && draft.claim(&address)? {
                        chosen = Some((address, range));
                        break;
                    }
                }
                chosen
            };
            let Some((address, range)) = chosen else {
                return Err(IpamError::Exhausted { network: self.network.clone(), ranges: set.to_string() });
            };
            leases.push(Lease {
                address: Cidr { address, prefix: range.subnet.prefix },
                gateway: range.gateway,
            });
            store.remember(index, &address)?;
        }
        Ok(())
    }

    fn not_available(&self, address: &IpAddr, reason: &'static str) -> IpamError {
        IpamError::NotAvailable { network: self.network.clone(), address: *address, reason }
    }

    /// Takes all addresses back that `id` has on `interface`. `known` are those it is known to
    /// have; where that is none, every file is read. None at all is fine.
    pub fn release(&self, id: &str, interface: &str, known: &[IpAddr]) -> Result<(), IpamError> {
        let Some(store) = Store::open_existing(&self.folder)? else { return Ok(()) };
        let _lock = store.lock()?;
        store.release(id, interface, known)
    }

    /// The addresses that `id` has on `interface`.
    pub fn owned(&self, id: &str, interface: &str) -> Result<Vec<IpAddr>, IpamError> {
        match Store::open_existing(&self.folder)? {
            Some(store) => store.owned(id, interface),
            None => Ok(Vec::new()),
        }
    }

    /// Takes back every address whose owner is not `live`; for a folder that nobody else uses.
    /// Answers how many those were.
    pub fn retain(&self, live: impl Fn(&str) -> bool) -> Result<usize, IpamError> {
        let Some(store) = Store::open_existing(&self.folder)? else { return Ok(0) };
        let _lock = store.lock()?;
        store.retain(live)
    }
}
