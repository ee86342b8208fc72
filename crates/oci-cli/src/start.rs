//! `start`: lets the first process of a created container go on to its program.

use crate::Context;
use crate::bundle;
use crate::folder::Folder;
use crate::hooks::{self, Moment};
use crate::id::ContainerName;
use crate::record::{Record, Status};
use types::{Error, Result};

/// The verb.
pub fn start(context: &Context, id: &str) -> Result<()> {
    let mut folder = Folder::open(&context.root, &ContainerName::parse(id)?)?;
    folder.lock()?;
    let record = folder.known()?;
    open_gate(&folder, &record)?;
    if let Some(config) = folder.config()? {
        hooks::run_leniently(Moment::Started, &bundle::parse(&config)?, &record, &context.log);
    }
    Ok(())
}

/// Lets the process go on, once.
pub fn open_gate(folder: &Folder, record: &Record) -> Result<()> {
    let refuse = |why: &str| Error::precondition(format!("cannot start container {:?}: {why}", record.id));
    match record.status(folder) {
        Status::Created => {}
        Status::Running => return Err(refuse("it runs already")),
        Status::Creating => return Err(refuse("its creation did not come to an end")),
        Status::Stopped => return Err(refuse("it has stopped")),
    }
    let Some(gate) = folder.open_gate()? else { return Err(refuse("it has stopped")) };
    // Removed first: a second start must not write, and a start that is killed here leaves a container
    // that says "running" and waits, which delete --force ends.
    folder.remove_gate()?;
    container::detached::open(&gate).map_err(crate::launch::error)
}
