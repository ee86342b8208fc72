//! Kernel parameters of a pod: only such as belong to one of the pod's own namespaces, so that no pod can
//! change the node (CVE-2022-0532), and no value can smuggle in another parameter (CVE-2022-0811).

use container::plan::{Namespace, Namespaces};
use types::pod::NamespaceMode;
use types::reference::shorten;
use types::{Error, PodConfig, Result};

/// Parameters of the IPC namespace (ipc_namespaces(7), and `ipc/ipc_sysctl.c` for the `next_id` ones).
const IPC: [&str; 12] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg_next_id",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.auto_msgmni",
];

/// The pod's parameters, checked, in the order of their names. The names come out with dots between their parts;
/// a `/` in one stands for a dot within a part, as sysctl(8) has it (`net.ipv4.conf.eth0/100.rp_filter`).
pub fn sysctls(pod: &PodConfig) -> Result<Vec<(String, String)>> {
    let namespaces = &pod.security.namespaces;
    crate::limits::count("sysctls", pod.sysctls.len())?;
    let mut out = Vec::new();
    for (name, value) in &pod.sysctls {
        let dotted = dotted(name);
        check(&dotted, value).and_then(|()| {
            owner(&dotted, namespaces.network == NamespaceMode::Node, namespaces.ipc == NamespaceMode::Node)
        })?;
        out.push((dotted, value.clone()));
    }
    Ok(out)
}

/// One parameter of an OCI specification: the container must have the namespace that it belongs to (runc
/// `libcontainer/configs/validate/validator.go`, `sysctl`). Answers the name with dots.
pub(crate) fn of_namespaces(name: &str, value: &str, namespaces: &Namespaces) -> Result<String> {
    let dotted = dotted(name);
    check(&dotted, value)?;
    // Of the UTS namespace's two names one has a field of its own in the specification.
    if dotted == "kernel.domainname" && namespaces.uts != Namespace::Inherit {
        return Ok(dotted);
    }
    owner(&dotted, namespaces.network == Namespace::Inherit, namespaces.ipc == Namespace::Inherit)?;
    Ok(dotted)
}

/// A name whose first separator is a slash is written the other way round (sysctl(8)).
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => swap(name),
        _ => name.to_owned(),
    }
}

fn swap(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect()
}

/// Form alone: each part is a plain file name, and the value is one line without the `+` that once
/// separated parameters on another runtime's command line.
pub(crate) fn check(name: &str, value: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("sysctl {:?}: {why}", shorten(name))));
    if name.is_empty() || name.len() > 253 {
        return refuse("a name of 1 to 253 bytes is expected");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'@');
    let as_path = swap(name);
    if !as_path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)) {
        return refuse("the name has parts that are no file names below /proc/sys");
    }
    if value.len() > 4096 || value.contains(|c: char| c == '+' || (c.is_control() && c != '\t')) {
        return refuse("the value may have no control characters and no `+`, and 4096 bytes at most");
    }
    Ok(())
}

fn owner(name: &str, host_network: bool, host_ipc: bool) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("sysctl {:?}: {why}", shorten(name))));
    if name.starts_with("net.") {
        if host_network {
            return refuse("its network namespace is the node's own, whose value would change");
        }
        return Ok(());
    }
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        if host_ipc {
            return refuse("its IPC namespace is the node's own, whose value would change");
        }
        return Ok(());
    }
    refuse(
        "it belongs to the node, not to a namespace of the pod; kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* and net.* do",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::pod::{NamespaceOptions, PodSecurity};

    fn of(
        name: &str,
        value: &str,
        network: NamespaceMode,
        ipc: NamespaceMode,
    ) -> Result<Vec<(String, String)>> {
        sysctls(&PodConfig {
            sysctls: [(name.to_owned(), value.to_owned())].into(),
            security: PodSecurity {
                namespaces: NamespaceOptions { network, ipc, ..NamespaceOptions::default() },
                ..PodSecurity::default()
            },
            ..PodConfig::default()
        })
    }

    #[test]
    fn parameters_of_the_pods_namespaces_pass() {
        for name in
            ["kernel.shm_rmid_forced", "kernel.sem", "fs.mqueue.msg_max", "net.ipv4.ip_local_port_range"]
        {
            assert!(of(name, "1", NamespaceMode::Pod, NamespaceMode::Pod).is_ok(), "{name}");
        }
        let slashes = of("net/ipv4/conf/eth0.100/rp_filter", "0", NamespaceMode::Pod, NamespaceMode::Pod);
        assert_eq!(slashes.expect("slashes")[0].0, "net.ipv4.conf.eth0/100.rp_filter");
    }

    #[test]
    fn parameters_of_the_node_are_refused() {
        for name in [
            "kernel.core_pattern",
            "vm.overcommit_memory",
            "kernel.shmx",
            "fs.mqueuex",
            "fs.file-max",
            "netx.y",
            "kernel.hostname",
        ] {
            assert!(of(name, "1", NamespaceMode::Pod, NamespaceMode::Pod).is_err(), "{name}");
        }
        assert!(of("net.core.somaxconn", "1", NamespaceMode::Node, NamespaceMode::Pod).is_err());
        assert!(of("kernel.sem", "1", NamespaceMode::Pod, NamespaceMode::Node).is_err());
    }

    #[test]
    fn neither_names_nor_values_can_smuggle() {
        for name in [
            "net.//.kernel.core_pattern",
            "net./.x",
            "net..x",
            "net.x\n",
            "net./////x",
            "net/../kernel/core_pattern",
            "net.x+y",
        ] {
            assert!(of(name, "1", NamespaceMode::Pod, NamespaceMode::Pod).is_err(), "{name}");
        }
        for value in ["1+kernel.core_pattern=|/bin/sh", "1\nx", "1\0"] {
            assert!(
                of("kernel.shm_rmid_forced", value, NamespaceMode::Pod, NamespaceMode::Pod).is_err(),
                "{value}"
            );
        }
    }
}
