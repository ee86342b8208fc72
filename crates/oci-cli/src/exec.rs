//! `exec`: one more process in a container. It has what the specification of the container says, or what the
//! caller's process file says, and never more than it is told (CVE-2025-27612).

use crate::arguments::Exec;
use crate::bundle::{self, Wishes};
use crate::folder::{self, Folder};
use crate::foreground::Foreground;
use crate::id::ContainerName;
use crate::identity::Identity;
use crate::record::{Record, Status};
use crate::{Context, bring_up, console, launch, pid_file, teardown};
use container::plan::{ExecPlan, PLAN_VERSION};
use container::spawn::{self, ForkInto};
use oci_spec::runtime::{Process, Spec};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// The verb. In the foreground the answer is the program's exit code.
pub fn exec(context: &Context, asked: &Exec) -> Result<u8> {
    let id = ContainerName::parse(&asked.id)?;
    let folder = Folder::open(&context.root, &id)?;
    let record = folder.known()?;
    let first = running(&record, &folder)?;
    let mut spec = stored_spec(&folder, &record)?;
    let process = wanted(&spec, asked)?;
    spec.set_process(Some(process));
    let plan = bundle::plan(id.as_str(), &spec, Path::new(&record.bundle), Wishes { no_pivot: false })?;
    let mut process = plan.process;
    process.create_cwd = false;
    let console = console::connect_for(process.terminal, asked.console_socket.as_deref())?;
    let foreground = if asked.detach { None } else { Some(Foreground::enter(true)?) };

    // The descriptor is of the right process, so its namespaces are, too.
    let target = first.open().ok_or_else(|| {
        Error::precondition(format!("container not running: {:?} has just ended", record.id))
    })?;
    let pid = rustix::fs::open(
        format!("/proc/{}/ns/pid", first.pid),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| folder::failed("open the PID namespace of", &PathBuf::from(&record.id), errno))?;
    let group = teardown::group(&record)?.ok_or_else(|| {
        Error::precondition(format!("the cgroup {} of the container is gone", record.cgroup))
    })?;
    let mut entry = group.entry()?;
    let into = ForkInto { new: 0, pid: Some(pid), cgroup: entry.directory.take() };
    let inherited = launch::inherited(entry, process.terminal)?;
    let detached = launch::detached(None, asked.preserve_fds)?;
    let plan = ExecPlan { version: PLAN_VERSION, id: record.id.clone(), process };
    let plan = launch::plan_file(plan.encode())?;
    if !first.alive() {
        return Err(Error::precondition(format!("container not running: {:?} has just ended", record.id)));
    }
    let launching =
        spawn::join_detached(&plan, target.as_fd(), &into, &inherited, &detached).map_err(launch::error)?;
    drop(inherited);
    let own = Identity::of(launching.child.pid)?;
    let started = launch::until_ready(&launching.report, &context.log)
        .and_then(|master| bring_up::hand_over(console, master))
        .and_then(|()| launch::until_executed(&launching.report, &context.log))
        .and_then(|()| pid_file::write(asked.pid_file.as_deref(), own.pid));
    if let Err(error) = started {
        // It may wait for a terminal that nobody took, or run without a pid file.
        let _ = own.end();
        return Err(error.context(format!("exec in container {:?} failed", record.id)));
    }
    match foreground {
        Some(foreground) => foreground.wait(&own),
        None => Ok(0),
    }
}

fn running(record: &Record, folder: &Folder) -> Result<Identity> {
    match record.status(folder) {
        Status::Stopped => {
            Err(Error::precondition(format!("cannot exec in a stopped container: {:?}", record.id)))
        }
        status => record.running(status),
    }
}

fn stored_spec(folder: &Folder, record: &Record) -> Result<Spec> {
    let config = folder.config()?.ok_or_else(|| {
        Error::internal(format!(
            "the specification of container {:?} is gone from its state folder",
            record.id
        ))
    })?;
    bundle::parse(&config)
}

/// The process file, or the container's own process with what the options change.
fn wanted(spec: &Spec, asked: &Exec) -> Result<Process> {
    if let Some(path) = &asked.process {
        return from_file(path, asked);
    }
    if asked.command.first().is_none_or(String::is_empty) {
        return Err(Error::invalid(
            "exec: give a command after the container's id, or --process with a file",
        ));
    }
    let mut process =
        spec.process().clone().ok_or_else(|| Error::invalid("the specification has no `process`"))?;
    process.set_args(Some(asked.command.clone()));
    process.set_terminal(Some(asked.tty));
    if let Some(cwd) = &asked.cwd {
        process.set_cwd(PathBuf::from(cwd));
    }
    if asked.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &asked.env {
        // Of two with one name the C library finds the first, so the old one goes.
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|old| old.split_once('=').map_or(old.as_str(), |(old, _)| old) != name);
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    let mut user = process.user().clone();
    if let Some(text) = &asked.user {
        let (uid, gid) = ids(text)?;
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !asked.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&asked.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    Ok(process)
}

fn from_file(path: &Path, asked: &Exec) -> Result<Process> {
    let beside = [
        ("a command", !asked.command.is_empty()),
        ("--cwd", asked.cwd.is_some()),
        ("--env", !asked.env.is_empty()),
        ("--user", asked.user.is_some()),
        ("--additional-gids", !asked.additional_gids.is_empty()),
        ("--no-new-privs", asked.no_new_privs),
    ];
    if let Some((option, _)) = beside.iter().find(|(_, given)| *given) {
        return Err(Error::invalid(format!(
            "exec: {option} has no effect beside --process; write it into the file"
        )));
    }
    let bytes = folder::read_file(path)?;
    let mut process: Process = serde_json::from_slice(&bytes).map_err(|e| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            format!("{} is not the `process` of a specification", path.display()),
            e,
        )
    })?;
    if asked.tty {
        process.set_terminal(Some(true));
    }
    Ok(process)
}

/// `UID` or `UID:GID`, plain decimal numbers and nothing else (CVE-2026-30892).
fn ids(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        // The highest number means "leave it" to setresuid(2).
        part.parse::<u32>().ok().filter(|id| plain && *id != u32::MAX)
    };
    let parsed = match text.split_once(':') {
        None => number(text).map(|uid| (uid, None)),
        Some((uid, gid)) => number(uid).zip(number(gid)).map(|(uid, gid)| (uid, Some(gid))),
    };
    parsed.ok_or_else(|| {
        Error::invalid(format!("--user {:?}: numbers as 1000 or 1000:1000 are expected", shorten(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_numbers_or_nothing() {
        assert_eq!(ids("0").expect("good"), (0, None));
        assert_eq!(ids("1000:5").expect("good"), (1000, Some(5)));
        for bad in
            ["", ":", "1:", ":1", "+1", "-1", " 1", "1 ", "1:2:3", "root", "4294967295", "4294967296", "1:x"]
        {
            assert!(ids(bad).is_err(), "{bad:?}");
        }
    }
}
