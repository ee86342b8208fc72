//! Ending every process of a group, and stopping and continuing them.
//!
//! v2 has `cgroup.kill` (Linux 5.14), which also catches processes that are just being forked. Version 1 is
//! frozen first, so that a fork bomb holds still while its processes are signalled. Never signals a process that
//! it has not seen in the group while holding its pidfd, and never the group that this process is in.

use crate::error::Error;
use crate::layout::{Hierarchy, Version};
use crate::processes::groups;
use crate::{Group, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a group may take to die.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a freezer is waited for in one round.
const FREEZING: Duration = Duration::from_millis(200);
/// How many processes are held by pidfd at a time; within the usual limit of 1024 descriptors.
const BATCH: usize = 256;

impl Group {
    /// Kills every process in this group and below it, and returns when none is left.
    ///
    /// # Errors
    /// `DeadlineExceeded` when processes live on for 10 s (they hang in the kernel, on a dead disk for
    /// example); `FailedPrecondition` when this process is in the group.
    pub fn kill(&self) -> Result<()> {
        self.refuse_own("kill")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let swift = self.kill_unified()?;
            self.thaw_all()?;
            if self.wait_empty(if swift { Duration::from_millis(30) } else { Duration::ZERO })? {
                return Ok(());
            }
            self.freeze_and_signal()?;
            if self.wait_empty(Duration::from_millis(50))? {
                return Ok(());
            }
            if Instant::now() > deadline {
                let mut pids = self.members()?;
                pids.truncate(8);
                return Err(
                    Error::Alive { path: self.path().to_owned(), seconds: PATIENCE.as_secs(), pids }.into()
                );
            }
        }
    }

    /// Stops every process of the group where it is, until [`Group::thaw`].
    ///
    /// # Errors
    /// `DeadlineExceeded` when processes do not stop within 10 s; they are let go again.
    pub fn freeze(&self) -> Result<()> {
        self.refuse_own("freeze")?;
        if self.freeze_within(PATIENCE)? {
            return Ok(());
        }
        self.thaw_all()?;
        Err(Error::Alive { path: self.path().to_owned(), seconds: PATIENCE.as_secs(), pids: Vec::new() }
            .into())
    }

    /// Lets the processes of the group run on. One that is not frozen stays as it is.
    pub fn thaw(&self) -> Result<()> {
        Ok(self.thaw_all()?)
    }

    /// True when the unified hierarchy was told to kill the group.
    fn kill_unified(&self) -> Result<bool, Error> {
        let Some(hierarchy) = self.layout.unified() else { return Ok(false) };
        match hierarchy.try_write(self.relative(), "cgroup.kill", "1") {
            Ok(()) => Ok(true),
            // Gone, before Linux 5.14, or a threaded group.
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(hierarchy.refused(self.relative(), "cgroup.kill", "1", errno)),
        }
    }

    fn freeze_and_signal(&self) -> Result<(), Error> {
        // One that does not stop (it hangs in the kernel) is signalled all the same.
        // Without a freezer there is only signalling again and again.
        match self.freeze_within(FREEZING) {
            Ok(_) | Err(Error::NoController(_)) => {}
            Err(error) => return Err(error),
        }
        let signalled = self.signal_all();
        // A v1 process dies only when it runs again.
        self.thaw_all()?;
        signalled
    }

    /// A number that was read may belong to another process by the time it is used. So: open pidfds, read the
    /// list again, and signal those that are still on it. If the pidfd's process has ended, the signal fails.
    fn signal_all(&self) -> Result<(), Error> {
        for batch in self.members()?.chunks(BATCH) {
            let held: Vec<(i32, OwnedFd)> = batch
                .iter()
                .filter_map(|pid| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?)))
                .collect();
            let still = self.members()?;
            for (pid, fd) in held {
                if still.binary_search(&pid).is_ok() {
                    match pidfd_send_signal(&fd, Signal::KILL) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(errno) => {
                            return Err(Error::io(
                                "kill",
                                format!("process {pid} of {}", self.path()),
                                errno,
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Polls with growing pauses. True when the group is empty.
    pub(crate) fn wait_empty(&self, patience: Duration) -> Result<bool, Error> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            if self.members()?.is_empty() {
                return Ok(true);
            }
            if start.elapsed() >= patience {
                return Ok(false);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// The hierarchy that freezes: the v1 freezer, since that is where others look on hybrid machines, or v2.
    fn freezer(&self) -> Option<&Hierarchy> {
        self.layout.with("freezer").or_else(|| self.layout.unified())
    }

    fn freeze_within(&self, patience: Duration) -> Result<bool, Error> {
        let Some(hierarchy) = self.freezer() else { return Err(Error::NoController("freezer")) };
        let start = Instant::now();
        let group = self.relative();
        loop {
            let (file, value) = match hierarchy.version {
                Version::V1 => ("freezer.state", "FROZEN"),
                Version::V2 => ("cgroup.freeze", "1"),
            };
            match hierarchy.try_write(group, file, value) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
                Err(errno) => return Err(hierarchy.refused(group, file, value, errno)),
            }
            let frozen = match hierarchy.version {
                Version::V1 => {
                    hierarchy.read(group, "freezer.state")?.is_none_or(|state| state.trim() == "FROZEN")
                }
                Version::V2 => hierarchy
                    .read(group, "cgroup.events")?
                    .is_none_or(|events| events.lines().any(|line| line == "frozen 1")),
            };
            if frozen || start.elapsed() > patience {
                return Ok(frozen);
            }
            // v1: a process that forks while the group freezes needs another try, hence the write in the loop.
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Thaws the group and what it froze itself below: a frozen process cannot die on v1.
    fn thaw_all(&self) -> Result<(), Error> {
        let Some(hierarchy) = self.freezer() else { return Ok(()) };
        let (file, value) = match hierarchy.version {
            Version::V1 => ("freezer.state", "THAWED"),
            Version::V2 => ("cgroup.freeze", "0"),
        };
        for group in groups(hierarchy, self.relative())? {
            match hierarchy.try_write(&group, file, value) {
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(hierarchy.refused(&group, file, value, errno)),
            }
        }
        Ok(())
    }
}
