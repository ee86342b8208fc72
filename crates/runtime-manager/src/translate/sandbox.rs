//! `v1.Pod` to `PodSandboxConfig` (kubelet `generatePodSandboxConfig`).

use super::{Identity, Node, dns, keys, resources, security};
use cri_api::v1::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};
use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec};
use std::path::Path;

/// The sandbox of a pod. `log_directory` is the pod's own.
pub fn config(pod: &Pod, identity: &Identity, node: &Node, log_directory: &Path) -> PodSandboxConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(keys::POD_NAME.into(), identity.name.clone());
    labels.insert(keys::POD_NAMESPACE.into(), identity.namespace.clone());
    labels.insert(keys::POD_UID.into(), identity.uid.clone());
    let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_ref()).into_iter().flatten();
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: identity.name.clone(),
            uid: identity.uid.clone(),
            namespace: identity.namespace.clone(),
            attempt: 0,
        }),
        hostname: hostname(&spec, identity),
        log_directory: log_directory.to_string_lossy().into_owned(),
        dns_config: Some(dns::config(&spec, &node.dns)),
        port_mappings: super::containers(&spec)
            .iter()
            .flat_map(|(_, container)| container.ports.iter().flatten().map(port))
            .collect(),
        labels: labels.into_iter().collect(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(security::sandbox(&spec)),
            sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
            resources: Some(resources::sandbox(&spec)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The pod's host name; empty for pods on the machine's network, which keep the machine's.
pub fn hostname(spec: &PodSpec, identity: &Identity) -> String {
    if spec.host_network == Some(true) {
        return String::new();
    }
    let name = spec.hostname.as_deref().unwrap_or(&identity.name);
    // HOST_NAME_MAX is 64 with its end (hostname(7)); names are ASCII, so that a byte is a character.
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

fn port(port: &ContainerPort) -> PortMapping {
    PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        } as i32,
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fixtures::{node, pod};
    use cri_api::v1::NamespaceMode;

    fn of(spec: &str) -> PodSandboxConfig {
        let pod = pod(spec);
        config(&pod, &Identity::of(&pod).unwrap(), &node(), Path::new("/logs/x"))
    }

    #[test]
    fn the_sandbox_carries_the_pods_names_labels_and_ports() {
        let got = of(
            "  containers: [{name: c, image: x, ports: [{containerPort: 80, hostPort: 8080, protocol: UDP}]}]\n",
        );
        let metadata = got.metadata.unwrap();
        assert_eq!(
            (metadata.name.as_str(), metadata.namespace.as_str(), metadata.uid.as_str()),
            ("web", "shop", "1-2-3")
        );
        assert_eq!(got.labels["app"], "web");
        assert_eq!(got.labels[keys::POD_UID], "1-2-3");
        assert_eq!(got.annotations["note"], "hi");
        assert_eq!(got.hostname, "web");
        assert_eq!(got.log_directory, "/logs/x");
        assert_eq!(got.dns_config.unwrap().servers, ["192.0.2.53"]);
        let port = &got.port_mappings[0];
        assert_eq!((port.container_port, port.host_port, port.protocol), (80, 8080, Protocol::Udp as i32));
        let linux = got.linux.unwrap();
        assert_eq!(linux.cgroup_parent, "");
        let namespaces = linux.security_context.unwrap().namespace_options.unwrap();
        assert_eq!(namespaces.pid, NamespaceMode::Container as i32);
    }

    #[test]
    fn a_pod_on_the_machines_network_keeps_the_machines_name() {
        let got = of("  hostNetwork: true\n  hostPID: true\n  containers: [{name: c, image: x}]\n");
        assert_eq!(got.hostname, "");
        let namespaces = got.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
        assert_eq!(namespaces.network, NamespaceMode::Node as i32);
        assert_eq!(namespaces.pid, NamespaceMode::Node as i32);
    }

    #[test]
    fn a_long_name_is_cut_for_the_host_name() {
        let mut pod = pod("  containers: [{name: c, image: x}]\n");
        pod.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b"));
        let identity = Identity::of(&pod).unwrap();
        assert_eq!(hostname(&pod.spec.unwrap(), &identity), "a".repeat(62));
    }
}
