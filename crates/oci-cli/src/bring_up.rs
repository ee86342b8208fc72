//! `create`: everything up to the point where the container's program would run. Each effect is in the
//! record before it is made; a step that fails takes back the ones before it.

use crate::Context;
use crate::arguments::Create;
use crate::bundle::{Bundle, Wishes};
use crate::console::{self, Console};
use crate::folder::Folder;
use crate::hooks::{self, Moment};
use crate::id::ContainerName;
use crate::identity::Identity;
use crate::record::{FORMAT, Record};
use crate::{launch, pid_file, teardown};
use cgroups::{Cgroups, Group};
use container::report::Receiver;
use container::spawn;
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use types::time::{now_nanos, rfc3339_nanos};
use types::{Error, ErrorKind, Result};

/// A container that waits to be started. Its folder is locked.
pub struct Ready {
    pub bundle: Bundle,
    pub folder: Folder,
    pub record: Record,
    /// The first process; it is our child.
    pub process: Identity,
    /// Where it reports what comes after the start.
    pub report: Receiver,
}

/// The verb.
pub fn create(context: &Context, asked: &Create) -> Result<()> {
    bring_up(context, asked).map(|_| ())
}

/// Makes a container up to its gate.
pub fn bring_up(context: &Context, asked: &Create) -> Result<Ready> {
    let id = ContainerName::parse(&asked.id)?;
    if !rustix::process::geteuid().is_root() {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "containers without root are not built yet: run this as root",
        ));
    }
    let bundle = Bundle::load(&asked.bundle, &id, Wishes { no_pivot: asked.no_pivot })?;
    let console = console::connect_for(bundle.plan.process.terminal, asked.console_socket.as_deref())?;
    let cgroups = Cgroups::probe()?;
    for note in cgroups.notes() {
        context.log.debug(note);
    }
    let folder = Folder::make(&context.root, &id)?;
    if let Err(error) = refuse_foreign_group(&cgroups, &bundle) {
        // Not by `teardown`, which would end the foreign processes.
        folder.remove()?;
        return Err(error);
    }
    let mut record = new_record(&id, &bundle);
    match effects(context, asked, &bundle, &folder, &mut record, &cgroups, console) {
        Ok((process, report)) => Ok(Ready { bundle, folder, record, process, report }),
        Err(error) => {
            for left in teardown::everything(&folder, &record, Some(&bundle.spec), &context.log) {
                context.log.warn(&left.chain());
            }
            Err(error)
        }
    }
}

fn new_record(id: &ContainerName, bundle: &Bundle) -> Record {
    let annotations: BTreeMap<String, String> =
        bundle.spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Record {
        format: FORMAT,
        oci_version: oci_spec::runtime::VERSION.to_owned(),
        id: id.as_str().to_owned(),
        bundle: bundle.path.display().to_string(),
        rootfs: bundle.rootfs().to_owned(),
        created: rfc3339_nanos(now_nanos()),
        // Only root makes containers so far.
        owner: "root".to_owned(),
        annotations,
        cgroup: bundle.cgroup.clone(),
        process: None,
        ready: false,
    }
}

/// Deleting the container kills what is in its group, so nobody else may be in it.
fn refuse_foreign_group(cgroups: &Cgroups, bundle: &Bundle) -> Result<()> {
    let Some(group) = cgroups.open(&bundle.cgroup)? else { return Ok(()) };
    match group.processes()?.first() {
        None => Ok(()),
        Some(pid) => Err(Error::precondition(format!(
            "the container's cgroup {} is not empty: process {pid} is in it; choose another linux.cgroupsPath, or end it",
            bundle.cgroup
        ))),
    }
}

fn effects(
    context: &Context,
    asked: &Create,
    bundle: &Bundle,
    folder: &Folder,
    record: &mut Record,
    cgroups: &Cgroups,
    console: Option<Console>,
) -> Result<(Identity, Receiver)> {
    let log = &context.log;
    folder.write_config(&bundle.config)?;
    folder.write_record(record)?;
    let group = limited_group(cgroups, bundle, log)?;
    let gate = folder.make_gate()?;
    let held = fork(bundle, &group, gate, asked.preserve_fds)?;
    let process = Identity::of(held.child().pid)?;
    record.process = Some(process);
    folder.write_record(record)?;
    log.debug(&format!("process {} is container {:?}", process.pid, record.id));
    hooks::run(Moment::Created, &bundle.spec, record)?;
    let launching = held.release().map_err(launch::error)?;
    let master = launch::until_ready(&launching.report, log)?;
    hand_over(console, master)?;
    record.ready = true;
    folder.write_record(record)?;
    pid_file::write(asked.pid_file.as_deref(), process.pid)?;
    Ok((process, launching.report))
}

fn limited_group(cgroups: &Cgroups, bundle: &Bundle, log: &crate::log::Log) -> Result<Group> {
    let group = cgroups.create(&bundle.cgroup)?;
    let mut warnings = bundle.limits.apply(&group)?;
    warnings.extend(group.devices(&bundle.device_rules)?);
    for warning in warnings {
        log.warn(&warning);
    }
    Ok(group)
}

fn fork(bundle: &Bundle, group: &Group, gate: OwnedFd, preserve_fds: u32) -> Result<spawn::Held> {
    let mut entry = group.entry()?;
    let into = launch::into_namespaces(&bundle.plan.namespaces, &mut entry)?;
    let inherited = launch::inherited(entry, bundle.plan.process.terminal)?;
    let detached = launch::detached(Some(gate), preserve_fds)?;
    let plan = launch::plan_file(bundle.plan.encode())?;
    spawn::launch_detached(&plan, &into, inherited, &detached).map_err(launch::error)
}

/// Gives the terminal away.
pub fn hand_over(console: Option<Console>, master: Option<OwnedFd>) -> Result<()> {
    match (console, master) {
        (Some(console), Some(master)) => console.send(&master),
        (None, None) => Ok(()),
        (Some(_), None) => Err(Error::internal("the container's process made no terminal")),
        (None, Some(_)) => Err(Error::internal("the container's process made a terminal that nobody takes")),
    }
}
