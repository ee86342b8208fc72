//! What a container is asked to be, in the engine's own words (see [`crate::pod`]).

use crate::pod::{IdMapping, NamespaceOptions, Resources, SecurityProfile, SelinuxOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which container of the pod, and which attempt at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// The container's name in its pod.
    pub name: String,
    /// How often it was made anew; 0 at first.
    pub attempt: u32,
}

/// What a container is asked to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Who it is.
    pub metadata: ContainerMetadata,
    /// The image as the caller wrote it: a name, a digest or an image id.
    pub image: String,
    /// The image as the user of the pod wrote it, where the caller tells.
    pub user_specified_image: String,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: String,
    /// Environment, in order; values are bytes as in the CRI.
    pub envs: Vec<(String, Vec<u8>)>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Devices of the node.
    pub devices: Vec<Device>,
    /// Labels, given back as they came.
    pub labels: BTreeMap<String, String>,
    /// Annotations, given back as they came.
    pub annotations: BTreeMap<String, String>,
    /// Relative to the pod's log directory; empty writes no log.
    pub log_path: String,
    /// Whether standard input is kept open for attach.
    pub stdin: bool,
    /// Whether standard input closes with the first attached client.
    pub stdin_once: bool,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Security.
    pub security: ContainerSecurity,
    /// Fully qualified CDI device names.
    pub cdi_devices: Vec<String>,
    /// The signal that asks it to stop, as `SIGTERM`; empty takes the image's.
    pub stop_signal: String,
}

/// Propagation of a mount (CRI `MountPropagation`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// The node's mounts appear inside.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// One mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, inside.
    pub container_path: String,
    /// What, on the node; empty with `image`.
    pub host_path: String,
    /// Read-only.
    pub readonly: bool,
    /// Relabel the source for SELinux.
    pub selinux_relabel: bool,
    /// Propagation.
    pub propagation: Propagation,
    /// User ids of an idmapped mount.
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of an idmapped mount.
    pub gid_mappings: Vec<IdMapping>,
    /// Read-only for everything mounted below, too.
    pub recursive_read_only: bool,
    /// An image whose content is mounted.
    pub image: Option<String>,
    /// A folder in that image.
    pub image_sub_path: String,
}

/// One device of the node for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where, inside.
    pub container_path: String,
    /// Which, on the node.
    pub host_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Security of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerSecurity {
    /// Capabilities added to the default set, with or without `CAP_`; `ALL` is every one.
    pub add_capabilities: Vec<String>,
    /// Capabilities dropped; `ALL` is every one.
    pub drop_capabilities: Vec<String>,
    /// Ambient capabilities added.
    pub add_ambient_capabilities: Vec<String>,
    /// All devices, all capabilities, no masks.
    pub privileged: bool,
    /// Which namespaces are shared with whom.
    pub namespaces: NamespaceOptions,
    /// SELinux label parts.
    pub selinux: Option<SelinuxOptions>,
    /// Numeric user.
    pub run_as_user: Option<i64>,
    /// Numeric group; only valid with a user.
    pub run_as_group: Option<i64>,
    /// A user by name, looked up in the image.
    pub run_as_username: String,
    /// Read-only root.
    pub readonly_rootfs: bool,
    /// More groups.
    pub supplemental_groups: Vec<i64>,
    /// Only those groups, none from the image (CRI `SupplementalGroupsPolicy.Strict`).
    pub supplemental_groups_strict: bool,
    /// `no_new_privs`.
    pub no_new_privs: bool,
    /// Paths hidden.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// Seccomp.
    pub seccomp: SecurityProfile,
    /// AppArmor.
    pub apparmor: SecurityProfile,
}
