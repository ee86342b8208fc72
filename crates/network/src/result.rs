//! CNI results (specification 1.1, section 5): what plugins answer. A result is somebody else's
//! text; it is bounded, and every address in it is checked before anything uses it.

use crate::cidr::Cidr;
use crate::conf::CniVersion;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// A pod with more addresses, interfaces or routes than this is a mistake.
const MOST: usize = 256;

/// Why an answer is not a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadResult(String);

/// An interface that was made or used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its hardware address.
    #[serde(default)]
    pub mac: String,
    /// The namespace file that it is in; empty on the node.
    #[serde(default)]
    pub sandbox: String,
}

/// An address that was given out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// The address with its prefix length.
    pub address: Cidr,
    /// Its gateway.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The index of its interface; some plugins say -1 for none.
    #[serde(default)]
    pub interface: Option<i64>,
}

/// A route of the pod. Only checked here: the plugin has set it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: Cidr,
    /// Through whom.
    #[serde(default)]
    pub gw: Option<IpAddr>,
}

/// A result, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct CniResult {
    /// Interfaces.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub ips: Vec<Address>,
    /// Routes.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub routes: Vec<Route>,
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(d)?.unwrap_or_default())
}

impl CniResult {
    /// Checks a result of version 0.3.0 or newer.
    pub fn parse(value: &Value) -> Result<Self, BadResult> {
        if !value.is_object() {
            return Err(BadResult("it is not a JSON object".to_owned()));
        }
        let result = Self::deserialize(value).map_err(|error| BadResult(error.to_string()))?;
        if result.interfaces.len() > MOST || result.ips.len() > MOST || result.routes.len() > MOST {
            return Err(BadResult(format!("it has more than {MOST} interfaces, addresses or routes")));
        }
        for entry in &result.ips {
            let address = entry.address.address;
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
                return Err(BadResult(format!("{address} cannot be a pod's address")));
            }
        }
        Ok(result)
    }

    /// The pod's addresses on `interface`, in the result's order. Addresses on the node's
    /// interfaces are left out; those without an interface are the pod's.
    pub fn pod_addresses(&self, interface: &str) -> Vec<&Address> {
        self.ips
            .iter()
            .filter(|ip| {
                let of =
                    ip.interface.and_then(|i| usize::try_from(i).ok()).and_then(|i| self.interfaces.get(i));
                of.is_none_or(|i| !i.sandbox.is_empty() && i.name == interface)
            })
            .collect()
    }
}

/// Writes a result as `version` has it, for built-in plugins.
pub fn write(
    version: CniVersion,
    interfaces: &[Interface],
    ips: &[Address],
    routes: &[Value],
    dns: Option<&Value>,
) -> Value {
    let interfaces: Vec<Value> = interfaces
        .iter()
        .map(|i| {
            let mut object = Map::new();
            object.insert("name".to_owned(), json!(i.name));
            object.insert("mac".to_owned(), json!(i.mac));
            if !i.sandbox.is_empty() {
                object.insert("sandbox".to_owned(), json!(i.sandbox));
            }
            Value::Object(object)
        })
        .collect();
    let ips: Vec<Value> = ips
        .iter()
        .map(|ip| {
            let mut object = Map::new();
            if version.names_ip_versions() {
                object.insert(
                    "version".to_owned(),
                    json!(if ip.address.address.is_ipv4() { "4" } else { "6" }),
                );
            }
            if let Some(interface) = ip.interface {
                object.insert("interface".to_owned(), json!(interface));
            }
            object.insert("address".to_owned(), json!(ip.address.to_string()));
            if let Some(gateway) = ip.gateway {
                object.insert("gateway".to_owned(), json!(gateway));
            }
            Value::Object(object)
        })
        .collect();
    json!({
        "cniVersion": version.as_str(),
        "interfaces": interfaces,
        "ips": ips,
        "routes": routes,
        "dns": dns.cloned().unwrap_or_else(|| json!({})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_pods_own_addresses_count() {
        let result = CniResult::parse(&json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/x"}, {"name": "net1", "sandbox": "/run/x"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.7/24", "gateway": "10.0.0.1", "interface": 2},
                {"address": "fd00::7/64", "interface": 2},
                {"address": "10.9.0.7/24", "interface": 3},
                {"address": "10.8.0.7/24"}
            ],
            "routes": null
        }))
        .expect("valid");
        let ips: Vec<String> =
            result.pod_addresses("eth0").iter().map(|a| a.address.address.to_string()).collect();
        assert_eq!(ips, ["10.0.0.7", "fd00::7", "10.8.0.7"]);
    }

    #[test]
    fn hostile_results_are_refused() {
        for bad in [
            json!("x"),
            json!([]),
            json!({"ips": [{"address": "10.0.0.1"}]}),
            json!({"ips": [{"address": "10.0.0.1/64"}]}),
            json!({"ips": [{"address": "127.0.0.1/8"}]}),
            json!({"ips": [{"address": "0.0.0.0/0"}]}),
            json!({"ips": [{"address": "224.0.0.1/8"}]}),
            json!({"ips": [{"address": 7}]}),
            json!({"ips": [{"address": "10.0.0.1/24", "gateway": "; reboot"}]}),
            json!({"ips": {}}),
            json!({"interfaces": [1]}),
            json!({"routes": [{"dst": "x"}]}),
            json!({"ips": vec![json!({"address": "10.0.0.1/24"}); 300]}),
        ] {
            assert!(CniResult::parse(&bad).is_err(), "{bad}");
        }
        for odd in
            [json!({}), json!({"ips": null}), json!({"ips": [{"address": "10.0.0.2/24", "interface": -1}]})]
        {
            assert!(CniResult::parse(&odd).is_ok(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_json_panics(text in "[\\[\\]{}\":,a-z0-9./]{0,80}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = CniResult::parse(&value).map(|r| r.pod_addresses("eth0").len());
            }
        }
    }
}
