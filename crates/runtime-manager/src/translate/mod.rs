//! From a checked `v1.Pod` to CRI configurations, as the kubelet's kuberuntime manager makes them. Pure,
//! except `volumes`, which makes folders. It decides nothing that the manifest or the options do not say.

pub mod container;
pub mod dns;
pub mod env;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod volumes;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use std::path::PathBuf;

/// Label and annotation keys of the kubelet (`pkg/kubelet/types/labels.go`), which other tools read.
pub mod keys {
    /// Pod name.
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// Pod namespace.
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// Pod uid.
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// Container name.
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// Attempt, as text.
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    /// Where the container leaves its last words.
    pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    /// How they are found.
    pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    /// Ports, as JSON.
    pub const PORTS: &str = "io.kubernetes.container.ports";
    /// Seconds, as text.
    pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
}

/// Who the pod is: what labels, folders and the sandbox's metadata are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`, made up when the manifest has none.
    pub uid: String,
}

impl Identity {
    /// The pod's own, with a random uid when it has none.
    pub fn of(pod: &Pod) -> std::io::Result<Self> {
        let uid = match pod.metadata.uid.as_deref() {
            Some(uid) if !uid.is_empty() => uid.to_owned(),
            _ => random_uid()?,
        };
        Ok(Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_else(|| "default".into()),
            uid,
        })
    }

    /// Name of the pod's log folder, as the kubelet's `BuildPodLogsDirectory`.
    pub fn log_folder(&self) -> String {
        format!("{}_{}_{}", self.namespace, self.name, self.uid)
    }
}

/// A version 4 UUID (RFC 9562).
fn random_uid() -> std::io::Result<String> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// What this machine is, for the fields that depend on it.
#[derive(Debug, Clone)]
pub struct Node {
    /// `spec.nodeName` of the downward API.
    pub name: String,
    /// `status.hostIP`; empty when unknown.
    pub ip: String,
    /// Bytes of memory, for the OOM score of Burstable pods.
    pub memory: u64,
    /// Where Localhost seccomp profiles are, as the kubelet's `--root-dir`/seccomp.
    pub seccomp_dir: PathBuf,
    /// Resolver configuration of the node, already read.
    pub dns: dns::Resolver,
}

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that keeps running (`restartPolicy: Always`).
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// Init containers in their order, then the main ones.
pub fn containers(spec: &PodSpec) -> Vec<(Role, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        (if sidecar { Role::Sidecar } else { Role::Init }, container)
    });
    init.chain(spec.containers.iter().map(|container| (Role::Main, container))).collect()
}

/// The whole pod's grace, 30 s unless it says otherwise.
pub fn grace(spec: &PodSpec) -> std::time::Duration {
    let seconds = spec.termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(30);
    std::time::Duration::from_secs(seconds)
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! Pods and nodes for the tests of this module.
    use super::*;

    pub fn pod(spec: &str) -> Pod {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop, uid: 1-2-3, labels: {{app: web}}, annotations: {{note: hi}}}}\nspec:\n{spec}"
        );
        crate::manifest::parse("test", &text).unwrap().remove(0).pod
    }

    pub fn node() -> Node {
        Node {
            name: "box".into(),
            ip: "192.0.2.1".into(),
            memory: 8 << 30,
            seccomp_dir: "/seccomp".into(),
            dns: dns::Resolver { servers: vec!["192.0.2.53".into()], ..Default::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_uid_is_a_version_4_uuid() {
        let uid = random_uid().unwrap();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert_ne!(uid, random_uid().unwrap());
    }

    #[test]
    fn init_containers_come_first_and_sidecars_are_told_apart() {
        let pod = fixtures::pod(
            "  initContainers: [{name: a, image: x}, {name: b, image: x, restartPolicy: Always}]\n  containers: [{name: c, image: x}]\n",
        );
        let spec = pod.spec.unwrap();
        let roles: Vec<_> = containers(&spec).iter().map(|(role, c)| (*role, c.name.clone())).collect();
        assert_eq!(roles, [(Role::Init, "a".into()), (Role::Sidecar, "b".into()), (Role::Main, "c".into())]);
    }
}
