//! The network of our own, for nodes without a network configuration: a bridge, addresses from the
//! configured subnets, masquerading and ports of the node. It is an ordinary configuration list, so
//! everything else treats it as one; only its plugins always run in-process, and its bridge is
//! removed with its last pod.

use crate::cidr::Cidr;
use crate::conf::NetworkList;
use serde_json::{Value, json};
use std::path::Path;

/// The network's name.
pub const NAME: &str = "default";

/// Where the daemon's network state is by default; its bridge has the plain name.
const USUAL_STATE: &str = "/var/lib/corten/network";

/// The bridge's name: `corten0`, and for a daemon with another state folder one that follows from
/// the folder, so that several daemons of a node do not share a bridge.
pub fn bridge_name(state: &Path) -> String {
    if state == Path::new(USUAL_STATE) {
        "corten0".to_owned()
    } else {
        let hash = crate::plugins::fnv(&[&state.to_string_lossy()]);
        format!("corten-{:04x}", hash & 0xffff)
    }
}

/// Reads `10.88.0.0/16`, or several networks separated by commas (the kubelet writes two for
/// dual-stack nodes).
pub fn subnets(text: &str) -> Result<Vec<Cidr>, String> {
    let subnets: Vec<Cidr> = text
        .split(',')
        .map(|part| Cidr::parse(part.trim()))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    match subnets.iter().find(|s| s.network() != **s) {
        Some(subnet) => Err(format!("{subnet} has host bits; the network is {}", subnet.network())),
        None => Ok(subnets),
    }
}

/// The configuration list of the network.
pub fn list(state: &Path, subnets: &[Cidr]) -> Result<NetworkList, String> {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    let list = json!({
        "cniVersion": "1.0.0",
        "name": NAME,
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge_name(state),
                "isDefaultGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "capabilities": { "ips": true, "mac": true },
                "ipam": { "type": "host-local", "dataDir": state.join("ipam"), "ranges": ranges }
            },
            { "type": "portmap", "capabilities": { "portMappings": true } }
        ]
    });
    let Value::Object(list) = list else { return Err("not an object".to_owned()) };
    NetworkList::from_list(list).map_err(|error| error.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_with_other_state_folders_have_other_bridges() {
        assert_eq!(bridge_name(Path::new("/var/lib/corten/network")), "corten0");
        let (a, b) = (bridge_name(Path::new("/tmp/a/network")), bridge_name(Path::new("/tmp/b/network")));
        assert!(a != b && crate::netlink::link::valid_name(&a), "{a} {b}");
    }

    #[test]
    fn subnets_with_host_bits_or_without_a_length_are_refused() {
        assert_eq!(subnets("10.1.0.0/24, fd00:1::/64").expect("two").len(), 2);
        for bad in ["", "10.1.0.1/24", "10.1.0.0", "10.1.0.0/24,"] {
            assert!(subnets(bad).is_err(), "{bad}");
        }
    }
}
