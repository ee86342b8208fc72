//! config-linux.md, "Network Devices": interfaces of the host that move into the container.

use oci_suite::{Case, Kind, lacks};
use serde_json::json;
use std::process::Command;

/// A pair of virtual links on the host; what is left of it is removed at the end.
struct Pair(String);

impl Pair {
    /// `None`, with a reason, where the kernel has none.
    fn make(name: &str) -> Option<Self> {
        let name = format!("{name}{}", std::process::id() % 100_000);
        let peer = format!("{name}p");
        let done = ip(&["link", "add", &name, "type", "veth", "peer", "name", &peer]);
        if !done {
            eprintln!("skipped: this machine has no veth links or no ip program");
        }
        done.then_some(Self(name))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &format!("{}p", self.0)]);
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip")
        .args(args)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn unknown() -> bool {
    lacks(&[Kind::Runc, Kind::Crun], "netDevices")
}

#[test]
fn a_device_moves_into_the_container_with_its_addresses() {
    let Some(case) = Case::new("netdev") else { return };
    if unknown() {
        return;
    }
    let Some(pair) = Pair::make("cts") else { return };
    assert!(ip(&["addr", "add", "10.231.7.9/24", "dev", &pair.0]) && ip(&["link", "set", &pair.0, "up"]));
    case.edit(|config| config["linux"]["netDevices"] = json!({ &pair.0: {} }));
    let said = case.shell(&format!("ip addr show dev {}", pair.0)).good();
    // "The runtime MUST … preserve … IP addresses" of global scope, and set the link up.
    assert!(said.out.contains("10.231.7.9/24") && said.out.contains("UP"), "{}", said.out);
}

#[test]
fn a_device_may_get_another_name() {
    let Some(case) = Case::new("netdev-name") else { return };
    if unknown() {
        return;
    }
    let Some(pair) = Pair::make("ctn") else { return };
    case.edit(|config| config["linux"]["netDevices"] = json!({ &pair.0: { "name": "inner0" } }));
    let said = case.shell("ls /sys/class/net").good();
    let mut names: Vec<_> = said.out.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, ["inner0", "lo"]);
}

#[test]
fn a_device_that_is_not_there_or_without_a_network_namespace_is_an_error() {
    let Some(case) = Case::new("netdev-wrong") else { return };
    if unknown() {
        return;
    }
    case.edit(|config| config["linux"]["netDevices"] = json!({ "no-such-device": {} }));
    let said = case.run().bad();
    assert!(said.contains("no-such-device"), "{said}");
    case.assert_nothing_left();
    for wrong in ["a/b", "this-name-is-too-long", "."] {
        let Some(pair) = Pair::make("ctw") else { return };
        case.edit(|config| config["linux"]["netDevices"] = json!({ &pair.0: { "name": wrong } }));
        let _ = case.run().bad();
        assert!(std::path::Path::new("/sys/class/net").join(&pair.0).exists(), "the host keeps its device");
    }
    let Some(pair) = Pair::make("cth") else { return };
    case.without_namespace("network");
    case.edit(|config| {
        config["linux"]["netDevices"] = json!({ &pair.0: {} });
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    });
    let _ = case.run().bad();
    case.assert_nothing_left();
}
