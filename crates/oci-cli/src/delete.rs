//! `delete`: removes a container that has stopped or was never started; with `--force`, any.

use crate::arguments::Delete;
use crate::folder::Folder;
use crate::id::ContainerName;
use crate::identity::SIGKILL;
use crate::record::Status;
use crate::{Context, bundle, teardown};
use types::{Error, ErrorKind, Result};

/// The verb.
pub fn delete(context: &Context, asked: &Delete) -> Result<()> {
    let id = ContainerName::parse(&asked.id)?;
    match existing(context, asked.force, &id) {
        // What is gone is what was wanted (runc `delete.go`).
        Err(error) if asked.force && error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn existing(context: &Context, force: bool, id: &ContainerName) -> Result<()> {
    let mut folder = Folder::open(&context.root, id)?;
    if force
        && let Ok(Some(record)) = folder.record()
        && let Some(process) = record.process
    {
        // Before the lock: who holds it may wait for this very process.
        let _ = process.signal(SIGKILL);
    }
    folder.lock()?;
    let record = match folder.record() {
        Ok(Some(record)) => record,
        // A creation that was killed before it did anything.
        Ok(None) => return folder.remove(),
        Err(error) if force => {
            context.log.warn(&error.chain());
            teardown::remains(folder.remains())?;
            return folder.remove();
        }
        Err(error) => return Err(error),
    };
    // `Creating` is a creation that was killed: we hold its lock.
    let status = record.status(&folder);
    if matches!(status, Status::Running | Status::Paused) && !force {
        return Err(Error::precondition(format!(
            "cannot delete container {:?} that is not stopped: {}; kill it first, or use --force",
            record.id,
            status.name()
        )));
    }
    let spec = folder.config()?.and_then(|config| bundle::parse(&config).ok());
    let mut errors = teardown::everything(&folder, &record, spec.as_ref(), &context.log).into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    for more in errors {
        context.log.warn(&more.chain());
    }
    Err(first.context(format!("container {:?} could not be removed; try again", record.id)))
}
