//! The container's cgroup: made by this program before the first process, or by systemd around it, or left out for
//! a user who may make none. Where it will be is known, and recorded, before it is made.

use crate::bundle::Bundle;
use crate::log::Log;
use crate::record::{Manager, Record};
use crate::{Context, user};
use cgroups::{Cgroups, Group};
use std::time::Duration;
use systemd::{Bus, Properties, Scope};
use types::{Error, ErrorKind, Result};

/// How a container is to get its group.
pub struct Wanted<'a> {
    bundle: &'a Bundle,
    /// `None` where this user has no hierarchies at all.
    cgroups: Option<Cgroups>,
    /// Empty for none.
    pub path: String,
    pub manager: Manager,
    /// Groups and rules that this user may not have are left out.
    rootless: bool,
}

impl<'a> Wanted<'a> {
    /// Finds out where the group will be.
    pub fn of(context: &Context, bundle: &'a Bundle, id: &str) -> Result<Self> {
        let linux = bundle.spec.linux().as_ref();
        let asked = linux.and_then(|linux| linux.cgroups_path().as_ref()?.to_str()).unwrap_or_default();
        let (path, manager) = match context.systemd_cgroup {
            false if context.rootless() && is_delegated(asked) => (bundle.cgroup.clone(), Manager::Delegated),
            false => (bundle.cgroup.clone(), Manager::Cgroupfs),
            true => {
                if !is_systemd_here() {
                    return Err(Error::precondition(
                        "--systemd-cgroup: this machine was not started with systemd (there is no /run/systemd/system); leave it out, and give the caller its cgroupfs driver",
                    ));
                }
                let bus = if user::is_rootless() { Bus::User } else { Bus::System };
                let scope = Scope::parse(asked, id, bus)?;
                (scope.cgroup(systemd::PATIENCE)?, Manager::Systemd(scope))
            }
        };
        let rootless = context.rootless();
        let cgroups = match hierarchies(&manager) {
            Ok(cgroups) => Some(cgroups),
            Err(error) if rootless && manager == Manager::Cgroupfs && asked.is_empty() => {
                context.log.debug(&error.chain());
                None
            }
            Err(error) => return Err(error),
        };
        for note in cgroups.iter().flat_map(Cgroups::notes) {
            context.log.debug(note);
        }
        Ok(Self { bundle, cgroups, path, manager, rootless })
    }

    /// Refuses a group that others are in: deleting the container will kill what is in its group.
    pub fn refuse_foreign(&self) -> Result<()> {
        let Some(cgroups) = &self.cgroups else { return Ok(()) };
        let Some(group) = cgroups.open(&self.path)? else { return Ok(()) };
        match group.processes()?.first() {
            None => Ok(()),
            Some(pid) => Err(Error::precondition(format!(
                "the container's cgroup {} is not empty: process {pid} is in it; choose another linux.cgroupsPath, or end it",
                self.path
            ))),
        }
    }

