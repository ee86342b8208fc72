//! Removing a group from every hierarchy. Never kills: that is [`Group::kill`].

use crate::error::Error;
use crate::layout::Hierarchy;
use crate::processes::groups;
use crate::{Group, Result};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long a process that is just ending may keep the group.
const PATIENCE: Duration = Duration::from_secs(2);

impl Group {
    /// Removes the group and all groups below it; what is gone already is fine.
    ///
    /// A process that has just been killed leaves its groups late in its exit, so a busy group is tried again
    /// for 2 s.
    ///
    /// # Errors
    /// `DeadlineExceeded` with the first process ids when processes stay; `FailedPrecondition` when this
    /// process is in the group.
    pub fn remove(&self) -> Result<()> {
        self.refuse_own("remove")?;
        let deadline = Instant::now() + PATIENCE;
        for hierarchy in &self.layout.hierarchies {
            let mut pause = Duration::from_micros(100);
            while !remove_tree(hierarchy, self.relative())? {
                if Instant::now() > deadline {
                    let mut pids = self.members()?;
                    pids.truncate(8);
                    return Err(Error::Alive {
                        path: self.path().to_owned(),
                        seconds: PATIENCE.as_secs(),
                        pids,
                    }
                    .into());
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

/// False when something is still busy.
pub(crate) fn remove_tree(hierarchy: &Hierarchy, group: &str) -> Result<bool, Error> {
    if rmdir(hierarchy, group)? {
        return Ok(true);
    }
    // Busy: groups below, or processes.
    for below in groups(hierarchy, group)?.iter().rev() {
        if !rmdir(hierarchy, below)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// False when it is busy; true when it is gone.
pub(crate) fn rmdir(hierarchy: &Hierarchy, group: &str) -> Result<bool, Error> {
    match rustix::fs::unlinkat(&hierarchy.root, hierarchy.place(group), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY | Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::io("remove the cgroup", hierarchy.shown(group, ""), errno)),
    }
}
