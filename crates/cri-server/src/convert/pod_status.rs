//! Pods for the wire: list entries, statuses, and what `inspectp` shows beyond them.

use super::{map, security};
use cri_api::v1;
use engine::api::{PodState, PodStatus};
use serde_json::json;
use std::collections::HashMap;
use types::pod::PodMetadata;

/// What a shim of ours is called where containerd names a runtime type.
pub const RUNTIME_TYPE: &str = "corten.shim.v1";

/// A state for the wire.
pub fn state(state: PodState) -> v1::PodSandboxState {
    match state {
        PodState::Ready => v1::PodSandboxState::SandboxReady,
        PodState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

fn metadata(metadata: &PodMetadata) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
    }
}

/// An entry of a list.
pub fn item(pod: &PodStatus) -> v1::PodSandbox {
    v1::PodSandbox {
        id: pod.id.to_string(),
        metadata: Some(metadata(&pod.config.metadata)),
        state: state(pod.state).into(),
        created_at: pod.created_at,
        labels: map(&pod.config.labels),
        annotations: map(&pod.config.annotations),
        runtime_handler: pod.runtime_handler.clone(),
    }
}

/// A status.
pub fn status(pod: &PodStatus) -> v1::PodSandboxStatus {
    let mut addresses = pod.ips.iter().map(ToString::to_string);
    v1::PodSandboxStatus {
        id: pod.id.to_string(),
        metadata: Some(metadata(&pod.config.metadata)),
        state: state(pod.state).into(),
        created_at: pod.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: addresses.next().unwrap_or_default(),
            additional_ips: addresses.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(security::namespaces_to_wire(&pod.config.security.namespaces)),
            }),
        }),
        labels: map(&pod.config.labels),
        annotations: map(&pod.config.annotations),
        runtime_handler: pod.runtime_handler.clone(),
    }
}

/// Verbose facts under the key and the names that crictl's users know from containerd
/// (containerd `internal/cri/types/sandbox_info.go`); ours are added.
pub fn info(pod: &PodStatus) -> HashMap<String, String> {
    let facts = json!({
        "pid": pod.monitor_pid,
        "processStatus": if pod.state == PodState::Ready { "running" } else { "stopped" },
        "netNamespace": pod.netns,
        "cgroupPath": pod.cgroup,
        "runtimeHandler": pod.runtime_handler,
        "runtimeType": RUNTIME_TYPE,
        "cniResult": pod.network_result,
        "config": pod.config,
        "steps": pod.steps,
    });
    HashMap::from([("info".to_owned(), facts.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::pod;
    use engine::api::StepTime;
    use types::PodId;

    fn wire_config() -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".into(),
                uid: "1234".into(),
                namespace: "default".into(),
                attempt: 3,
            }),
            labels: HashMap::from([("app".into(), "web".into())]),
            annotations: HashMap::from([("note".into(), "x".into())]),
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(v1::NamespaceOption {
                        network: v1::NamespaceMode::Node.into(),
                        pid: v1::NamespaceMode::Container.into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn pod() -> PodStatus {
        PodStatus {
            id: PodId::from_random([7; 32]),
            config: pod::config("config", Some(wire_config())).expect("sound").into(),
            runtime_handler: "kata".into(),
            state: PodState::Ready,
            created_at: 42,
            ips: vec!["10.88.0.2".parse().expect("v4"), "fd00::2".parse().expect("v6")],
            network_result: Some(json!({"cniVersion": "1.1.0"}).into()),
            monitor_pid: 77,
            netns: "/run/corten/pods/x/net".into(),
            cgroup: "/kubepods/podx".into(),
            steps: vec![StepTime { name: "network".into(), micros: 5 }].into(),
        }
    }

    #[test]
    fn what_a_caller_gave_comes_back_as_it_came() {
        let (pod, config) = (pod(), wire_config());
        let options = config.linux.and_then(|l| l.security_context).and_then(|s| s.namespace_options);
        let status = status(&pod);
        assert_eq!((status.metadata, status.labels), (config.metadata.clone(), config.labels.clone()));
        assert_eq!(status.annotations, config.annotations);
        assert_eq!(status.linux.and_then(|l| l.namespaces).and_then(|n| n.options), options);
        let item = item(&pod);
        assert_eq!((item.metadata, item.labels), (config.metadata, config.labels));
        assert_eq!((item.annotations, item.runtime_handler.as_str()), (config.annotations, "kata"));
        assert_eq!((item.id.as_str(), item.created_at, item.state), (pod.id.as_str(), 42, 0));
    }

    #[test]
    fn the_first_address_is_the_primary_one() {
        let network = status(&pod()).network.expect("always there");
        assert_eq!(network.ip, "10.88.0.2");
        assert_eq!(network.additional_ips, [v1::PodIp { ip: "fd00::2".into() }]);
        let network = status(&PodStatus { ips: Vec::new(), ..pod() }).network.expect("always there");
        assert_eq!((network.ip.as_str(), network.additional_ips.len()), ("", 0));
    }

    #[test]
    fn verbose_facts_are_json_with_the_names_that_tools_read() {
        let info: serde_json::Value = serde_json::from_str(&info(&pod())["info"]).expect("JSON");
        assert_eq!((&info["pid"], &info["netNamespace"]), (&json!(77), &json!("/run/corten/pods/x/net")));
        assert_eq!(info["cniResult"]["cniVersion"], "1.1.0");
        assert_eq!(info["config"]["metadata"]["name"], "web");
    }
}
