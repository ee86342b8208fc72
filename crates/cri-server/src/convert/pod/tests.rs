//! Tests of pod configurations from the wire.

use super::*;
use crate::convert::testing::refused;
use std::collections::HashMap;
use types::pod::{NamespaceMode, SecurityProfile};

fn wire() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "1234".into(),
            namespace: "default".into(),
            attempt: 1,
        }),
        hostname: "web".into(),
        log_directory: "/var/log/pods/default_web_1234".into(),
        dns_config: Some(v1::DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec!["svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        }),
        port_mappings: vec![v1::PortMapping {
            protocol: v1::Protocol::Udp.into(),
            container_port: 53,
            host_port: 5353,
            host_ip: "127.0.0.1".into(),
        }],
        labels: HashMap::from([("app".into(), "web".into())]),
        annotations: HashMap::from([("note".into(), "two\nlines".into())]),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/besteffort/pod1234".into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    pid: v1::NamespaceMode::Container.into(),
                    ..Default::default()
                }),
                seccomp: Some(v1::SecurityProfile::default()),
                run_as_group: Some(v1::Int64Value { value: 7 }),
                supplemental_groups: vec![8],
                supplemental_groups_policy: 1,
                privileged: true,
                readonly_rootfs: true,
                ..Default::default()
            }),
            sysctls: HashMap::from([("net.ipv4.ip_forward".into(), "1".into())]),
            overhead: Some(v1::LinuxContainerResources { cpu_shares: 2, ..Default::default() }),
            resources: Some(v1::LinuxContainerResources { cpu_shares: 3, ..Default::default() }),
        }),
        windows: None,
    }
}

/// A sound request with one change must be refused about `name`.
fn bad(change: impl FnOnce(&mut v1::PodSandboxConfig), name: &str, part: &str) {
    let mut wire = wire();
    change(&mut wire);
    refused(config("config", Some(wire)), &format!("config.{name}"), part);
}

fn security_of(wire: &mut v1::PodSandboxConfig) -> &mut v1::LinuxSandboxSecurityContext {
    let linux = wire.linux.as_mut().expect("set above");
    linux.security_context.as_mut().expect("set above")
}

#[test]
fn every_part_of_a_pod_arrives() {
    let pod = config("config", Some(wire())).expect("sound");
    assert_eq!((pod.metadata.name.as_str(), pod.metadata.attempt), ("web", 1));
    assert_eq!((pod.metadata.uid.as_str(), pod.metadata.namespace.as_str()), ("1234", "default"));
    assert_eq!(pod.dns.expect("resolv.conf").options, ["ndots:5"]);
    let port = &pod.port_mappings[0];
    assert_eq!((port.protocol, port.container_port, port.host_port), (Protocol::Udp, 53, 5353));
    assert_eq!((pod.labels["app"].as_str(), pod.annotations["note"].as_str()), ("web", "two\nlines"));
    assert_eq!(pod.cgroup_parent, "/kubepods/besteffort/pod1234");
    assert_eq!(pod.sysctls["net.ipv4.ip_forward"], "1");
    assert_eq!(pod.overhead.expect("overhead").cpu_shares, 2);
    assert_eq!(pod.resources.expect("resources").cpu_shares, 3);
    let security = pod.security;
    assert_eq!(security.namespaces.pid, NamespaceMode::Container);
    assert_eq!(
        (security.seccomp, security.apparmor),
        (SecurityProfile::RuntimeDefault, SecurityProfile::Unset)
    );
    assert_eq!((security.run_as_user, security.run_as_group), (None, Some(7)));
    assert!(security.privileged && security.readonly_rootfs && security.supplemental_groups_strict);
    assert_eq!(security.supplemental_groups, [8]);
}

#[test]
fn a_pod_with_nothing_but_a_name_is_enough() {
    let metadata = v1::PodSandboxMetadata { name: "a".into(), ..Default::default() };
    let least = v1::PodSandboxConfig { metadata: Some(metadata), ..Default::default() };
    let pod = config("config", Some(least)).expect("sound");
    assert_eq!(pod, PodConfig { metadata: pod.metadata.clone(), ..PodConfig::default() });
}

#[test]
fn a_pod_without_config_metadata_or_name_is_refused() {
    refused(config("config", None), "config", "missing");
    bad(|w| w.metadata = None, "metadata", "missing");
    bad(|w| w.metadata.as_mut().expect("set").name.clear(), "metadata.name", "empty");
    bad(|w| w.metadata.as_mut().expect("set").uid = "a\nb".into(), "metadata.uid", "control character");
    bad(|w| w.metadata.as_mut().expect("set").namespace = "a".repeat(254), "metadata.namespace", "253");
}

