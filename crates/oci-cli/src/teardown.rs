//! Taking a container down: its processes, its cgroup, its folder, in this order, so that a kill of this
//! program in between leaves what another `delete` can finish. Collects errors instead of stopping at one.

use crate::folder::Folder;
use crate::hooks::{self, Moment};
use crate::log::Log;
use crate::record::Record;
use cgroups::{Cgroups, Group};
use oci_spec::runtime::Spec;
use types::{Error, Result};

/// The container's group; `None` when it is gone.
pub fn group(record: &Record) -> Result<Option<Group>> {
    Cgroups::probe()?.open(&record.cgroup)
}

/// Ends and removes everything. The folder goes only when the rest is gone.
pub fn everything(folder: &Folder, record: &Record, spec: Option<&Spec>, log: &Log) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            errors.push(error);
        }
    };
    if let Some(process) = &record.process {
        note(process.end());
    }
    note(end_group(record));
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

fn end_group(record: &Record) -> Result<()> {
    let Some(group) = group(record)? else { return Ok(()) };
    if !group.processes()?.is_empty() {
        group.kill()?;
    }
    group.remove()
}