    /// What is made before the first process: the group, with its limits, unless systemd makes it. Where this user
    /// may make none the record says so.
    pub fn before(&self, record: &mut Record, log: &Log) -> Result<Option<Group>> {
        if matches!(self.manager, Manager::Systemd(_)) {
            return Ok(None);
        }
        let made = match &self.cgroups {
            Some(cgroups) => cgroups.create(&self.path),
            None => Err(Error::new(ErrorKind::PermissionDenied, "this user has no cgroups")),
        };
        match made {
            Ok(group) => self.limited(group, record, log).map(Some),
            Err(error) if self.can_do_without(&error) => {
                log.debug(&format!("without a cgroup: {}", error.chain()));
                record.cgroup.clear();
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// As runc (`cgroups/fs2`, `Apply`): without root a container goes without a group, unless it is to have limits or
    /// says where it is.
    fn can_do_without(&self, error: &Error) -> bool {
        let linux = self.bundle.spec.linux().as_ref();
        let says_where = linux.is_some_and(|linux| linux.cgroups_path().is_some());
        self.rootless
            && error.kind() == ErrorKind::PermissionDenied
            && !says_where
            && *self.bundle.limits.wanted() == cgroups::Limits::default()
    }

    /// What is made around the first process, which is held: systemd's scope, with the limits that systemd knows
    /// and then the others.
    pub fn around(&self, pid: i32, record: &mut Record, log: &Log) -> Result<()> {
        let (Manager::Systemd(scope), Some(cgroups)) = (&self.manager, &self.cgroups) else { return Ok(()) };
        let mut properties = Properties::of_limits(self.bundle.limits.wanted(), cgroups.mode())?;
        properties.extend(Properties::of_devices(&self.bundle.device_rules, cgroups.mode()));
        let annotations = self.bundle.spec.annotations().iter().flatten();
        properties.extend(Properties::of_annotations(annotations.map(|(k, v)| (k.as_str(), v.as_str())))?);
        if let Err(error) = scope.start(pid, &properties, systemd::PATIENCE) {
            if error.kind() == ErrorKind::AlreadyExists {
                // It is another's, and must not be stopped with this container.
                record.manager = Manager::Cgroupfs;
                record.cgroup.clear();
            }
            return Err(error);
        }
        let group = cgroups.create(&self.path)?;
        group.add(pid)?;
        self.limited(group, record, log).map(|_| ())
    }

    fn limited(&self, group: Group, record: &mut Record, log: &Log) -> Result<Group> {
        record.freezer = group.frozen_file();
        let mut warnings = self.bundle.limits.apply(&group)?;
        match group.devices(&self.bundle.device_rules) {
            Ok(more) => warnings.extend(more),
            // Only root may, and devices that an ordinary user could not open stay closed (runc does so, too).
            Err(error) if self.rootless && error.kind() == ErrorKind::PermissionDenied => {
                log.debug(&error.chain());
            }
            Err(error) => return Err(error),
        }
        for warning in warnings {
            log.warn(&warning);
        }
        Ok(group)
    }
}

/// As sd_booted(3) finds out.
fn is_systemd_here() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

/// The hierarchies as the manager counts paths in them.
fn hierarchies(manager: &Manager) -> Result<Cgroups> {
    match manager {
        Manager::Cgroupfs => Cgroups::probe(),
        Manager::Delegated | Manager::Systemd(_) => Cgroups::probe_from_root(),
    }
}

/// Whether an ordinary user says by its path from the root where the group is to be, and may make it there: as Podman does
/// in a service of the user's systemd (`--cgroups split`).
fn is_delegated(asked: &str) -> bool {
    let may = || Cgroups::probe_from_root()?.may_make(asked);
    asked.starts_with('/') && may().unwrap_or(false)
}

/// The container's group; `None` when it is gone, or it has none.
pub fn of(record: &Record) -> Result<Option<Group>> {
    if record.cgroup.is_empty() {
        return Ok(None);
    }
    hierarchies(&record.manager)?.open(&record.cgroup)
}

/// The container's group, without which a verb cannot do its work.
pub fn existing(record: &Record) -> Result<Group> {
    of(record)?.ok_or_else(|| {
        Error::precondition(match record.cgroup.as_str() {
            "" => {
                format!("container {:?} was made without a cgroup (--rootless), which this needs", record.id)
            }
            path => format!("the cgroup {path} of container {:?} is gone", record.id),
        })
    })
}

/// The scope of a user's own systemd: only systemd may move a process into it (`Scope::attach`).
pub fn users_scope(record: &Record) -> Option<&Scope> {
    match &record.manager {
        Manager::Systemd(scope) if scope.bus() == Bus::User => Some(scope),
        _ => None,
    }
}

/// How long systemd may take to stop a scope. Longer than for all else: giving up leaves something, and a systemd that has
/// hundreds to stop at once takes its time.
const STOPPING: Duration = systemd::PATIENCE.saturating_mul(6);

/// Kills what is in the group and removes it; systemd's scope is stopped in between. What is gone is fine.
pub fn end(record: &Record) -> Result<()> {
    let group = of(record)?;
    if let Some(group) = &group
        && !group.processes()?.is_empty()
    {
        group.kill()?;
    }
    if let Manager::Systemd(scope) = &record.manager
        && is_systemd_here()
    {
        scope.stop(STOPPING)?;
    }
    group.map_or(Ok(()), |group| group.remove())
}

/// Sets other limits: systemd's properties first, so that it does not set the old ones again, then the group's.
/// Whatever is refused, those that [`cgroups::Snapshot`] knows are as they were. Gives back what was left out.
pub fn change(record: &Record, before: &cgroups::Limits, limits: &crate::limits::Limits) -> Result<Change> {
    let group = existing(record)?;
    group.fits(limits.wanted())?;
    let change = Change { snapshot: group.snapshot()?, scope: None, warnings: Vec::new() };
    let mode = hierarchies(&record.manager)?.mode();
    let change = match &record.manager {
        Manager::Cgroupfs | Manager::Delegated => change,
        Manager::Systemd(scope) => {
            let new = Properties::of_limits(limits.wanted(), mode)?;
            let old = Properties::of_limits(before, mode)?.undoing(&new);
            scope.update(&new, systemd::PATIENCE)?;
            Change { scope: Some((scope.clone(), old)), ..change }
        }
    };
    match limits.apply(&group) {
        Ok(warnings) => Ok(Change { warnings, ..change }),
        Err(error) => Err(change.undo(error)),
    }
}

/// A change of limits that can still be taken back.
pub struct Change {
    snapshot: cgroups::Snapshot,
    scope: Option<(Scope, Properties)>,
    /// What was left out.
    pub warnings: Vec<String>,
}

impl Change {
    /// Sets the limits back because of an error, which then says whether that worked.
    pub fn undo(&self, error: Error) -> Error {
        error.context(match self.take_back() {
            true => "the limits are as they were",
            false => "not all limits could be set back",
        })
    }

    fn take_back(&self) -> bool {
        let scope = match &self.scope {
            Some((scope, old)) => scope.update(old, systemd::PATIENCE).is_ok(),
            None => true,
        };
        self.snapshot.restore() && scope
    }
}
