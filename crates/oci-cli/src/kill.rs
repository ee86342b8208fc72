//! `kill`: a signal to the first process, or to all.

use crate::arguments::Kill;
use crate::folder::Folder;
use crate::id::ContainerName;
use crate::identity::Identity;
use crate::record::Status;
use crate::{Context, teardown};
use types::reference::shorten;
use types::{Error, Result};

const SIGKILL: i32 = 9;

/// The verb. Takes no lock: a container whose creation hangs can be killed.
pub fn kill(context: &Context, asked: &Kill) -> Result<()> {
    let signal = spec::signal_number(&asked.signal).ok_or_else(|| {
        Error::invalid(format!(
            "unknown signal {:?}: a name as KILL or SIGKILL, or a number from 1 to 64 is expected",
            shorten(&asked.signal)
        ))
    })?;
    let folder = Folder::open(&context.root, &ContainerName::parse(&asked.id)?)?;
    let record = folder.known()?;
    if asked.all {
        // Processes may be left of a container whose first one ended, where it shares its PID namespace.
        let Some(group) = teardown::group(&record)? else { return Ok(()) };
        if signal == SIGKILL {
            return group.kill();
        }
        for pid in group.processes()? {
            // One that ended meanwhile is fine; the number cannot be another's between these two lines
            // unless all of them were used up.
            if let Ok(process) = Identity::of(pid) {
                process.signal(signal)?;
            }
        }
        return Ok(());
    }
    let status = record.status(&folder);
    let process = match record.process {
        Some(process) if status == Status::Creating => process,
        _ => record.running(status)?,
    };
    match process.signal(signal)? {
        true => Ok(()),
        false => Err(Error::precondition(format!("container not running: {:?} has just ended", record.id))),
    }
}
