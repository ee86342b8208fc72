//! What the decisions are made from, and what they give. Plain data; the engine fills it in.

use container::plan::{LaunchPlan, RootSource};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::pod::Resources;
use types::{ContainerConfig, PodConfig};

/// The part of an image's configuration that starts a process (OCI image specification, "Properties", `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`, `uid:gid` or mixtures; empty is root.
    pub user: String,
    /// `NAME=value` entries.
    pub env: Vec<String>,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// Paths that the image wants volumes at.
    pub volumes: Vec<String>,
    /// The signal that asks its program to stop, as `SIGQUIT`, `QUIT` or `3`.
    pub stop_signal: Option<String>,
    /// Labels; they decide nothing here.
    pub labels: BTreeMap<String, String>,
}

/// A device node of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDevice {
    /// Absolute path on the node.
    pub path: String,
    /// Whether it is a block device; a character device otherwise.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What the node offers, probed once at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Bit mask (`1 << CAP_…`) of the daemon's bounding set: what a container can have at most.
    pub bounding_capabilities: u64,
    /// `/proc/self/oom_score_adj` of the daemon.
    pub own_oom_score_adj: i32,
    /// Whether a score below `own_oom_score_adj` can be given (`CAP_SYS_RESOURCE`).
    pub can_lower_oom: bool,
    /// The hard limit of open files that the daemon has.
    pub nofile_hard: u64,
    /// Whether AppArmor is on.
    pub has_apparmor: bool,
    /// The loaded AppArmor profile that `RuntimeDefault` means.
    pub apparmor_default: Option<String>,
    /// Whether SELinux is on.
    pub has_selinux: bool,
    /// Whether the kernel takes seccomp filters.
    pub has_seccomp: bool,
    /// Whether cgroups are v2 only.
    pub cgroup_v2: bool,
    /// Whether there is a cgroup file system to show at `/sys/fs/cgroup`.
    pub cgroup_mount: bool,
    /// Whether swap is accounted.
    pub swap_accounting: bool,
    /// Whether recursive read-only mounts work (mount_setattr(2), Linux 5.12).
    pub rro: bool,
    /// Every device node below the node's `/dev`, for privileged containers.
    pub devices: Vec<HostDevice>,
    /// More paths to hide from containers that have masked paths, for example
    /// `/sys/devices/system/cpu/cpu0/thermal_throttle`.
    pub extra_masked_paths: Vec<String>,
}

impl Default for NodeFacts {
    /// A plain node: every capability, cgroup v2, no security module, no devices.
    fn default() -> Self {
        Self {
            bounding_capabilities: crate::capabilities::ALL,
            own_oom_score_adj: 0,
            can_lower_oom: true,
            nofile_hard: 1 << 20,
            has_apparmor: false,
            apparmor_default: None,
            has_selinux: false,
            has_seccomp: true,
            cgroup_v2: true,
            cgroup_mount: true,
            swap_accounting: true,
            rro: true,
            devices: Vec::new(),
            extra_masked_paths: Vec::new(),
        }
    }
}

/// Files of the pod's state folder that are mounted into each of its containers, unless the caller mounts
/// something there itself. Absolute paths on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFiles {
    /// For `/etc/hosts`.
    pub hosts: Option<String>,
    /// For `/etc/hostname`.
    pub hostname: Option<String>,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: Option<String>,
}

/// Where `/dev/shm` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedMemory {
    /// A folder that the pod's containers share.
    Shared(String),
    /// A tmpfs of the container's own, of so many bytes.
    Own(u64),
}

/// Everything that decides about one container.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The container's id.
    pub container_id: &'a str,
    /// The pod's id.
    pub pod_id: &'a str,
    /// The pod.
    pub pod: &'a PodConfig,
    /// The container.
    pub container: &'a ContainerConfig,
    /// Its image.
    pub image: &'a ImageConfig,
    /// The node.
    pub facts: &'a NodeFacts,
    /// The root file system, from the snapshotter.
    pub root: RootSource,
    /// What the images hold that the container mounts, by the names that its mounts have for them.
    pub image_mounts: BTreeMap<String, RootSource>,
    /// The container's cgroup, for the OCI specification.
    pub cgroups_path: &'a str,
    /// The host name that programs in the pod see; becomes `HOSTNAME`.
    pub hostname: &'a str,
    /// Files of the pod.
    pub files: PodFiles,
    /// `/dev/shm`; a pod with the node's IPC namespace gets the node's, whatever stands here.
    pub shm: SharedMemory,
    /// A process whose PID namespace is joined: the pod's for `NamespaceMode::Pod`, the named container's for
    /// `NamespaceMode::Target`.
    pub target_pid: Option<i32>,
    /// Folders on the node for the image's volumes: (path in the container, path on the node).
    pub volumes: Vec<(String, String)>,
    /// The nodes behind the container's `devices`; for a folder, those within.
    pub devices: Vec<HostDevice>,
    /// Content of the file that `SecurityProfile::Localhost` names for seccomp.
    pub seccomp_profile: Option<&'a [u8]>,
    /// Kernel parameters that this container's launch writes: [`crate::sysctls`] of the pod where the pod's
    /// namespaces have not got them yet, nothing otherwise.
    pub sysctls: Vec<(String, String)>,
}

/// Which devices a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// All of them.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// One rule of the device controller; later rules win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Major number; `None` is every one.
    pub major: Option<u32>,
    /// Minor number; `None` is every one.
    pub minor: Option<u32>,
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Making nodes of it.
    pub mknod: bool,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// For `inspect`, for foreign runtimes, for people.
    pub spec: oci_spec::runtime::Spec,
    /// For our own supervisor.
    pub plan: LaunchPlan,
    /// Limits for the container's cgroup.
    pub resources: Resources,
    /// Devices for the container's cgroup, in order.
    pub device_rules: Vec<DeviceRule>,
    /// The signal that asks the container to stop.
    pub stop_signal: i32,
    /// What was asked for and cannot be had here, or was left out; sentences for the log.
    pub warnings: Vec<String>,
}
