//! Being told when a group runs out of memory. Reads only; nothing is polled by the clock.
//!
//! v1: an eventfd(2) that is registered in `cgroup.event_control` (admin-guide/cgroup-v1/memory.rst, "OOM Control"). It is
//! also woken when the group is removed. v2: `memory.events` is ready for poll(2) with POLLPRI at each change
//! (admin-guide/cgroup-v2.rst), and so is `cgroup.events` when the last process is gone.

use crate::error::Error;
use crate::layout::Version;
use crate::stats::oom_kills;
use crate::{Group, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// The group ran out of memory, or the kernel killed in it: this often since the last answer.
    Oom(u64),
    /// The group is gone, or on v2 empty. Nothing more will come.
    Gone,
    /// The time is over.
    Nothing,
}

/// A watch over one group. Counts from the moment it was made.
#[derive(Debug)]
pub struct OomWatch {
    group: Group,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The notification, and the file that it is about, which must stay open.
    V1 {
        event: OwnedFd,
        _control: OwnedFd,
    },
    V2 {
        memory: OwnedFd,
        state: OwnedFd,
        seen: u64,
    },
}

impl Group {
    /// Begins to watch for a lack of memory.
    ///
    /// # Errors
    /// `FailedPrecondition` without a memory controller, `NotFound` when the group is gone.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let hierarchy = self.layout.with("memory").ok_or(Error::NoController("memory"))?;
        let group = self.relative();
        let open = |file: &str, flags| {
            let fd = hierarchy.open(group, file, flags);
            fd.map_err(|errno| Error::io("open", hierarchy.shown(group, file), errno))
        };
        let kind = match hierarchy.version {
            Version::V1 => {
                let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .map_err(|errno| Error::io("make", "an eventfd", errno))?;
                let control = open("memory.oom_control", OFlags::RDONLY)?;
                let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
                hierarchy.write(group, "cgroup.event_control", &line)?;
                Kind::V1 { event, _control: control }
            }
            Version::V2 => {
                let memory = open("memory.events", OFlags::RDONLY)?;
                let state = open("cgroup.events", OFlags::RDONLY)?;
                // Read once, or the first poll(2) is ready at once (kernfs counts its events per open file).
                let seen = oom_kills(&text(&memory).unwrap_or_default()).unwrap_or(0);
                let _ = text(&state);
                Kind::V2 { memory, state, seen }
            }
        };
        Ok(OomWatch { group: self.clone(), kind })
    }
}

impl OomWatch {
    /// What to give to poll(2) beside other descriptors: for reading (v1) or for POLLPRI (v2). [`OomWatch::wait`] with no
    /// time tells then what it was.
    pub fn descriptors(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match &self.kind {
            Kind::V1 { event, .. } => vec![(event.as_fd(), PollFlags::IN)],
            Kind::V2 { memory, state, .. } => {
                vec![(memory.as_fd(), PollFlags::PRI), (state.as_fd(), PollFlags::PRI)]
            }
        }
    }

    /// Waits at most so long.
    ///
    /// # Errors
    /// `Internal` when poll(2) or a read fails.
    pub fn wait(&mut self, patience: Duration) -> Result<OomEvent> {
        let deadline = Instant::now() + patience.min(Duration::from_secs(1 << 30));
        loop {
            if let Some(event) = self.now()? {
                return Ok(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds: Vec<PollFd<'_>> = self
                .descriptors()
                .into_iter()
                .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
                .collect();
            let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut fds, Some(&time)) {
                Ok(0) => return Ok(OomEvent::Nothing),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::io("wait for memory events of", self.group.path(), errno).into());
                }
            }
        }
    }

    /// What has happened since the last look.
    fn now(&mut self) -> std::result::Result<Option<OomEvent>, Error> {
        match &mut self.kind {
            Kind::V1 { event, .. } => {
                let mut count = [0; 8];
                match rustix::io::read(&*event, &mut count) {
                    Ok(_) => {}
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                    Err(errno) => return Err(Error::io("read", "an eventfd", errno)),
                }
                // The removal of the group wakes it too (kernel `memcg_event_remove`).
                let hierarchy = self.group.layout.with("memory").ok_or(Error::NoController("memory"))?;
                match hierarchy.open(self.group.relative(), "", OFlags::PATH | OFlags::DIRECTORY) {
                    Ok(_) => Ok(Some(OomEvent::Oom(u64::from_ne_bytes(count)))),
                    Err(_) => Ok(Some(OomEvent::Gone)),
                }
            }
            Kind::V2 { memory, state, seen } => {
                // The kills come before the end that they bring.
                let ended =
                    text(state).map_or(Some(true), |text| populated(&text).map(|populated| !populated));
                let kills = text(memory).and_then(|text| oom_kills(&text));
                match kills {
                    Some(kills) if kills > *seen => {
                        let more = kills - *seen;
                        *seen = kills;
                        Ok(Some(OomEvent::Oom(more)))
                    }
                    None => Ok(Some(OomEvent::Gone)),
                    Some(_) if ended == Some(true) => Ok(Some(OomEvent::Gone)),
                    Some(_) => Ok(None),
                }
            }
        }
    }
}

/// The text of an open file from its beginning; `None` when the group is gone (ENODEV).
fn text(file: &OwnedFd) -> Option<String> {
    let mut buffer = [0; 4096];
    let length = rustix::io::pread(file, &mut buffer, 0).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn populated(text: &str) -> Option<bool> {
    text.lines().find_map(|line| match line {
        "populated 1" => Some(true),
        "populated 0" => Some(false),
        _ => None,
    })
}
