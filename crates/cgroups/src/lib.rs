//! cgroup v1, v2 and hybrid: creation, limits, entry, statistics, freezing, killing and removal of groups.
//!
//! A [`Group`] is one path in every hierarchy of the machine. It holds no descriptors: each operation opens
//! what it needs from the hierarchy's root, without following links, so a group can be removed and made again
//! by others at any time.
//! This crate never mounts cgroup file systems, never touches a process outside the group that it is
//! asked about, and moves no process but the caller's own (see [`Entry`] and [`Cgroups::create`]) and the one that
//! [`Group::add`] is asked to move.

mod create;
mod devices;
mod entry;
mod error;
mod files;
mod frozen;
mod kill;
mod layout;
mod limits;
mod oom;
mod path;
mod processes;
mod remove;
mod scope;
mod snapshot;
mod stats;
mod weight;

pub use devices::{DeviceKind, DeviceRule};
pub use entry::Entry;
pub use error::Error;
pub use frozen::is_frozen;
pub use layout::Mode;
pub use limits::{
    BlockLimit, BlockLimits, BlockWeight, CpuLimits, Limits, MemoryLimits, NetworkLimits, RdmaLimit,
    io_weight,
};
pub use oom::{OomEvent, OomWatch};
pub use scope::Scope;
pub use snapshot::Snapshot;
pub use stats::{Memory, Pressure, PressureLine, Stats, oom_kills};
pub use weight::weight_of_shares;

use layout::Layout;
use std::path::Path;
use std::sync::Arc;
use types::Result;

/// The hierarchies of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Arc<Layout>,
}

/// One group: the same path in every hierarchy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    layout: Arc<Layout>,
    /// As it was asked for, cleaned, with its leading slash.
    path: String,
}

impl Cgroups {
    /// Finds the hierarchies that this process sees.
    ///
    /// # Errors
    /// `FailedPrecondition` when there is none.
    pub fn probe() -> Result<Cgroups> {
        let layout = Layout::probe()?;
        for note in &layout.notes {
            tracing::warn!("{note}");
        }
        Ok(Self { layout: Arc::new(layout) })
    }

    /// As [`Cgroups::probe`], but paths always count from the root of each hierarchy's mount, also where that cannot be
    /// written: for the paths of groups that others made for us, as systemd does for a user.
    ///
    /// # Errors
    /// As [`Cgroups::probe`].
    pub fn probe_from_root() -> Result<Cgroups> {
        Ok(Self { layout: Arc::new(Layout::probe()?.rooted()) })
    }

    /// As [`Cgroups::probe`], from texts in the form of `/proc/self/mountinfo` and `/proc/self/cgroup`, with
    /// `root` before every mount point.
    pub fn probe_at(root: &Path, mountinfo: &str, own: &str) -> Result<Cgroups> {
        Ok(Self { layout: Arc::new(Layout::probe_at(root, mountinfo, own)?) })
    }

    /// Version 1, version 2, or both.
    pub fn mode(&self) -> Mode {
        self.layout.mode
    }

    /// The controllers of all hierarchies, sorted; named hierarchies as `name=systemd`.
    pub fn controllers(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.layout.hierarchies.iter().flat_map(|h| h.controllers.iter().cloned()).collect();
        all.sort();
        all
    }

    /// What is unusual on this machine, one sentence each: for example that groups nest below our own.
    pub fn notes(&self) -> &[String] {
        &self.layout.notes
    }

    /// Makes a group in every hierarchy, with the groups above it. One that is there already is taken as it is.
    ///
    /// On v2 the controllers are handed down along the path; a group that has processes of its own cannot hand
    /// them down (cgroups(7), "no internal processes"), so make the group for processes a leaf. When the caller itself is
    /// the only process in the way, it moves into a group `runtime` below the one it is in.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad path, `FailedPrecondition` for processes in the way,
    /// `ResourceExhausted` when the machine's limit of groups is reached. What this call made is removed again.
    pub fn create(&self, path: &str) -> Result<Group> {
        let relative = path::relative(path)?;
        create::create(&self.layout, &relative)?;
        Ok(self.group(&relative))
    }

    /// Whether the group above is there in every hierarchy, and is one that this user may make groups in.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad path.
    pub fn may_make(&self, path: &str) -> Result<bool> {
        Ok(create::may_make(&self.layout, &path::relative(path)?))
    }

    /// The group, when it is there in at least one hierarchy.
    pub fn open(&self, path: &str) -> Result<Option<Group>> {
        let relative = path::relative(path)?;
        Ok(create::exists(&self.layout, &relative)?.then(|| self.group(&relative)))
    }

    fn group(&self, relative: &str) -> Group {
        Group { layout: self.layout.clone(), path: format!("/{relative}") }
    }
}

impl Group {
    /// The path as it was asked for, for example `/kubepods/pod1/abc`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path without its leading slash.
    pub(crate) fn relative(&self) -> &str {
        &self.path[1..]
    }

    /// Refuses what would hit this very process.
    pub(crate) fn refuse_own(&self, what: &'static str) -> std::result::Result<(), Error> {
        let own = self.layout.own_now()?;
        match own.iter().any(|(h, own)| !own.is_empty() && path::contains(&h.place(self.relative()), own)) {
            true => Err(Error::Own { what, path: self.path.clone() }),
            false => Ok(()),
        }
    }
}
