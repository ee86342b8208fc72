//! The portmap plugin, in-process: ports of the node that lead into the pod, as elements of the
//! network's own nf_tables table (see [`crate::nftables::nat`]). Options as in plugins/meta/portmap of
//! containernetworking/plugins; what is written for iptables (conditions, marks, chains of others)
//! hands the work to the plugin's binary.

use super::{Call, PluginFailure};
use crate::cidr::Cidr;
use crate::netlink::Socket;
use crate::nftables::nat::{Mapping, Rules};
use crate::result::CniResult;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Conf {
    #[serde(rename = "type")]
    _type: String,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "cniVersion")]
    _version: Option<String>,
    #[serde(rename = "capabilities")]
    _capabilities: Option<Map<String, Value>>,
    snat: Option<bool>,
    backend: Option<String>,
}

/// Reads the options; the error is the reason why the binary has to do it.
pub fn check_options(options: &Map<String, Value>) -> Result<(), String> {
    let conf = Conf::deserialize(Value::Object(options.clone())).map_err(|error| error.to_string())?;
    if conf.snat == Some(false) {
        return Err("the option snat=false is not built in".to_owned());
    }
    match conf.backend.as_deref() {
        None | Some("" | "nftables") => Ok(()),
        Some(other) => Err(format!("the backend {other:?} is not built in")),
    }
}

/// What a pod has in its network's table. Recorded before it is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ports {
    /// The ports.
    pub mappings: Vec<Mapping>,
    /// What the table's fixed part has to say for them.
    pub rules: Rules,
}

/// Works out what to map: every mapping for the pod's first address of each family that its host
/// address allows. Nothing is changed yet.
pub fn plan(call: &Call<'_>, previous: &Value) -> Result<Ports, PluginFailure> {
    let mut ports = Ports::default();
    let result = CniResult::parse(previous).map_err(|e| PluginFailure::PreviousResult(e.to_string()))?;
    let mut addresses: Vec<Cidr> = Vec::new();
    for address in result.pod_addresses(call.interface) {
        if !addresses.iter().any(|a| a.address.is_ipv4() == address.address.address.is_ipv4()) {
            addresses.push(address.address);
        }
    }
    for mapping in call.pod.port_mappings.iter().filter(|m| m.host_port != 0) {
        if mapping.container_port == 0 {
            return Err(PluginFailure::Port("the container's port is 0".to_owned()));
        }
        let host_ip = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| {
                PluginFailure::Port(format!("{:?} is not an address", types::reference::shorten(text)))
            })?),
        };
        for pod in &addresses {
            if host_ip.is_some_and(|ip| ip.is_ipv4() != pod.address.is_ipv4()) {
                continue;
            }
            ports.rules.subnets.insert(pod.network());
            let mapping = Mapping {
                protocol: mapping.protocol,
                host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
                host_port: mapping.host_port,
                pod: pod.address,
                pod_port: mapping.container_port,
            };
            if !ports.mappings.contains(&mapping) {
                ports.mappings.push(mapping);
            }
        }
    }
    if !ports.mappings.is_empty() {
        ports.rules.guarded = guarded(&addresses)?;
    }
    Ok(ports)
}

/// The interfaces that lead to the pod: packets from 127.0.0.1 will leave by them.
fn guarded(addresses: &[Cidr]) -> Result<std::collections::BTreeSet<String>, PluginFailure> {
    let mut socket = Socket::route()?;
    let mut names = std::collections::BTreeSet::new();
    for address in addresses.iter().filter(|a| a.address.is_ipv4()) {
        if let Some(index) = socket.way_to(&address.address)?
            && let Some(link) = socket.link_at(index)?
        {
            names.insert(link.name);
        }
    }
    Ok(names)
}

/// ADD, of what was planned and recorded.
pub fn add(call: &Call<'_>, ports: &Ports) -> Result<(), PluginFailure> {
    if ports.mappings.is_empty() {
        return Ok(());
    }
    call.nat.ensure(call.table, &ports.rules)?;
    for interface in &ports.rules.guarded {
        // The guard chain of the table is there by now.
        call.nat.open_loopback(call.table, interface)?;
    }
    Ok(call.nat.map(call.table, &ports.mappings)?)
}

/// DEL. What is gone already is fine.
pub fn delete(call: &Call<'_>, ports: &Ports) -> Result<(), PluginFailure> {
    if ports.mappings.is_empty() { Ok(()) } else { Ok(call.nat.unmap(call.table, &ports.mappings)?) }
}
