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

/// Ends and removes what a record names that cannot be read as a whole.
pub fn remains((process, path): (Option<Identity>, Option<String>)) -> Result<()> {
    let group = path.map(|path| cgroups::Cgroups::probe()?.open(&path)).transpose()?.flatten();
    if let Some(group) = &group {
        // Nothing that v1's freezer holds dies. Without a freezer nothing is held.
        let _ = group.thaw();
    }
    if let Some(process) = process {
        process.end()?;
    }
    let Some(group) = group else { return Ok(()) };
    if !group.processes()?.is_empty() {
        group.kill()?;
    }
    group.remove()
}

fn end(record: &Record, process: &Identity) -> Result<()> {
    // A process that v1's freezer holds dies when it is let go, and not before; the container may hold it in a group of
    // its own below, so what the record's group says does not count.
    if process.signal(SIGKILL)?
        && let Some(group) = group::of(record)?
    {
        group.thaw()?;
    }
    process.end()
}
