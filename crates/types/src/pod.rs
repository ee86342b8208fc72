//! What a pod sandbox is asked to be, in the engine's own words. `cri-server` makes these from the
//! wire's messages after it checked them; they are stored in the pod's record and never leave as wire types.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who the pod is. The four together name one attempt at one pod, and a second RunPodSandbox with
/// the same four joins the first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodMetadata {
    /// The pod's name in its namespace.
    pub name: String,
    /// The pod object's unique id.
    pub uid: String,
    /// The Kubernetes namespace.
    pub namespace: String,
    /// How often the sandbox was made anew; 0 at first.
    pub attempt: u32,
}

/// What a pod sandbox is asked to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodConfig {
    /// Who it is.
    pub metadata: PodMetadata,
    /// Host name inside; empty keeps the node's for pods on the node's network.
    pub hostname: String,
    /// The folder on the node that container log paths are relative to; empty where there are no logs.
    pub log_directory: String,
    /// What `/etc/resolv.conf` says. `None` copies the node's.
    pub dns: Option<Dns>,
    /// Ports of the node that lead into the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Labels, given back as they came.
    pub labels: BTreeMap<String, String>,
    /// Annotations, given back as they came.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup that holds the pod, in the driver's form; empty lets the engine choose.
    pub cgroup_parent: String,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Security of the sandbox.
    pub security: PodSecurity,
    /// What the pod itself costs beyond its containers.
    pub overhead: Option<Resources>,
    /// The sum of the containers' resources, as the kubelet computed it.
    pub resources: Option<Resources>,
}

/// `/etc/resolv.conf`, in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One port of the node that leads into the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// The port inside, 1–65535.
    pub container_port: u16,
    /// The port of the node, 1–65535; 0 maps nothing.
    pub host_port: u16,
    /// The node's address to listen on; empty means every one.
    pub host_ip: String,
}

/// Security of the sandbox and the namespaces that its containers share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodSecurity {
    /// Which namespaces are shared with whom.
    pub namespaces: NamespaceOptions,
    /// Whether the sandbox may hold privileged containers.
    pub privileged: bool,
    /// Seccomp of the sandbox.
    pub seccomp: SecurityProfile,
    /// AppArmor of the sandbox.
    pub apparmor: SecurityProfile,
    /// SELinux label parts.
    pub selinux: Option<SelinuxOptions>,
    /// User of the sandbox's own process, where it has one.
    pub run_as_user: Option<i64>,
    /// Group of the sandbox's own process.
    pub run_as_group: Option<i64>,
    /// More groups.
    pub supplemental_groups: Vec<i64>,
    /// How groups of the image combine with those.
    pub supplemental_groups_strict: bool,
    /// Read-only root of the sandbox's own process.
    pub readonly_rootfs: bool,
}

/// How wide a namespace is shared (CRI `NamespaceMode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// All containers of the pod share one.
    #[default]
    Pod,
    /// Each container has its own.
    Container,
    /// The node's own.
    Node,
    /// The one of the container named by `target_id`.
    Target,
}

/// Which namespaces are shared with whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    /// Network.
    pub network: NamespaceMode,
    /// Process ids.
    pub pid: NamespaceMode,
    /// System V IPC and POSIX message queues.
    pub ipc: NamespaceMode,
    /// The container whose PID namespace is joined with `NamespaceMode::Target`.
    pub target_id: String,
    /// A user namespace, where one is asked for.
    pub user: Option<UserNamespace>,
}

/// A user namespace for the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// `Pod` for a namespace of the pod's own, `Node` for none.
    pub mode: NamespaceMode,
    /// User ids.
    pub uids: Vec<IdMapping>,
    /// Group ids.
    pub gids: Vec<IdMapping>,
}

/// One range of a user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id outside.
    pub host_id: u32,
    /// First id inside.
    pub container_id: u32,
    /// How many.
    pub length: u32,
}

/// A seccomp or AppArmor profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// Nothing was said: the CRI's default, which for a CRI caller means unconfined seccomp
    /// and the runtime's AppArmor profile where the node has AppArmor.
    #[default]
    Unset,
    /// The runtime's own profile.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile of the node: a file for seccomp, a loaded name for AppArmor.
    Localhost(String),
}

/// Parts of an SELinux label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelinuxOptions {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

/// Limits of a container or a pod; 0 or empty means "not said" (CRI `LinuxContainerResources`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds per period; negative means no limit.
    pub cpu_quota: i64,
    /// Relative weight, 2–262144.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory_limit: i64,
    /// Bytes of memory and swap together.
    pub memory_swap_limit: i64,
    /// −1000 to 1000.
    pub oom_score_adj: i64,
    /// For example `0-2,7`.
    pub cpuset_cpus: String,
    /// For example `0`.
    pub cpuset_mems: String,
    /// Huge page limits by page size (`2MB`), bytes.
    pub hugepages: Vec<(String, u64)>,
    /// cgroup v2 files and what is written to them.
    pub unified: BTreeMap<String, String>,
}
