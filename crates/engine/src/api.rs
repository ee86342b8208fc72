//! What the engine tells its callers: filters, statuses and answers, in the engine's own words.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use types::container::ContainerConfig;
use types::pod::{PodConfig, Resources};
use types::{ContainerId, Digest, PodId};

/// Whether a sandbox can hold running containers (CRI `PodSandboxState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodState {
    /// Namespaces, network and monitor are there.
    Ready,
    /// Stopped, failed, or never finished.
    NotReady,
}

/// One pod sandbox as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct PodStatus {
    /// Its id.
    pub id: PodId,
    /// What it was asked to be.
    pub config: Arc<PodConfig>,
    /// The runtime handler that it runs with; empty is the default.
    pub runtime_handler: String,
    /// Ready or not.
    pub state: PodState,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Addresses, the primary first; empty on the node's network.
    pub ips: Vec<IpAddr>,
    /// The CNI result, for verbose answers.
    pub network_result: Option<Arc<serde_json::Value>>,
    /// Process id of the monitor, for verbose answers; 0 where there is none.
    pub monitor_pid: i32,
    /// The pinned network namespace; empty on the node's network.
    pub netns: String,
    /// The pod's cgroup.
    pub cgroup: String,
    /// How long each step of its start took, in order.
    pub steps: Arc<Vec<StepTime>>,
}

/// How long one step of an operation took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepTime {
    /// The step's name as the code lists it.
    pub name: String,
    /// Microseconds.
    pub micros: u64,
}

/// Where a container is in its life (CRI `ContainerState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Prepared, not started.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process ended.
    Exited,
    /// Records and kernel disagree.
    Unknown,
}

/// One container as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// Its pod.
    pub pod: PodId,
    /// What it was asked to be.
    pub config: Arc<ContainerConfig>,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Nanoseconds since 1970; 0 before the start.
    pub started_at: i64,
    /// Nanoseconds since 1970; 0 before the end.
    pub finished_at: i64,
    /// Exit code; 128 + signal where a signal ended it.
    pub exit_code: i32,
    /// One word: `Completed`, `Error`, `OOMKilled`, `StartError`, …
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// The image's id.
    pub image_id: Digest,
    /// `repository@digest` where known, else the id.
    pub image_ref: String,
    /// Absolute path of the log, empty without one.
    pub log_path: String,
    /// Limits in force.
    pub resources: Resources,
    /// Who the process runs as, once it started.
    pub user: Option<ResolvedUser>,
    /// The signal that asks it to stop, as a number.
    pub stop_signal: i32,
    /// Process id of its first process on the node, 0 unless running.
    pub pid: i32,
    /// The OCI spec that it was made from, for verbose answers.
    pub spec: Option<serde_json::Value>,
    /// The snapshotter that holds its root.
    pub snapshotter: String,
    /// How long each step of its creation and start took, in order.
    pub steps: Arc<Vec<StepTime>>,
}

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
}

/// Which pods to list; what is empty does not narrow.
#[derive(Debug, Clone, Default)]
pub struct PodFilter {
    /// A full id or a prefix of one.
    pub id: String,
    /// Only in this state.
    pub state: Option<PodState>,
    /// Only with all of these labels.
    pub labels: BTreeMap<String, String>,
}

/// Which containers to list; what is empty does not narrow.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    /// A full id or a prefix of one.
    pub id: String,
    /// A full pod id or a prefix of one.
    pub pod: String,
    /// Only in this state.
    pub state: Option<ContainerState>,
    /// Only with all of these labels.
    pub labels: BTreeMap<String, String>,
}

/// What one ExecSync brought.
#[derive(Debug, Clone, Default)]
pub struct ExecOutput {
    /// At most 16 MiB together with `stderr`; more is an error.
    pub stdout: Vec<u8>,
    /// See `stdout`.
    pub stderr: Vec<u8>,
    /// Exit code; 128 + signal where a signal ended it.
    pub exit_code: i32,
}

/// One condition of the node (CRI `RuntimeCondition`).
#[derive(Debug, Clone, Serialize)]
pub struct Condition {
    /// `RuntimeReady` or `NetworkReady`.
    pub kind: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// One word, empty where it holds.
    pub reason: String,
    /// A sentence, empty where it holds.
    pub message: String,
}

/// What the node can do and how it is.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// `RuntimeReady`, `NetworkReady`.
    pub conditions: Vec<Condition>,
    /// What the kernel offers and what was chosen, for verbose answers.
    pub facts: serde_json::Value,
    /// Handlers by name; the default is the empty name.
    pub handlers: Vec<Handler>,
    /// `true` where the cgroup driver is systemd, else cgroupfs.
    pub systemd_cgroups: bool,
}

/// One runtime handler and what it can do.
#[derive(Debug, Clone, Serialize)]
pub struct Handler {
    /// Empty for the default.
    pub name: String,
    /// `recursive_read_only` mounts.
    pub recursive_read_only: bool,
    /// User namespaces.
    pub user_namespaces: bool,
}
