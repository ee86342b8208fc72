//! The bridge plugin, in-process: a bridge on the node, a veth pair, the pod's end with its
//! addresses and routes. Options and results as in plugins/main/bridge of containernetworking/plugins.
//!
//! What is different: the address is reserved first and the pod's hardware address is made of it
//! (`0a:58` and the IPv4 address), so that an address that is given out again belongs to the same
//! hardware address and no neighbour's cache is wrong; and the node's end has a name that follows
//! from the pod's id, so that it can be found and deleted whatever was recorded.

use super::{Call, PluginFailure};
use crate::cidr::Cidr;
use crate::ipam::{HostLocal, Lease, RangeConf};
use crate::netlink::link::{self, Link, Mac, Veth};
use crate::netlink::{Socket, address, route};
use crate::netns::{self, Netns};
use crate::result::{self, Address, Interface};
use crate::sysctl;
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The options that are known here. Any other one hands the network to the plugin's binary.
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
    bridge: Option<String>,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    force_address: bool,
    #[serde(default)]
    ip_masq: bool,
    #[serde(default)]
    hairpin_mode: bool,
    #[serde(default)]
    promisc_mode: bool,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    vlan: u32,
    #[serde(rename = "preserveDefaultVlan")]
    _preserve_default_vlan: Option<bool>,
    #[serde(default)]
    macspoofchk: bool,
    #[serde(default)]
    enabledad: bool,
    #[serde(default)]
    ipam: Value,
    dns: Option<Value>,
}

/// A bridge network, checked.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// The bridge's name.
    pub name: String,
    gateway: bool,
    default_gateway: bool,
    masquerade: bool,
    hairpin: bool,
    promiscuous: bool,
    mtu: Option<u32>,
    mac: Option<Mac>,
    ips: Vec<IpAddr>,
    /// The address management; `None` makes a network without addresses.
    pub ipam: Option<HostLocal>,
    dns: Option<Value>,
}

/// The name of the node's end of a pod's veth pair: 44 bits of a hash of the pod and its
/// interface, which fills the 15 bytes that a name may have.
pub fn veth_name(container: &str, interface: &str) -> String {
    let hash = super::fnv(&[container, interface]);
    format!("veth{:011x}", hash & 0xfff_ffff_ffff)
}

/// What the runtime says beside the options (capabilities `mac`, `ips`, `ipRanges`).
#[derive(Debug, Default)]
pub struct Wishes {
    /// A hardware address for the pod.
    pub mac: Option<String>,
    /// Addresses for the pod.
    pub ips: Vec<IpAddr>,
    /// Range sets that come before the configured ones.
    pub ranges: Vec<Vec<RangeConf>>,
}

impl Bridge {
    /// Reads the options; the error is the reason why the binary has to do it.
    pub fn from_options(network: &str, options: &Map<String, Value>, wishes: Wishes) -> Result<Self, String> {
        let conf = Conf::deserialize(Value::Object(options.clone())).map_err(|error| error.to_string())?;
        let unsupported = [
            (conf.vlan != 0, "vlan"),
            (conf.macspoofchk, "macspoofchk"),
            (conf.enabledad, "enabledad"),
            (conf.force_address, "forceAddress"),
        ];
        if let Some((_, option)) = unsupported.iter().find(|(set, _)| *set) {
            return Err(format!("the option {option} is not built in"));
        }
        if conf.hairpin_mode && conf.promisc_mode {
            return Err("hairpinMode and promiscMode exclude each other".to_owned());
        }
        let name = conf.bridge.unwrap_or_else(|| "cni0".to_owned());
        if !link::valid_name(&name) {
            return Err(format!("{:?} is not a name for a bridge", types::reference::shorten(&name)));
        }
        if conf.mtu != 0 && !(68..=65_535).contains(&conf.mtu) {
            return Err(format!("the MTU {} is not in 68–65535", conf.mtu));
        }
        let kind = conf.ipam.get("type").and_then(Value::as_str).unwrap_or_default();
        let ipam = match kind {
            "" => None,
            "host-local" => {
                Some(HostLocal::from_conf(network, &conf.ipam, &wishes.ranges).map_err(|e| e.to_string())?)
            }
            other => return Err(format!("the address management {other:?} is not built in")),
        };
        let mac = match wishes.mac.as_deref() {
            None | Some("") => None,
            Some(text) => Some(Mac::parse(text).ok_or("the MAC address asked for is not one")?),
        };
        Ok(Self {
            name,
            gateway: conf.is_gateway || conf.is_default_gateway,
            default_gateway: conf.is_default_gateway,
            masquerade: conf.ip_masq,
            hairpin: conf.hairpin_mode,
            promiscuous: conf.promisc_mode,
            mtu: (conf.mtu != 0).then_some(conf.mtu),
            mac,
            ips: wishes.ips,
            ipam,
            dns: conf.dns,
        })
    }

    /// The subnets whose traffic to elsewhere is masqueraded.
    pub fn masqueraded(&self) -> BTreeSet<Cidr> {
        match &self.ipam {
            Some(ipam) if self.masquerade => ipam.subnets().collect(),
            _ => BTreeSet::new(),
        }
    }