#[test]
fn host_names_and_paths_that_lead_astray_are_refused() {
    bad(|w| w.hostname = "a".repeat(65), "hostname", "64 are allowed");
    bad(|w| w.hostname = "a\n127.0.0.1 b".into(), "hostname", "control character");
    bad(|w| w.log_directory = "logs".into(), "log_directory", "relative");
    bad(|w| w.log_directory = "/var/log/../../etc".into(), "log_directory", "goes up");
    let parent = |text: &'static str| {
        move |w: &mut v1::PodSandboxConfig| w.linux.as_mut().expect("set").cgroup_parent = text.into()
    };
    bad(parent("/kubepods/../../x"), "linux.cgroup_parent", "goes up");
    bad(parent("/a\nb"), "linux.cgroup_parent", "control character");
}

#[test]
fn ports_out_of_range_are_refused_and_port_0_maps_nothing() {
    bad(|w| w.port_mappings[0].container_port = 65_536, "port_mappings[0].container_port", "not a port");
    bad(|w| w.port_mappings[0].host_port = -1, "port_mappings[0].host_port", "not a port");
    bad(|w| w.port_mappings[0].container_port = 0, "port_mappings[0].container_port", "name the port inside");
    bad(|w| w.port_mappings[0].protocol = 9, "port_mappings[0].protocol", "CRI v1");
    bad(|w| w.port_mappings[0].host_ip = "localhost".into(), "port_mappings[0].host_ip", "not an address");
    bad(|w| w.port_mappings = vec![w.port_mappings[0].clone(); 10_001], "port_mappings", "too many");
    let mut none = wire();
    none.port_mappings[0].container_port = 0;
    none.port_mappings[0].host_port = 0;
    assert!(config("config", Some(none)).expect("sound").port_mappings.is_empty());
}

#[test]
fn entries_that_would_forge_a_line_of_resolv_conf_are_refused() {
    let dns = |w: &mut v1::PodSandboxConfig| w.dns_config.clone().expect("set");
    bad(
        |w| w.dns_config = Some(v1::DnsConfig { servers: vec!["1.1.1.1\nsearch x".into()], ..dns(w) }),
        "dns_config.servers",
        "control character",
    );
    bad(
        |w| w.dns_config = Some(v1::DnsConfig { searches: vec!["a b".into()], ..dns(w) }),
        "dns_config.searches",
        "white space",
    );
    bad(
        |w| w.dns_config = Some(v1::DnsConfig { options: vec![String::new()], ..dns(w) }),
        "dns_config.options",
        "empty",
    );
    bad(
        |w| w.dns_config = Some(v1::DnsConfig { options: vec!["x".into(); DNS_MAX + 1], ..dns(w) }),
        "dns_config.options",
        "too many",
    );
}

#[test]
fn security_of_a_pod_is_checked() {
    let path = |name: &str| format!("linux.security_context.{name}");
    bad(
        |w| security_of(w).run_as_user = Some(v1::Int64Value { value: -1 }),
        &path("run_as_user"),
        "not a user or group id",
    );
    bad(
        |w| security_of(w).run_as_group = Some(v1::Int64Value { value: 1 << 40 }),
        &path("run_as_group"),
        "not a user or group id",
    );
    bad(
        |w| security_of(w).supplemental_groups = vec![-5],
        &path("supplemental_groups"),
        "not a user or group id",
    );
    bad(|w| security_of(w).supplemental_groups_policy = 7, &path("supplemental_groups_policy"), "CRI v1");
    bad(
        |w| w.linux.as_mut().expect("set").sysctls = HashMap::from([("vm.swappiness".into(), "1".into())]),
        "linux.sysctls[\"vm.swappiness\"]",
        "whole node",
    );
    bad(
        |w| w.linux.as_mut().expect("set").resources.as_mut().expect("set").cpu_shares = -1,
        "linux.resources.cpu_shares",
        "too small",
    );
}

#[test]
#[allow(deprecated)]
fn the_old_seccomp_text_of_a_pod_still_counts() {
    let mut old = wire();
    security_of(&mut old).seccomp = None;
    security_of(&mut old).seccomp_profile_path = "localhost//p.json".into();
    let pod = config("config", Some(old)).expect("sound");
    assert_eq!(pod.security.seccomp, SecurityProfile::Localhost("/p.json".into()));
    bad(
        |w| {
            security_of(w).seccomp = None;
            security_of(w).seccomp_profile_path = "x".into();
        },
        "linux.security_context.seccomp",
        "not a profile",
    );
}
