//! What is remembered of a container, and what it is now: `state.json` of its folder.

use crate::folder::Folder;
use crate::identity::Identity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use types::{Error, Result};

/// Raised with every change of meaning; another version's record is refused.
pub const FORMAT: u32 = 2;

/// A container's record. It is written before what it names is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    pub oci_version: String,
    pub id: String,
    /// Absolute.
    pub bundle: String,
    /// Absolute.
    pub rootfs: String,
    /// RFC 3339.
    pub created: String,
    /// Who made it.
    pub owner: String,
    pub annotations: BTreeMap<String, String>,
    /// Group in every cgroup hierarchy; empty where it has none of its own.
    pub cgroup: String,
    /// Who makes and removes the group.
    #[serde(default)]
    pub manager: Manager,
    /// File that tells whether the group is frozen.
    #[serde(default)]
    pub freezer: Option<PathBuf>,
    /// Whether it has no PID namespace of its own: its processes then outlive the first one.
    #[serde(default)]
    pub shares_pids: bool,
    /// The first process, once it is forked.
    pub process: Option<Identity>,
    /// Whether it waits for `start`, or was started.
    pub ready: bool,
}

/// Who makes and removes a container's group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Manager {
    /// This program.
    #[default]
    Cgroupfs,
    /// This program, in a group that was delegated to this user: the path counts from the root of the hierarchy, and not
    /// from the group that a verb runs in.
    Delegated,
    /// Systemd, as a transient scope.
    Systemd(systemd::Scope),
}

/// A container's state (OCI runtime specification, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    /// runc's word for one whose processes are frozen.
    Paused,
    Stopped,
}

impl Status {
    /// As the specification writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Record {
    /// What the container is now.
    pub fn status(&self, folder: &Folder) -> Status {
        match &self.process {
            None => Status::Creating,
            Some(process) if !process.alive() => Status::Stopped,
            Some(_) if !self.ready => Status::Creating,
            Some(_) if self.is_frozen() => Status::Paused,
            Some(_) if folder.has_gate() => Status::Created,
            Some(_) => Status::Running,
        }
    }

    /// Whether the container's processes stand still.
    pub fn is_frozen(&self) -> bool {
        // Some ten bytes of a cgroup file, whose path this program wrote itself.
        let text = self.freezer.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        text.is_some_and(|text| cgroups::is_frozen(&text))
    }

    /// The process id to tell: 0 once it ended, as runc.
    pub fn told_pid(&self, status: Status) -> i32 {
        match status {
            Status::Stopped => 0,
            _ => self.process.map_or(0, |process| process.pid),
        }
    }

    /// The first process of a container that is created, runs or is paused.
    pub fn running(&self, status: Status) -> Result<Identity> {
        match (status, self.process) {
            (Status::Created | Status::Running | Status::Paused, Some(process)) => Ok(process),
            // The words are runc's: its callers look for them.
            _ => {
                Err(Error::precondition(format!("container not running: {:?} is {}", self.id, status.name())))
            }
        }
    }

    /// For hooks (OCI runtime specification, "State").
    pub fn for_hooks(&self, status: &str) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "pid": if status == "stopped" { 0 } else { self.process.map_or(0, |process| process.pid) },
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state
    }

    /// What `state` and `list` print, in runc's order (`list.go`, `containerState`).
    pub fn told(&self, status: Status) -> Told<'_> {
        Told {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: self.told_pid(status),
            status: status.name(),
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner: &self.owner,
        }
    }
}

/// A container as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told<'a> {
    oci_version: &'a str,
    pub id: &'a str,
    pub pid: i32,
    pub status: &'static str,
    pub bundle: &'a str,
    rootfs: &'a str,
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub owner: &'a str,
}
