//! What the engine tells about a pod, and what it gets back. Plain data, no I/O.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use types::pod::{Dns, PortMapping};

/// A pod that is to be attached to the network, or detached from it.
///
/// For [`crate::Network::detach`] only `id` matters where an attachment is recorded; the rest is
/// used in messages, and where no record is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The sandbox id: CNI's container id.
    pub id: String,
    /// The pod's name.
    pub name: String,
    /// The pod's Kubernetes namespace.
    pub namespace: String,
    /// The pod object's unique id.
    pub uid: String,
    /// The pinned network namespace.
    pub netns: PathBuf,
    /// Ports of the node that lead into the pod; those with host port 0 are left out.
    pub port_mappings: Vec<PortMapping>,
    /// For plugins with the capability `dns`.
    pub dns: Option<Dns>,
    /// For plugins with the capability `io.kubernetes.cri.pod-annotations`; the bandwidth
    /// annotations of Kubernetes are read from here, too.
    pub annotations: BTreeMap<String, String>,
    /// For plugins with the capability `cgroupPath`.
    pub cgroup_parent: String,
    /// Addresses asked for (capability `ips`); empty lets the address management choose.
    pub ips: Vec<IpAddr>,
    /// A MAC address asked for (capability `mac`).
    pub mac: Option<String>,
}

impl PodNetwork {
    /// `namespace/name`, or the id where there is no name: for messages.
    pub(crate) fn display(&self) -> String {
        if self.name.is_empty() {
            self.id.chars().take(13).collect()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

/// What a pod got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The pod's addresses, primary first.
    pub ips: Vec<IpAddr>,
    /// The CNI result of the last plugin.
    pub result: serde_json::Value,
    /// The network's name.
    pub network: String,
}
