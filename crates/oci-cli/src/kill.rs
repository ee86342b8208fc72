//! `kill`: a signal to the first process, or to all.

use crate::arguments::Kill;
use crate::folder::Folder;
use crate::id::ContainerName;
use crate::identity::{Identity, SIGKILL};
use crate::record::{Record, Status};
use crate::{Context, group};
use cgroups::Group;
use types::reference::shorten;
use types::{Error, Result};

/// The verb. Takes no lock: a container whose creation hangs can be killed.
pub fn kill(context: &Context, asked: &Kill) -> Result<()> {
    let signal = signal(&asked.signal)?;
    let folder = Folder::open(&context.root, &ContainerName::parse(&asked.id)?)?;
    let record = folder.known()?;
    let status = record.status(&folder);
    if asked.all {
        // Processes may be left of a container whose first one ended, where it shares its PID namespace.
        return match group::of(&record)? {
            Some(group) => all(&group, signal),
            None => one(&record, status, signal).or_else(|error| match status {
                Status::Stopped => Ok(()),
                _ => Err(error),
            }),
        };
    }
    // Nothing else would end them (runc 1.2, `libcontainer`, `Signal`).
    if signal == SIGKILL
        && record.shares_pids
        && let Some(group) = group::of(&record)?
        && !group.processes()?.is_empty()
    {
        return all(&group, signal);
    }
    one(&record, status, signal)
}

fn one(record: &Record, status: Status, signal: i32) -> Result<()> {
    let process = match record.process {
        Some(process) if status == Status::Creating => process,
        _ => record.running(status)?,
    };
    if !process.signal(signal)? {
        return Err(Error::precondition(format!("container not running: {:?} has just ended", record.id)));
    }
    // One that v1's freezer holds dies when it is let go (runc `libcontainer`, `signal`), in whatever group below.
    if signal == SIGKILL
        && let Some(group) = group::of(record)?
    {
        group.thaw()?;
    }
    Ok(())
}

fn all(group: &Group, signal: i32) -> Result<()> {
    if signal == SIGKILL {
        return group.kill();
    }
    for pid in group.processes()? {
        // One that ended meanwhile is fine. The number may be another's by now: then it is not in the group.
        if let Ok(process) = Identity::of(pid)
            && group.processes()?.contains(&pid)
        {
            process.signal(signal)?;
        }
    }
    Ok(())
}

/// A number or a name. 0 only asks whether the process is there (kill(2)).
fn signal(text: &str) -> Result<i32> {
    if text == "0" {
        return Ok(0);
    }
    spec::signal_number(text).ok_or_else(|| {
        Error::invalid(format!(
            "unknown signal {:?}: a name as KILL or SIGKILL, or a number from 0 to 64 is expected",
            shorten(text)
        ))
    })
}
