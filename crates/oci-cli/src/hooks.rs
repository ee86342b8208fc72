//! When the hooks in the runtime's own namespaces run, and what their failure means (OCI runtime specification,
//! "POSIX-platform Hooks" and "Lifecycle"): `prestart`, `createRuntime`, `poststart` and `poststop`. Those inside of the
//! container are run by its first process.

use crate::launch;
use crate::log::Log;
use crate::record::Record;
use oci_spec::runtime::{Hook, Hooks, Spec};
use types::{Error, Result};

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The namespaces and mounts are there, and the root is not entered yet.
    Created,
    /// The program runs.
    Started,
    /// The container is deleted.
    Deleted,
}

/// Whether a specification has any for a moment.
pub fn are_there(moment: Moment, spec: &Spec) -> bool {
    let some = |(_, list): &(&str, &Option<Vec<Hook>>)| list.as_ref().is_some_and(|list| !list.is_empty());
    spec.hooks().as_ref().is_some_and(|hooks| lists(moment, hooks).iter().any(some))
}

/// Runs the hooks of a moment in their order; the first that fails ends it. So it is for all but `poststop`: the
/// container is then to be stopped and destroyed.
pub fn run(moment: Moment, spec: &Spec, record: &Record) -> Result<()> {
    each(moment, spec, record, |result| result)
}

/// As [`run`] for `poststop`, where a failure is told "but the remaining hooks and lifecycle continue as if the hook had
/// succeeded" ("Lifecycle", step 13).
pub fn run_leniently(moment: Moment, spec: &Spec, record: &Record, log: &Log) {
    let _ = each(moment, spec, record, |result| {
        if let Err(error) = result {
            log.warn(&error.chain());
        }
        Ok(())
    });
}

fn each(
    moment: Moment,
    spec: &Spec,
    record: &Record,
    judge: impl Fn(Result<()>) -> Result<()>,
) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let status = match moment {
        Moment::Created => "creating",
        Moment::Started => "running",
        Moment::Deleted => "stopped",
    };
    for (name, list) in lists(moment, hooks) {
        for written in list.iter().flatten() {
            let ran = spec::hook(name, written).and_then(|hook| {
                container::hooks::run(&hook, &record.for_hooks(status).to_string()).map_err(launch::error)
            });
            judge(ran.map_err(|e| failed(name, written, record, e)))?;
        }
    }
    Ok(())
}

fn failed(name: &str, hook: &Hook, record: &Record, error: Error) -> Error {
    error.context(format!("the {name} hook {} of container {:?} failed", hook.path().display(), record.id))
}

/// Docker still writes `prestart`, and libnetwork hangs on it.
#[allow(deprecated)]
fn lists(moment: Moment, hooks: &Hooks) -> Vec<(&'static str, &Option<Vec<Hook>>)> {
    match moment {
        Moment::Created => {
            vec![("prestart", hooks.prestart()), ("createRuntime", hooks.create_runtime())]
        }
        Moment::Started => vec![("poststart", hooks.poststart())],
        Moment::Deleted => vec![("poststop", hooks.poststop())],
    }
}
