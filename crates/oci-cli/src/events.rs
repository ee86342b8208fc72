//! `events`: what a container uses, at each interval, and that it ran out of memory, as JSON lines in runc's form
//! (`types/events.go`). Ends with the container. Changes nothing and takes no lock.

mod interval;
mod usage;

use crate::arguments::Events;
use crate::folder::Folder;
use crate::id::ContainerName;
use crate::identity::Identity;
use crate::record::Record;
use crate::{Context, group, print};
use cgroups::Group;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::Value;
use std::time::{Duration, Instant};
use types::{Error, ErrorKind, Result};

/// How often the count of the out-of-memory killer is looked at, on both versions: v1's file does not wake a poll(2).
const GLANCE: Duration = Duration::from_millis(250);

/// The verb.
pub fn events(context: &Context, asked: &Events) -> Result<()> {
    let interval = interval::parse(&asked.interval)?;
    let folder = Folder::open(&context.root, &ContainerName::parse(&asked.id)?)?;
    let record = folder.known()?;
    let process = record.running(record.status(&folder))?;
    let group = group::existing(&record)?;
    if asked.stats {
        return say("stats", &record, Some(usage::of(&group)?));
    }
    follow(&record, &process, &group, interval)
}

fn follow(record: &Record, process: &Identity, group: &Group, interval: Duration) -> Result<()> {
    let Some(life) = process.open() else { return Ok(()) };
    // Without a memory controller there is only the end to wait for.
    let file = group.oom_file().ok();
    let mut killed = file.as_ref().and_then(count).unwrap_or(0);
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let ended = wait(&life, left.min(GLANCE))?;
        let now = file.as_ref().and_then(count).unwrap_or(killed);
        if now > killed {
            killed = now;
            say("oom", record, None)?;
        }
        if ended {
            return Ok(());
        }
        if next <= Instant::now() {
            say("stats", record, Some(usage::of(group)?))?;
            next = Instant::now() + interval;
        }
    }
}

/// A line of runc's, its fields in runc's order.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn say(kind: &str, record: &Record, data: Option<Value>) -> Result<()> {
    let event = Event { r#type: kind, id: &record.id, data };
    let line = serde_json::to_string(&event)
        .map_err(|e| Error::internal(format!("what the container uses is no JSON: {e}")))?;
    print(&format!("{line}\n"))
}

/// How many processes the kernel killed for lack of memory.
fn count(file: &OwnedFd) -> Option<u64> {
    let mut text = [0; 4096];
    let length = rustix::io::pread(file, &mut text, 0).ok()?;
    cgroups::oom_kills(&String::from_utf8_lossy(&text[..length]))
}

/// True when the process ended before the time was over.
fn wait(life: &OwnedFd, time: Duration) -> Result<bool> {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    match poll(&mut [PollFd::new(life, PollFlags::IN)], Some(&time)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::with_source(
            ErrorKind::Internal,
            "cannot wait for the container's process",
            std::io::Error::from(errno),
        )),
    }
}
