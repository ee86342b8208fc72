//! `linux.netDevices`: network devices of the node that go into the container's network namespace with their names
//! and addresses (OCI config-linux.md 1.3, "Network Devices"). Never brings one back: that is the kernel's.

mod netlink;

use container::plan::Namespace;
use netlink::Netlink;
use oci_spec::runtime::Spec;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::process::namespace;
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// The devices of a specification: name on the node, name in the container; in the order of their names. Refused
/// where they would not leave the node's network, and where the kernel would not take a name.
pub fn wanted(spec: &Spec, network: &Namespace) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    for (name, device) in devices.into_iter().flatten() {
        let inside = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
        for name in [name.as_str(), inside] {
            // net/core/dev.c, `dev_valid_name`: IFNAMSIZ is 16 with its NUL byte.
            let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
            if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
                return Err(Error::invalid(format!(
                    "linux.netDevices {:?}: a device has a name of at most 15 bytes without slashes, colons and blanks",
                    shorten(name)
                )));
            }
        }
        all.push((name.clone(), inside.to_owned()));
    }
    if !all.is_empty() && *network == Namespace::Inherit {
        return Err(Error::invalid(
            "linux.netDevices need a `network` namespace: the container's network is the caller's own",
        ));
    }
    all.sort();
    Ok(all)
}

/// Moves the devices into the network namespace of the container, whose first process is held.
pub fn hand_over(spec: &Spec, network: &Namespace, pid: i32) -> Result<()> {
    let devices = wanted(spec, network)?;
    if devices.is_empty() {
        return Ok(());
    }
    let path = match network {
        Namespace::Path(path) => path.clone(),
        Namespace::New | Namespace::Inherit => format!("/proc/{pid}/ns/net"),
    };
    let open = |path: &str| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(&format!("open the network namespace {path:?}"), errno))
    };
    let (own, theirs) = (open("/proc/self/ns/net")?, open(&path)?);
    let same = |a: &OwnedFd, b: &OwnedFd| -> std::result::Result<bool, Errno> {
        let (a, b) = (rustix::fs::fstat(a)?, rustix::fs::fstat(b)?);
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    };
    if same(&own, &theirs).map_err(|errno| failed("examine the network namespace", errno))? {
        return Err(Error::invalid(format!(
            "linux.netDevices: {path:?} is the caller's own network namespace, where the devices are already"
        )));
    }
    let here = Netlink::open().map_err(|errno| failed("ask for network devices", errno))?;
    let there = open_in(&own, &theirs)?;
    for (name, inside) in &devices {
        one(&here, &there, &theirs, name, inside)?;
    }
    Ok(())
}

/// A socket belongs to the namespace that it was made in, whoever uses it (network_namespaces(7)).
fn open_in(own: &OwnedFd, theirs: &OwnedFd) -> Result<Netlink> {
    let join = |fd: &OwnedFd| sys::process::setns(fd.as_fd(), namespace::NETWORK);
    join(theirs).map_err(|error| {
        Error::with_source(ErrorKind::Internal, "cannot enter the container's network namespace", error)
    })?;
    let socket = Netlink::open();
    if join(own).is_err() {
        // Hooks and everything after them would be in the container's network.
        eprintln!("cannot return to this program's own network namespace; giving up");
        sys::process::exit_now(70);
    }
    socket.map_err(|errno| failed("ask for the container's network devices", errno))
}

fn one(here: &Netlink, there: &Netlink, namespace: &OwnedFd, name: &str, inside: &str) -> Result<()> {
    let fail = |what: &str, errno| failed(what, errno).context(format!("linux.netDevices {name:?}"));
    let index = here.index(name).map_err(|e| fail("look for the device", e))?.ok_or_else(|| {
        Error::invalid(format!("linux.netDevices {name:?}: this node has no such network device"))
    })?;
    let before = there.links().map_err(|e| fail("list the container's devices", e))?;
    // With %d the kernel finds a name that is free.
    if !inside.contains("%d") && before.iter().any(|(_, known)| known == inside.as_bytes()) {
        return Err(Error::invalid(format!(
            "linux.netDevices {name:?}: the container's network has a device {inside:?} already; take another name, or one with %d"
        )));
    }
    let addresses = here.addresses(index).map_err(|e| fail("list its addresses", e))?;
    here.push(index, namespace.as_fd(), inside).map_err(|e| fail("move it into the container", e))?;
    let after = there.links().map_err(|e| fail("list the container's devices", e))?;
    let new = after.iter().find(|(index, _)| before.iter().all(|(known, _)| known != index));
    let (index, _) =
        new.ok_or_else(|| Error::internal(format!("linux.netDevices {name:?}: it did not arrive")))?;
    for address in &addresses {
        there.add(*index, address).map_err(|e| fail("set its addresses again", e))?;
    }
    there.up(*index).map_err(|e| fail("set it up", e))
}

fn failed(what: &str, errno: Errno) -> Error {
    Error::with_source(ErrorKind::Internal, format!("cannot {what}"), std::io::Error::from(errno))
}
