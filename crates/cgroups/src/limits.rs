//! Limits of a group, in the words of both versions. What is wrong in the request is an error; limits that are not said are
//! left as they are.
//!
//! What the machine cannot do is an error for [`Group::limit`], as it is for runc and as the specification wants it
//! ("the runtime MUST generate an error"), and a warning for [`Group::apply`], where the kubelet decides.

mod asked;
mod block;
mod cpu;
mod hugepages;
mod memory;
mod tags;
mod unified;

pub use asked::{
    BlockLimit, BlockLimits, BlockWeight, CpuLimits, Limits, MemoryLimits, NetworkLimits, RdmaLimit,
};
pub use block::io_weight;

use crate::create::{WANTED, hand_down};
use crate::error::Error;
use crate::layout::{Hierarchy, Mode, Version};
use crate::{Group, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use types::pod::Resources;

impl Group {
    /// Sets the limits that are said, all of them or an error.
    ///
    /// Gives back warnings, one sentence each, about what is harmless to leave out (runc leaves it out too).
    /// Good for a new group and for one that is in use: memory and swap are written in the order that the kernel takes.
    ///
    /// # Errors
    /// `InvalidArgument` for a value that cannot be or that the kernel refuses, `FailedPrecondition` for what this machine
    /// cannot do and for a memory limit below what the group uses and cannot give back, `PermissionDenied` where the
    /// files are not ours to write.
    pub fn limit(&self, limits: &Limits) -> Result<Vec<String>> {
        self.set(limits, true)
    }

    /// Whether the memory limit may be set as it was asked for: with `check_before_update` it must not be below what the
    /// group uses. [`Group::limit`] looks itself; this is for who tells systemd first, which would have the kernel kill.
    ///
    /// # Errors
    /// `FailedPrecondition` when it is below.
    pub fn fits(&self, limits: &Limits) -> Result<()> {
        Ok(memory::check(self, &limits.memory)?)
    }

    /// Sets the limits that are said in `resources`; `oom_score_adj` belongs to processes and is not looked at.
    ///
    /// Gives back what this machine cannot do, one sentence each.
    ///
    /// # Errors
    /// `InvalidArgument` for a value that the kernel refuses, `FailedPrecondition` when a memory limit is below
    /// what the group uses and cannot give back.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<String>> {
        self.set(&Limits::from(resources), false)
    }

    /// Limits how many processes and threads the group may have; `None` lifts the limit.
    pub fn limit_pids(&self, max: Option<u64>) -> Result<Vec<String>> {
        let pids = max.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX));
        self.set(&Limits { pids: Some(pids), ..Limits::default() }, false)
    }

    fn set(&self, limits: &Limits, strict: bool) -> Result<Vec<String>> {
        let mut setting = Setting { group: self, strict, warnings: Vec::new() };
        setting.memory(&limits.memory)?;
        setting.cpu(&limits.cpu)?;
        setting.cpuset(&limits.cpu)?;
        setting.pids(limits.pids)?;
        setting.block(&limits.block)?;
        setting.hugepages(&limits.hugepages)?;
        setting.network(&limits.network)?;
        setting.rdma(&limits.rdma)?;
        setting.unified(&limits.unified)?;
        Ok(setting.warnings)
    }
}

/// One call that sets limits.
struct Setting<'a> {
    group: &'a Group,
    /// Whether what the machine cannot do is an error.
    strict: bool,
    warnings: Vec<String>,
}

impl<'a> Setting<'a> {
    /// The hierarchy of a controller; without one, that is what the machine cannot do.
    fn with(&mut self, controller: &'static str, what: &str) -> Result<Option<&'a Hierarchy>, Error> {
        let found = self.group.layout.with(controller);
        if found.is_none() {
            self.cannot(format!("{what} cannot be set: this machine has no {controller} controller"))?;
        }
        Ok(found)
    }

    fn cannot(&mut self, sentence: String) -> Result<(), Error> {
        if self.strict {
            return Err(Error::Unable(sentence));
        }
        self.warnings.push(sentence);
        Ok(())
    }

    fn write(&self, hierarchy: &Hierarchy, file: &str, value: &str) -> Result<(), Error> {
        self.try_write(hierarchy, file, value).map_err(|errno| self.refused(hierarchy, file, value, errno))
    }

    fn try_write(&self, hierarchy: &Hierarchy, file: &str, value: &str) -> Result<(), Errno> {
        hierarchy.try_write(self.group.relative(), file, value)
    }

    fn refused(&self, hierarchy: &Hierarchy, file: &str, value: &str, errno: Errno) -> Error {
        let group = self.group.relative();
        let there = || hierarchy.open(group, "", OFlags::PATH | OFlags::DIRECTORY).is_ok();
        match errno {
            // A user's group has the controllers that were delegated, and no others.
            Errno::NOENT if hierarchy.version == Version::V2 && there() => Error::Unable(format!(
                "{file} cannot be set: the cgroup {} does not have its controller, which the group above would have to hand \
                 down (cgroup.subtree_control)",
                self.group.path()
            )),
            errno => hierarchy.refused(group, file, value, errno),
        }
    }

    /// Writes a file that not every kernel has; without it, `what` cannot be set.
    fn write_if_there(
        &mut self,
        hierarchy: &Hierarchy,
        file: &str,
        value: &str,
        what: &str,
    ) -> Result<(), Error> {
        match self.try_write(hierarchy, file, value) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => self.cannot(format!("{what} cannot be set: this kernel has no {file}")),
            Err(errno) => Err(self.refused(hierarchy, file, value, errno)),
        }
    }

    fn pids(&mut self, most: Option<i64>) -> Result<(), Error> {
        let Some(most) = most else { return Ok(()) };
        let Some(hierarchy) = self.with("pids", "the limit of processes")? else { return Ok(()) };
        let value = if most < 0 { "max".to_owned() } else { most.to_string() };
        self.write(hierarchy, "pids.max", &value)
    }

    /// On a hybrid machine the unified hierarchy's few controllers are handed down only when one is asked for: a
    /// pod's own processes would be in the way, and nearly nobody asks. On v2 that is so for those that are not always.
    fn enable(&mut self, hierarchy: &Hierarchy, controller: &str) -> Result<(), Error> {
        let mode = self.group.layout.mode;
        if hierarchy.version == Version::V1 || (mode == Mode::V2 && WANTED.contains(&controller)) {
            return Ok(());
        }
        match hand_down(&self.group.layout, hierarchy, self.group.relative(), &[controller]) {
            Err(error @ Error::InnerProcesses { .. }) => self.cannot(error.to_string()),
            other => other,
        }
    }
}

/// A name in a line of a cgroup file: it must not end the word or the line.
fn plain_name(what: &str, name: &str, longest: usize) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/';
    match (1..=longest).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(Error::Value {
            what: what.to_owned(),
            value: name.chars().take(100).collect(),
            why: "a name without spaces and slashes is expected",
        }),
    }
}
