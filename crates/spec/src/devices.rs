//! Device nodes and the rules of the device controller. The nodes of the host are looked up by the engine.

use crate::inputs::{DeviceKind, DeviceRule, HostDevice, Inputs};
use crate::limits;
use container::plan::Device;
use types::reference::shorten;
use types::{Error, Result};

/// Nodes that every container has (OCI runtime specification, "Default Devices"): path, major, minor.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// What the launcher makes itself below `/dev`, and what belongs to mounts there.
const TAKEN: [&str; 10] = [
    "/dev/console",
    "/dev/core",
    "/dev/fd",
    "/dev/mqueue",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
    "/dev/stderr",
    "/dev/stdin",
    "/dev/stdout",
];

/// Nodes to make, and rules in order.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) nodes: Vec<Device>,
    pub(crate) rules: Vec<DeviceRule>,
}

/// The default nodes, which come with every container.
pub(crate) fn defaults() -> Vec<Device> {
    DEFAULT
        .iter()
        .map(|(path, major, minor)| Device {
            path: (*path).to_owned(),
            kind: 'c',
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// `dev_is_mounted`: the caller mounted something at `/dev`, and nothing is made there.
pub(crate) fn decide(inputs: &Inputs<'_>, dev_is_mounted: bool) -> Result<Devices> {
    let config = inputs.container;
    limits::count("devices", config.devices.len() + inputs.devices.len())?;
    let mut out = Devices { nodes: defaults(), rules: default_rules() };
    if config.security.privileged {
        out.rules = vec![rule(true, DeviceKind::All, None, None, "rwm")];
        for device in &inputs.facts.devices {
            let taken =
                TAKEN.iter().any(|at| device.path == *at || device.path.starts_with(&format!("{at}/")));
            if !taken && device.path.starts_with("/dev/") {
                place(&mut out.nodes, node(device, &device.path));
            }
        }
    }
    for device in &config.devices {
        limits::path("device", &device.host_path)?;
        let inside =
            if device.container_path.is_empty() { &device.host_path } else { &device.container_path };
        limits::path("device", inside)?;
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        if !access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
            return Err(Error::invalid(format!(
                "device {:?}: permissions {:?}: any of r, w and m are expected",
                shorten(&device.host_path),
                shorten(access)
            )));
        }
        let (host, inside) = (limits::clean(&device.host_path), limits::clean(inside));
        let mut found = false;
        for behind in &inputs.devices {
            let Some(rest) = behind.path.strip_prefix(&host) else { continue };
            if !rest.is_empty() && !rest.starts_with('/') {
                continue;
            }
            found = true;
            place(&mut out.nodes, node(behind, &format!("{inside}{rest}")));
            let kind = if behind.block { DeviceKind::Block } else { DeviceKind::Char };
            out.rules.push(rule(true, kind, Some(behind.major), Some(behind.minor), access));
        }
        if !found {
            return Err(Error::not_found(format!(
                "device {:?} is not on the node, or is no device",
                shorten(&device.host_path)
            )));
        }
    }
    if dev_is_mounted {
        out.nodes.retain(|node| !node.path.starts_with("/dev/"));
    }
    Ok(out)
}

/// One node per path; the later wins, as a caller's device replaces a default one.
pub(crate) fn place(nodes: &mut Vec<Device>, node: Device) {
    match nodes.iter_mut().find(|known| known.path == node.path) {
        Some(known) => *known = node,
        None => nodes.push(node),
    }
}

fn node(device: &HostDevice, path: &str) -> Device {
    Device {
        path: path.to_owned(),
        kind: if device.block { 'b' } else { 'c' },
        major: device.major,
        minor: device.minor,
        mode: device.mode & 0o777,
        uid: device.uid,
        gid: device.gid,
    }
}

/// runc's rules (`libcontainer/specconv/spec_linux.go`, `AllowedDevices`) after containerd's "deny all": nodes
/// may be made, the default ones and terminals used.
fn default_rules() -> Vec<DeviceRule> {
    let mut rules = vec![
        rule(false, DeviceKind::All, None, None, "rwm"),
        rule(true, DeviceKind::Char, None, None, "m"),
        rule(true, DeviceKind::Block, None, None, "m"),
    ];
    for (_, major, minor) in DEFAULT {
        rules.push(rule(true, DeviceKind::Char, Some(major), Some(minor), "rwm"));
    }
    // Pseudo-terminals and /dev/ptmx (Documentation/admin-guide/devices.txt).
    rules.push(rule(true, DeviceKind::Char, Some(136), None, "rwm"));
    rules.push(rule(true, DeviceKind::Char, Some(5), Some(2), "rwm"));
    rules
}

fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    let has = |c| access.contains(c);
    DeviceRule { allow, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
}
