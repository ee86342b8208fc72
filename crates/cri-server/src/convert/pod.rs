//! The configuration of a pod sandbox, from the wire.

use super::security::{self, Owner, Profile};
use super::{resources, sysctl};
use crate::check::{self, refuse};
use cri_api::v1;
use std::net::IpAddr;
use types::pod::{Dns, PodMetadata, PodSecurity, PortMapping, Protocol};
use types::{PodConfig, Result};

/// Bytes of a name, a namespace or a uid; Kubernetes names have 253 at most.
const NAME_MAX: usize = 253;
/// HOST_NAME_MAX of Linux (sethostname(2)).
const HOSTNAME_MAX: usize = 64;
/// Entries of each part of resolv.conf; Kubernetes allows 3 servers and 32 searches.
const DNS_MAX: usize = 256;

/// What a pod sandbox is asked to be.
pub fn config(field: &str, wire: Option<v1::PodSandboxConfig>) -> Result<PodConfig> {
    let wire = check::present(field, wire)?;
    let at = |name: &str| format!("{field}.{name}");
    check::line(&at("hostname"), &wire.hostname, HOSTNAME_MAX)?;
    if !wire.log_directory.is_empty() {
        check::absolute_straight(&at("log_directory"), &wire.log_directory)?;
    }
    let linux = wire.linux.unwrap_or_default();
    check::line(&at("linux.cgroup_parent"), &linux.cgroup_parent, check::PATH_MAX)?;
    if linux.cgroup_parent.split('/').any(|part| part == "..") {
        return refuse(&at("linux.cgroup_parent"), "it goes up with \"..\"; it must not");
    }
    let security = security(&at("linux.security_context"), linux.security_context)?;
    let limits = |name: &str, wire: Option<v1::LinuxContainerResources>| {
        wire.map(|wire| resources::from_wire(&at(name), wire)).transpose()
    };
    Ok(PodConfig {
        metadata: metadata(&at("metadata"), wire.metadata)?,
        hostname: wire.hostname,
        log_directory: wire.log_directory,
        dns: wire.dns_config.map(|wire| dns(&at("dns_config"), wire)).transpose()?,
        port_mappings: ports(&at("port_mappings"), wire.port_mappings)?,
        labels: check::map(&at("labels"), wire.labels)?,
        annotations: check::map(&at("annotations"), wire.annotations)?,
        cgroup_parent: linux.cgroup_parent,
        sysctls: sysctl::pod(&at("linux.sysctls"), linux.sysctls, &security.namespaces)?,
        overhead: limits("linux.overhead", linux.overhead)?,
        resources: limits("linux.resources", linux.resources)?,
        security,
    })
}

fn metadata(field: &str, wire: Option<v1::PodSandboxMetadata>) -> Result<PodMetadata> {
    let wire = check::present(field, wire)?;
    check::filled(&format!("{field}.name"), &wire.name)?;
    for (name, value) in [("name", &wire.name), ("uid", &wire.uid), ("namespace", &wire.namespace)] {
        check::word(&format!("{field}.{name}"), value, NAME_MAX)?;
    }
    Ok(PodMetadata { name: wire.name, uid: wire.uid, namespace: wire.namespace, attempt: wire.attempt })
}

/// Each entry becomes a word of a line in resolv.conf, so none may carry a second line.
fn dns(field: &str, wire: v1::DnsConfig) -> Result<Dns> {
    for (name, entries) in
        [("servers", &wire.servers), ("searches", &wire.searches), ("options", &wire.options)]
    {
        let field = format!("{field}.{name}");
        check::count(&field, entries.len(), DNS_MAX)?;
        for entry in entries {
            check::filled(&field, entry)?;
            check::word(&field, entry, 256)?;
        }
    }
    Ok(Dns { servers: wire.servers, searches: wire.searches, options: wire.options })
}

fn ports(field: &str, wire: Vec<v1::PortMapping>) -> Result<Vec<PortMapping>> {
    check::count(field, wire.len(), check::ENTRIES_MAX)?;
    let mut ports = Vec::with_capacity(wire.len());
    for (n, mapping) in wire.into_iter().enumerate() {
        let at = |name: &str| format!("{field}[{n}].{name}");
        let protocol = match check::one_of(&at("protocol"), mapping.protocol)? {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        };
        let container_port = port(&at("container_port"), mapping.container_port)?;
        let host_port = port(&at("host_port"), mapping.host_port)?;
        if !mapping.host_ip.is_empty() && mapping.host_ip.parse::<IpAddr>().is_err() {
            check::line(&at("host_ip"), &mapping.host_ip, 64)?;
            return refuse(&at("host_ip"), format_args!("{:?} is not an address", mapping.host_ip));
        }
        match (container_port, host_port) {
            // Both "not specified", as the CRI has it: nothing is mapped.
            (0, 0) => {}
            (0, _) => {
                return refuse(&at("container_port"), "it is 0 while host_port is not; name the port inside");
            }
            _ => ports.push(PortMapping { protocol, container_port, host_port, host_ip: mapping.host_ip }),
        }
    }
    Ok(ports)
}

fn port(field: &str, number: i32) -> Result<u16> {
    match u16::try_from(number) {
        Ok(port) => Ok(port),
        Err(_) => refuse(field, format_args!("{number} is not a port; 0 to 65535 are")),
    }
}

fn security(field: &str, wire: Option<v1::LinuxSandboxSecurityContext>) -> Result<PodSecurity> {
    let wire = wire.unwrap_or_default();
    let at = |name: &str| format!("{field}.{name}");
    #[allow(deprecated)] // Old callers still send it.
    let old_seccomp = wire.seccomp_profile_path;
    Ok(PodSecurity {
        namespaces: security::namespaces(&at("namespace_options"), wire.namespace_options, Owner::Pod)?,
        privileged: wire.privileged,
        seccomp: security::profile(&at("seccomp"), wire.seccomp, &old_seccomp, Profile::Seccomp)?,
        apparmor: security::profile(&at("apparmor"), wire.apparmor, "", Profile::AppArmor)?,
        selinux: security::selinux(&at("selinux_options"), wire.selinux_options)?,
        run_as_user: security::number(&at("run_as_user"), wire.run_as_user)?,
        // A group without a user is let through here: the kubelet sends one for a pod with runAsGroup alone,
        // and the sandbox has no process that it could concern.
        run_as_group: security::number(&at("run_as_group"), wire.run_as_group)?,
        supplemental_groups: security::groups(&at("supplemental_groups"), wire.supplemental_groups)?,
        supplemental_groups_strict: security::strict_groups(
            &at("supplemental_groups_policy"),
            wire.supplemental_groups_policy,
        )?,
        readonly_rootfs: wire.readonly_rootfs,
    })
}

#[cfg(test)]
mod tests;