    /// ADD. On failure nothing is undone here: the caller runs [`Bridge::delete`].
    pub fn add(&self, call: &Call<'_>, netns: &Netns) -> Result<Value, PluginFailure> {
        let container = call.pod.id.as_str();
        let leases = match &self.ipam {
            Some(ipam) => ipam.reserve(container, call.interface, &self.ips, call.fresh)?,
            None => Vec::new(),
        };
        let mut socket = Socket::route()?;
        let bridge = self.ensure(call, &mut socket)?;
        let mut requests: Vec<_> = Vec::new();
        if self.gateway {
            for lease in &leases {
                let cidr = Cidr { address: lease.gateway, prefix: lease.address.prefix };
                requests.push(address::add(bridge.index, &self.name, &cidr));
            }
        }
        let name = veth_name(container, call.interface);
        let veth = Veth {
            name: &name,
            master: bridge.index,
            mtu: self.mtu,
            peer: call.interface,
            peer_mac: self.mac.or_else(|| mac_of(&leases)),
            netns: std::os::fd::AsFd::as_fd(netns),
        };
        requests.push(link::create_veth(&veth));
        match socket.apply(requests) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                // A veth of that name is this very pod's, from an attempt that was cut off.
                socket.apply(vec![link::delete(&name), link::create_veth(&veth)])?;
            }
            other => other?,
        }
        let node_end = socket.link(&name)?.ok_or_else(|| PluginFailure::Vanished(name.clone()))?;
        if self.hairpin {
            socket.apply(vec![link::set_hairpin(node_end.index, &name)])?;
        }
        if self.gateway {
            forward(&leases)?;
        }
        let routes = self.routes(&leases);
        let pod_end = netns::run_in(netns, || configure(call.interface, &leases, &routes))?;
        if !self.masqueraded().is_empty() {
            call.nat.ensure(call.table, &call.rules)?;
        }
        Ok(self.result(call, netns.path(), &bridge, &node_end, &pod_end, &leases, &routes))
    }

    /// The bridge, made and up.
    fn ensure(&self, call: &Call<'_>, socket: &mut Socket) -> Result<Link, PluginFailure> {
        let mut found = socket.link(&self.name)?;
        let fresh = found.is_none();
        if fresh {
            call.nat.made(&self.name)?;
            let mac = Mac(local_mac(super::fnv(&[&self.name, call.table])));
            let create = link::create_bridge(&self.name, mac, self.mtu);
            // EEXIST: another pod's attachment was faster.
            socket.apply(vec![create.forgiving(&[Errno::EXIST])])?;
            found = socket.link(&self.name)?;
        }
        let bridge = found.ok_or_else(|| PluginFailure::Vanished(self.name.clone()))?;
        if bridge.kind != "bridge" {
            return Err(PluginFailure::NotBridge(self.name.clone()));
        }
        if fresh || !bridge.is_up() {
            // Routes of this interface are ours to set; a pod must not announce any (CVE-2020-10749).
            parameter(&format!("ipv6/conf/{}/accept_ra", self.name), "0")?;
            let mut requests = vec![link::set_up(bridge.index, &self.name)];
            if self.promiscuous {
                requests.push(link::set_promiscuous(bridge.index, &self.name));
            }
            socket.apply(requests)?;
        }
        Ok(bridge)
    }

    /// Configured routes, and the default route where the bridge is to be that.
    fn routes(&self, leases: &[Lease]) -> Vec<route::Route> {
        let gateway_of = |v4: bool| leases.iter().map(|l| l.gateway).find(|g| g.is_ipv4() == v4);
        let configured = self.ipam.iter().flat_map(|ipam| &ipam.routes);
        let mut routes: Vec<route::Route> = configured
            .map(|r| route::Route {
                destination: r.dst,
                gateway: r.gw.or_else(|| gateway_of(r.dst.address.is_ipv4())),
                priority: r.priority,
                mtu: r.mtu,
                advmss: r.advmss,
            })
            .collect();
        if self.default_gateway {
            for (v4, any) in
                [(true, IpAddr::V4(Ipv4Addr::UNSPECIFIED)), (false, IpAddr::V6(Ipv6Addr::UNSPECIFIED))]
            {
                let destination = Cidr { address: any, prefix: 0 };
                let there = routes.iter().any(|r| r.destination == destination && r.gateway.is_some());
                if let Some(gateway) = gateway_of(v4).filter(|_| !there) {
                    let (priority, mtu, advmss) = (None, None, None);
                    routes.push(route::Route { destination, gateway: Some(gateway), priority, mtu, advmss });
                }
            }
        }
        routes
    }

    #[allow(clippy::too_many_arguments)] // one thing each, used once
    fn result(
        &self,
        call: &Call<'_>,
        sandbox: &Path,
        bridge: &Link,
        node_end: &Link,
        pod_end: &Link,
        leases: &[Lease],
        routes: &[route::Route],
    ) -> Value {
        let interface = |link: &Link, sandbox: &str| Interface {
            name: link.name.clone(),
            mac: link.mac.to_string(),
            sandbox: sandbox.to_owned(),
        };
        let interfaces =
            [interface(bridge, ""), interface(node_end, ""), interface(pod_end, &sandbox.to_string_lossy())];
        let ips: Vec<Address> = leases
            .iter()
            .map(|l| Address { address: l.address, gateway: Some(l.gateway), interface: Some(2) })
            .collect();
        let routes: Vec<Value> = routes
            .iter()
            .map(|r| match r.gateway {
                Some(gateway) => json!({ "dst": r.destination, "gw": gateway }),
                None => json!({ "dst": r.destination }),
            })
            .collect();
        result::write(call.version, &interfaces, &ips, &routes, self.dns.as_ref())
    }

    /// DEL: frees the addresses, after the pod can no longer use them. The veth pair itself is left
    /// for [`delete_veth`].
    pub fn delete(&self, call: &Call<'_>, known: &[IpAddr]) -> Result<(), PluginFailure> {
        let name = veth_name(&call.pod.id, call.interface);
        let mut socket = Socket::route()?;
        if let Some(node_end) = socket.link(&name)? {
            // EINVAL, ENODEV: it went away in between, with the namespace of its peer.
            let cut = link::set_down(node_end.index, &name).forgiving(&[Errno::NODEV, Errno::INVAL]);
            socket.apply(vec![cut])?;
        }
        if let Some(ipam) = &self.ipam {
            ipam.release(&call.pod.id, call.interface, known)?;
        }
        Ok(())
    }
}

