//! What is written to a pod's state folder, so that another daemon can take the pod over.
//!
//! | file | what |
//! |---|---|
//! | `pod.json` | [`PodRecord`] |
//! | `container-ID.json` | [`ContainerRecord`] |
//! | `spec-ID.json` | the OCI specification, for inspection |
//! | `plan-ID` | the encoded launch plan, for the start and for execs |
//! | `exit-ID` | the shim's exit record |
//! | `shim.sock`, `shim.log` | the shim's socket and its own complaints |
//! | `netns`, `shm/` | pinned network namespace and shared memory: mounts |
//! | `hosts`, `hostname`, `resolv.conf` | files that containers see |

use crate::api::{PodState, ResolvedUser, StepTime};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use types::container::ContainerConfig;
use types::pod::{PodConfig, Resources};
use types::{ContainerId, Digest, PodId};

/// The pod's record.
pub(crate) const POD: &str = "pod.json";

/// The container's record.
pub(crate) fn container_name(id: &ContainerId) -> String {
    format!("container-{id}.json")
}

/// The container's OCI specification.
pub(crate) fn spec_name(id: &ContainerId) -> String {
    format!("spec-{id}.json")
}

/// The container's launch plan.
pub(crate) fn plan_name(id: &ContainerId) -> String {
    format!("plan-{id}")
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PodPhase {
    /// Its steps run; found at a start of the daemon, it is undone.
    Starting,
    /// Ready.
    Ready,
    /// Not ready: it is being stopped, or lost its monitor. Something may be left to give back.
    Stopping,
    /// Stopped, and everything is given back.
    Stopped,
}

/// A pod on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    pub id: PodId,
    /// Shared with every status that is given out.
    pub config: Arc<PodConfig>,
    pub runtime_handler: String,
    pub phase: PodPhase,
    pub created_at: i64,
    /// Whether the pod has a network of its own, which has to be given back.
    pub own_network: bool,
    pub ips: Vec<IpAddr>,
    pub network_result: Option<Arc<serde_json::Value>>,
    pub monitor_pid: i32,
    /// Where its containers' cgroups are made.
    pub cgroup: String,
    /// Whether that cgroup is ours to remove.
    pub own_cgroup: bool,
    pub steps: Arc<Vec<StepTime>>,
}

impl PodRecord {
    pub fn state(&self) -> PodState {
        if self.phase == PodPhase::Ready { PodState::Ready } else { PodState::NotReady }
    }
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContainerPhase {
    /// Its creation runs; found at a start of the daemon, it is undone.
    Creating,
    /// Prepared.
    Created,
    /// Its start runs; found at a start of the daemon, the shim knows more.
    Starting,
    /// Runs.
    Running,
    /// Ended, or never came to run.
    Exited,
}

/// A container on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: ContainerId,
    /// Shared with every status that is given out.
    pub config: Arc<ContainerConfig>,
    pub phase: ContainerPhase,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image_id: Digest,
    pub image_ref: String,
    /// The layers of its root, bottom first: they stay even where the image's record does not.
    pub chain: Vec<Digest>,
    /// The layers of the images that it mounts, likewise.
    #[serde(default)]
    pub mounted: Vec<Vec<Digest>>,
    pub resources: Resources,
    pub device_rules: Vec<spec::DeviceRule>,
    pub user: Option<ResolvedUser>,
    pub stop_signal: i32,
    pub pid: i32,
    pub steps: Arc<Vec<StepTime>>,
}
