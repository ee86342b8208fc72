//! `pause` and `resume`: all processes of a container stand still, and go on.

use crate::folder::Folder;
use crate::id::ContainerName;
use crate::record::Status;
use crate::{Context, group};
use types::{Error, Result};

/// Stops every process of a container that is created or runs (runc `libcontainer`, `Pause`).
pub fn pause(context: &Context, id: &str) -> Result<()> {
    let mut folder = Folder::open(&context.root, &ContainerName::parse(id)?)?;
    folder.lock()?;
    let record = folder.known()?;
    match record.status(&folder) {
        Status::Created | Status::Running => {}
        // The words are runc's, odd as they are.
        Status::Paused => {
            return Err(Error::precondition(format!(
                "container not running: {:?} is paused already",
                record.id
            )));
        }
        other => record.running(other).map(|_| ())?,
    }
    group::existing(&record)?.freeze()
}

/// Lets a paused container go on.
pub fn resume(context: &Context, id: &str) -> Result<()> {
    let mut folder = Folder::open(&context.root, &ContainerName::parse(id)?)?;
    folder.lock()?;
    let record = folder.known()?;
    match record.status(&folder) {
        Status::Paused => group::existing(&record)?.thaw(),
        // The words are runc's.
        other => {
            Err(Error::precondition(format!("container not paused: {:?} is {}", record.id, other.name())))
        }
    }
}