/// Deletes a pod's veth pair. The kernel waits for all its readers meanwhile (about 10 ms), so this
/// is done when nobody waits. What is gone already, with the pod's namespace, is fine.
pub fn delete_veth(container: &str, interface: &str) -> Result<(), PluginFailure> {
    Ok(Socket::route()?.apply(vec![link::delete(&veth_name(container, interface))])?)
}

/// `0a:58` and the IPv4 address; where there is none the kernel chooses.
fn mac_of(leases: &[Lease]) -> Option<Mac> {
    leases.iter().find_map(|lease| match lease.address.address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Some(Mac([0x0a, 0x58, a, b, c, d]))
        }
        IpAddr::V6(_) => None,
    })
}

/// A locally administered unicast address of a hash's bytes.
fn local_mac(hash: u64) -> [u8; 6] {
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x0a, a, b, c, d, e]
}

fn parameter(name: &str, value: &'static str) -> Result<(), PluginFailure> {
    sysctl::set(name, value).map_err(|source| PluginFailure::Sysctl { name: name.to_owned(), value, source })
}

/// Lets the node forward packets of the leases' families.
fn forward(leases: &[Lease]) -> Result<(), PluginFailure> {
    if leases.iter().any(|l| l.gateway.is_ipv4()) {
        parameter("ipv4/ip_forward", "1")?;
    }
    if leases.iter().any(|l| l.gateway.is_ipv6()) {
        parameter("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Inside the pod's namespace: loopback and the pod's interface up, addresses, routes.
fn configure(interface: &str, leases: &[Lease], routes: &[route::Route]) -> Result<Link, PluginFailure> {
    parameter(&format!("ipv6/conf/{interface}/accept_ra"), "0")?;
    let mut socket = Socket::route()?;
    let pod_end = socket.link(interface)?.ok_or_else(|| PluginFailure::Vanished(interface.to_owned()))?;
    let mut requests = vec![super::loopback::up()];
    requests.extend(leases.iter().map(|l| address::add(pod_end.index, interface, &l.address)));
    requests.push(link::set_up(pod_end.index, interface));
    requests.extend(routes.iter().map(|r| route::add(pod_end.index, interface, r)));
    socket.apply(requests)?;
    Ok(pod_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: Value) -> Result<Bridge, String> {
        let Value::Object(options) = options else { panic!("an object") };
        Bridge::from_options("n", &options, Wishes::default())
    }

    #[test]
    fn options_that_are_not_built_in_are_named() {
        let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
        assert!(read(json!({"type": "bridge", "ipam": ipam})).is_ok());
        for (extra, why) in [
            (json!({"vlan": 7}), "vlan"),
            (json!({"vlanTrunk": []}), "vlanTrunk"),
            (json!({"macspoofchk": true}), "macspoofchk"),
            (json!({"ipam": {"type": "dhcp"}}), "dhcp"),
            (
                json!({"ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "resolvConf": "/x"}}),
                "resolvConf",
            ),
            (json!({"bridge": "../../x"}), "not a name"),
            (json!({"hairpinMode": true, "promiscMode": true}), "exclude"),
            (json!({"mtu": 5}), "MTU"),
        ] {
            let mut options = json!({"type": "bridge", "ipam": ipam});
            for (key, value) in extra.as_object().expect("an object") {
                options[key] = value.clone();
            }
            let error = read(options).expect_err("not built in");
            assert!(error.contains(why), "{extra}: {error}");
        }
    }

    #[test]
    fn names_of_veth_pairs_fit_and_differ() {
        let (a, b) = (veth_name(&"a".repeat(64), "eth0"), veth_name(&"a".repeat(64), "eth1"));
        assert!(a.len() == 15 && link::valid_name(&a) && a != b);
    }
}
