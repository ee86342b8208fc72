//! How a new process gets into a group: descriptors for it to use, made before it is forked.
//!
//! Writing another process's id to `cgroup.procs` (or to v1's `tasks`) takes `cgroup_threadgroup_rwsem` for
//! writing, a lock of the whole machine that waits for an RCU grace period. A single thread that
//! writes `0` to `tasks`, itself that is, skips it: kernel/cgroup/cgroup.c, `cgroup_procs_write_start`,
//! `*threadgroup_locked = pid || threadgroup` ("cgroup: Optimize single thread migration", Linux 5.5).
//! On v2 clone3(2) with `CLONE_INTO_CGROUP` (Linux 5.7) starts the child in the group and needs no migration.

use crate::error::Error;
use crate::files::write_once;
use crate::layout::{Hierarchy, Layout, Version};
use crate::{Group, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Descriptors, all close-on-exec, that lead into one group.
#[derive(Debug)]
pub struct Entry {
    /// v1 and hybrid: the open `tasks` file of each v1 hierarchy. The single-threaded child writes `0` to each.
    pub tasks: Vec<OwnedFd>,
    /// v2 and hybrid: the group's folder in the unified hierarchy (O_PATH), for `CLONE_INTO_CGROUP`.
    pub directory: Option<OwnedFd>,
}

impl Entry {
    /// Moves the calling thread, and with `directory` the whole calling process, into the group.
    ///
    /// This is for children that were not made with `CLONE_INTO_CGROUP`; the unified hierarchy then costs the lock.
    pub fn join(&self) -> Result<()> {
        let fail = |errno| Error::io("enter", "the cgroup", errno);
        for tasks in &self.tasks {
            write_once(tasks, "0").map_err(fail)?;
        }
        if let Some(directory) = &self.directory {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let procs = rustix::fs::openat(directory, "cgroup.procs", flags, rustix::fs::Mode::empty())
                .map_err(fail)?;
            write_once(procs, "0").map_err(fail)?;
        }
        Ok(())
    }
}

impl Group {
    /// Opens what a child needs to enter this group.
    ///
    /// # Errors
    /// `NotFound` when the group is missing in one of the hierarchies: entering the others would leave the
    /// process without that hierarchy's limits.
    pub fn entry(&self) -> Result<Entry> {
        Ok(open_entry(&self.layout, |_| self.relative())?)
    }
}

impl Group {
    /// Moves a process, all of its threads, into this group in every hierarchy by writing its number.
    ///
    /// For a child that is there already, as with systemd's scopes and without root. It waits for a lock of the whole machine,
    /// which [`Group::entry`] avoids. In a hierarchy where the process is already, the kernel does nothing.
    ///
    /// # Errors
    /// `NotFound` when the process has ended or the group is missing in one of the hierarchies, `PermissionDenied` when we
    /// may not move it, `FailedPrecondition` when the group hands controllers down and so takes none.
    pub fn add(&self, pid: i32) -> Result<()> {
        // 0 would be this very process, and -1 nobody knows whom.
        if pid <= 0 {
            let why = "it is no process";
            return Err(
                Error::Value { what: "the process to move".into(), value: pid.to_string(), why }.into()
            );
        }
        for hierarchy in &self.layout.hierarchies {
            let (file, value) = ("cgroup.procs", pid.to_string());
            match hierarchy.try_write(self.relative(), file, &value) {
                Ok(()) => {}
                Err(Errno::SRCH) => return Err(Error::Ended { pid, path: self.path().to_owned() }.into()),
                Err(errno) => return Err(hierarchy.refused(self.relative(), file, &value, errno).into()),
            }
        }
        Ok(())
    }
}

/// Opens the group that `place` names, in every hierarchy.
pub(crate) fn open_entry<'a>(
    layout: &Layout,
    place: impl Fn(&Hierarchy) -> &'a str,
) -> std::result::Result<Entry, Error> {
    let mut entry = Entry { tasks: Vec::with_capacity(layout.hierarchies.len()), directory: None };
    for hierarchy in &layout.hierarchies {
        let group = place(hierarchy);
        let (file, flags) = match hierarchy.version {
            Version::V1 => ("tasks", OFlags::WRONLY),
            Version::V2 => ("", OFlags::PATH | OFlags::DIRECTORY),
        };
        let fd = hierarchy
            .open(group, file, flags)
            .map_err(|errno| Error::io("open the cgroup", hierarchy.shown(group, file), errno))?;
        match hierarchy.version {
            Version::V1 => entry.tasks.push(fd),
            Version::V2 => entry.directory = Some(fd),
        }
    }
    Ok(entry)
}
