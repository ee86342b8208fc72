//! Kernel parameters of a pod: only those that the pod's own namespaces hold. A parameter of the whole node
//! is never let through, nor a name that leads to one (CVE-2022-0811, CVE-2022-0532).

use crate::check::{self, refuse};
use std::collections::{BTreeMap, HashMap};
use types::Result;
use types::pod::{NamespaceMode, NamespaceOptions};
use types::reference::shorten;

/// Bytes of one name.
const NAME_MAX: usize = 256;
/// Bytes of one value; one page is what /proc/sys takes.
const VALUE_MAX: usize = 4096;
/// How many.
const SYSCTLS_MAX: usize = 1000;

/// Parameters of an IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The parameters of a pod whose namespaces are `namespaces`.
pub fn pod(
    field: &str,
    sysctls: HashMap<String, String>,
    namespaces: &NamespaceOptions,
) -> Result<BTreeMap<String, String>> {
    check::count(field, sysctls.len(), SYSCTLS_MAX)?;
    for (name, value) in &sysctls {
        let field = format!("{field}[{:?}]", shorten(name));
        well_formed(&field, name)?;
        // Tabs stand between numbers, as /proc/sys prints them.
        check::line(&field, &value.replace('\t', " "), VALUE_MAX)?;
        of_the_pod(&field, name, namespaces)?;
    }
    Ok(sysctls.into_iter().collect())
}

/// Parts of letters, digits, `_` and `-` between dots. A slash stands for a dot within a part, as in
/// `net.ipv4.conf.eth0/100.forwarding` (sysctl(8)), and so may only stand between two such characters:
/// a part such as `/` or `//` would turn into `.` or `..` and walk through /proc/sys.
fn well_formed(field: &str, name: &str) -> Result<()> {
    check::word(field, name, NAME_MAX)?;
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if name.contains('.') && name.split('.').all(|part| part.split('/').all(plain)) {
        return Ok(());
    }
    refuse(field, "it is not the name of a kernel parameter, such as net.ipv4.ip_forward")
}

fn of_the_pod(field: &str, name: &str, namespaces: &NamespaceOptions) -> Result<()> {
    let (namespace, mode) = if name.starts_with("net.") {
        ("network", namespaces.network)
    } else if name.starts_with("fs.mqueue.") || IPC.contains(&name) {
        ("IPC", namespaces.ipc)
    } else {
        return refuse(
            field,
            "it belongs to the whole node, not to a namespace of the pod; set it on the node",
        );
    };
    if mode == NamespaceMode::Node {
        return refuse(
            field,
            format_args!("the pod shares the node's {namespace} namespace, so this would change the node"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::testing::refused;

    fn one(name: &str, value: &str, namespaces: &NamespaceOptions) -> Result<BTreeMap<String, String>> {
        pod("sysctls", HashMap::from([(name.into(), value.into())]), namespaces)
    }

    #[test]
    fn parameters_of_the_pods_namespaces_pass() {
        let own = NamespaceOptions::default();
        for name in [
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.conf.eth0/100.forwarding",
            "kernel.sem",
            "fs.mqueue.msg_max",
        ] {
            assert_eq!(one(name, "1\t2", &own).expect(name)[name], "1\t2");
        }
    }

    #[test]
    fn parameters_of_the_node_are_refused() {
        let own = NamespaceOptions::default();
        for name in ["kernel.core_pattern", "vm.swappiness", "kernel.shmmax2", "user.max_user_namespaces"] {
            refused(one(name, "1", &own), &format!("sysctls[{name:?}]"), "whole node");
        }
        let shared = NamespaceOptions {
            network: NamespaceMode::Node,
            ipc: NamespaceMode::Node,
            ..NamespaceOptions::default()
        };
        refused(one("net.core.somaxconn", "1", &shared), "sysctls[\"net.core.somaxconn\"]", "network");
        refused(one("kernel.sem", "1", &shared), "sysctls[\"kernel.sem\"]", "IPC");
    }

    #[test]
    fn names_that_walk_are_refused() {
        for name in [
            "",
            "net",
            "net.",
            "net..x",
            "net.//.kernel.core_pattern",
            "net./.x",
            "net.a//b",
            "net/../kernel.x",
            "/proc/sys/kernel.x",
            "net.ipv4+kernel.core_pattern=x",
            "net.é",
        ] {
            refused(
                one(name, "1", &NamespaceOptions::default()),
                &format!("sysctls[{name:?}]"),
                "not the name",
            );
        }
        refused(one("net.a b", "1", &NamespaceOptions::default()), "sysctls[\"net.a b\"]", "white space");
    }

    #[test]
    fn values_of_two_lines_and_too_many_are_refused() {
        refused(
            one("net.a", "1\n2", &NamespaceOptions::default()),
            "sysctls[\"net.a\"]",
            "control character",
        );
        let many = (0..=SYSCTLS_MAX).map(|n| (format!("net.x{n}"), "1".into())).collect();
        refused(pod("sysctls", many, &NamespaceOptions::default()), "sysctls", "too many");
    }
}
