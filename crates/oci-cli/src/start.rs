//! `start`: lets the first process of a created container go on to its program.

use crate::folder::Folder;
use crate::hooks::{self, Moment};
use crate::id::ContainerName;
use crate::record::{Record, Status};
use crate::{Context, bundle, teardown, warm};
use oci_spec::runtime::Spec;
use rustix::fd::OwnedFd;
use types::{Error, Result};

/// The verb.
pub fn start(context: &Context, id: &str) -> Result<()> {
    let mut folder = Folder::open(&context.root, &ContainerName::parse(id)?)?;
    folder.lock()?;
    let record = folder.known()?;
    let spec = folder.config()?.map(|config| bundle::parse(&config)).transpose()?;
    let warm = warmed(&record, spec.as_ref());
    let gate = open_gate(&folder, &record)?;
    let started =
        container::detached::outcome(&gate).map_err(crate::launch::error).and_then(|()| match &spec {
            Some(spec) => hooks::run(Moment::Started, spec, &record),
            None => Ok(()),
        });
    drop(warm);
    if let Err(error) = started {
        // "the runtime MUST generate an error, stop the container, and continue the lifecycle at step 12", where it is
        // destroyed (OCI runtime specification 1.3, "Lifecycle", steps 7 and 9).
        for left in teardown::everything(&folder, &record, spec.as_ref(), &context.log) {
            context.log.warn(&left.chain());
        }
        return Err(error.context(format!("container {:?} could not be started", record.id)));
    }
    Ok(())
}

/// What the process will need in memory, to be held until its program runs. Nothing for one that is gone.
pub fn warmed(record: &Record, spec: Option<&Spec>) -> warm::Held {
    match (record.process, spec) {
        // The number is looked at again after: it may be another's since.
        (Some(process), Some(spec)) if process.alive() => {
            let held = warm::program(spec, process.pid);
            if process.alive() { held } else { warm::Held::new() }
        }
        _ => warm::Held::new(),
    }
}

/// Lets the process go on, once. What comes of it is told at the gate.
pub fn open_gate(folder: &Folder, record: &Record) -> Result<OwnedFd> {
    // The words are runc's (`start.go`).
    let refuse = |why: &str| Error::precondition(format!("{why}: {:?}", record.id));
    const STOPPED: &str = "cannot start a container that has stopped";
    match record.status(folder) {
        Status::Created => {}
        Status::Running => return Err(refuse("cannot start an already running container, it runs already")),
        Status::Paused => {
            return Err(refuse("cannot start a container in the paused state; resume it first"));
        }
        Status::Creating => {
            return Err(refuse("cannot start a container in the creating state, its creation was not ended"));
        }
        Status::Stopped => return Err(refuse(STOPPED)),
    }
    let Some(gate) = folder.open_gate()? else { return Err(refuse(STOPPED)) };
    // Removed first: a second start must not write, and a start that is killed here leaves a container
    // that says "running" and waits, which delete --force ends.
    folder.remove_gate()?;
    container::detached::open(&gate).map_err(crate::launch::error)?;
    Ok(gate)
}
