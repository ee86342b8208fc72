//! Taking a container down: its processes, its cgroup, its folder, in this order, so that a kill of this
//! program in between leaves what another `delete` can finish. Collects errors instead of stopping at one.

use crate::folder::Folder;
use crate::hooks::{self, Moment};
use crate::identity::{Identity, SIGKILL};
use crate::log::Log;
use crate::record::Record;
use crate::{group, intel_rdt};
use oci_spec::runtime::Spec;
use types::{Error, Result};

/// Ends and removes everything. The folder goes only when the rest is gone.
pub fn everything(folder: &Folder, record: &Record, spec: Option<&Spec>, log: &Log) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            errors.push(error);
        }
    };
    if let Some(process) = &record.process {
        note(end(record, process));
    }
    note(group::end(record));
    if let Some(spec) = spec {
        note(intel_rdt::remove(spec, record));
    }
    if errors.is_empty()
        && let Err(error) = folder.remove()
    {
        errors.push(error);
    }
    if let Some(spec) = spec
        && record.process.is_some()
        && errors.is_empty()
    {
        hooks::run_leniently(Moment::Deleted, spec, record, log);
    }
    errors
}

fn end(record: &Record, process: &Identity) -> Result<()> {
    // A process that v1's freezer holds dies when it is let go, and not before.
    if process.signal(SIGKILL)?
        && record.is_frozen()
        && let Some(group) = group::of(record)?
    {
        group.thaw()?;
    }
    process.end()
}
