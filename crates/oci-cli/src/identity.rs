//! Which process is meant: a number alone may be another's by now, so its start time goes with it.
//! Never signals by number.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};
use std::io::Read;
use types::{Error, ErrorKind, Result};

/// The signal that no process survives.
pub const SIGKILL: i32 = 9;

/// One process of this machine, for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat` (proc(5)), in clock ticks since boot.
    pub start_time: u64,
}

impl Identity {
    /// Of a process that is our child, so that the number is still its.
    pub fn of(pid: i32) -> Result<Self> {
        let (_, start_time) = stat(pid).ok_or_else(|| {
            Error::internal(format!("cannot read /proc/{pid}/stat of the new process; is /proc mounted?"))
        })?;
        Ok(Self { pid, start_time })
    }

    /// Whether it runs: one that ended and was not waited for does not.
    pub fn alive(&self) -> bool {
        stat(self.pid)
            .is_some_and(|(state, start)| start == self.start_time && !matches!(state, 'Z' | 'X' | 'x'))
    }

    /// A descriptor of it; `None` when it ended.
    pub fn open(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // The descriptor is of whoever has the number; the check after it tells whether that is the one.
        self.alive().then_some(fd)
    }

    /// Kills it and waits until it ended, be it our child or not; 10 s at most.
    pub fn end(&self) -> Result<()> {
        let ended = self.kill_and_wait();
        // A child of ours would stay until somebody asked; of others' we are told nothing, and that is fine.
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
        ended
    }

    fn kill_and_wait(&self) -> Result<()> {
        let Some(fd) = self.open() else { return Ok(()) };
        let fail = |what: &str, error: std::io::Error| {
            Error::with_source(ErrorKind::Internal, format!("cannot {what} process {}", self.pid), error)
        };
        match sys::signal::send(fd.as_fd(), SIGKILL) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(()),
            Err(error) => return Err(fail("kill", error)),
        }
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        // A pidfd is readable from the end on, before anybody has waited for it (pidfd_open(2)).
        match retry_on_intr(|| poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience))) {
            Ok(0) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "process {} does not end although it was killed; does it hang in a dead mount?",
                    self.pid
                ),
            )),
            Ok(_) => Ok(()),
            Err(errno) => Err(fail("wait for", errno.into())),
        }
    }

    /// Sends a signal; false when it ended.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        let Some(fd) = self.open() else { return Ok(false) };
        match sys::signal::send(fd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(false),
            Err(error) => Err(Error::with_source(
                ErrorKind::Internal,
                format!("cannot send signal {signal} to process {}", self.pid),
                error,
            )),
        }
    }
}

/// State letter and start time.
fn stat(pid: i32) -> Option<(char, u64)> {
    // About 350 bytes in truth.
    let mut text = Vec::with_capacity(1024);
    std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.take(8192).read_to_end(&mut text).ok()?;
    parse(&String::from_utf8_lossy(&text))
}

/// The program's name in the second field may have blanks and parentheses, so the last `)` counts.
fn parse(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // `state` is field 3.
    Some((state, fields.nth(22 - 4)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let own = Identity::of(std::process::id() as i32).expect("own");
        assert!(own.alive());
        assert!(!Identity { start_time: own.start_time + 1, ..own }.alive());
        assert!(Identity { start_time: 1, ..own }.open().is_none());
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let fields: String = (4..=52).map(|n| format!(" {n}")).collect();
        assert_eq!(parse(&format!("7 (a) Z 1 (b)) S{fields}\n")), Some(('S', 22)));
        assert_eq!(parse("7 (a) S 1 2"), None);
        assert_eq!(parse(""), None);
    }
}
