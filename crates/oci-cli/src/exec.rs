//! `exec`: one more process in a container. It has what the specification of the container says, or what the
//! caller's process file says, and never more than it is told (CVE-2025-27612).

use crate::arguments::Exec;
use crate::bundle::{self, Wishes, leniently};
use crate::console::Console;
use crate::folder::{self, Folder};
use crate::foreground::Foreground;
use crate::id::ContainerName;
use crate::identity::Identity;
use crate::listener::Agent;
use crate::record::{Record, Status};
use crate::socket::Socket;
use crate::{Context, group, launch, pid_file, warm};
use container::detached::Detached;
use container::plan::{ExecPlan, Namespace, Namespaces, PLAN_VERSION};
use container::spawn::{self, ForkInto};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::path::{Path, PathBuf};
use sys::process::namespace;
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// The verb. In the foreground the answer is the program's exit code.
pub fn exec(context: &Context, asked: &Exec) -> Result<u8> {
    let id = ContainerName::parse(&asked.id)?;
    let folder = Folder::open(&context.root, &id)?;
    let record = folder.known()?;
    let status = record.status(&folder);
    let first = running(&record, status, asked.ignore_paused)?;
    let mut spec = stored_spec(&folder, &record)?;
    let mut warnings = Vec::new();
    let process = wanted(&spec, asked, &mut warnings)?;
    spec.set_process(Some(process));
    let plan = bundle::plan(id.as_str(), &spec, Path::new(&record.bundle), Wishes::default(), &mut warnings)?;
    for warning in warnings {
        context.log.warn(&warning);
    }
    let mut namespaces = joined_namespaces(&plan.namespaces);
    if namespaces & namespace::USER != 0 && is_own_user_namespace(first.pid) {
        // It cannot be joined by who is in it (setns(2), EINVAL).
        namespaces &= !namespace::USER;
    }
    let mut process = plan.process;
    process.create_cwd = false;
    let cpus = std::mem::take(&mut process.scheduling.initial_cpus);
    let console = Console::of(process.terminal, asked.console_socket.as_deref(), !asked.detach)?;
    let pidfd = asked.pidfd_socket.as_deref().map(|path| Socket::connect(path, "pidfd")).transpose()?;
    let agent = Agent::of(&spec, process.seccomp.as_ref().is_some_and(|filter| filter.listener))?;
    let foreground = if asked.detach { None } else { Some(Foreground::enter(true)?) };

    // The descriptor is of the right process, so its namespaces are, too.
    let target = first.open().ok_or_else(|| {
        Error::precondition(format!("container not running: {:?} has just ended", record.id))
    })?;
    let pid = if namespaces & namespace::PID == 0 {
        None
    } else {
        let path = format!("/proc/{}/ns/pid", first.pid);
        let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Some(opened.map_err(|errno| {
            folder::failed("open the PID namespace of", &PathBuf::from(&record.id), errno)
        })?)
    };
    let mut entry = entry(&record, &asked.cgroup)?;
    let inner = if asked.cgroup.is_empty() { group_below(&record, first.pid)? } else { None };
    if let Some(inner) = &inner {
        entry.directory = inner.entry()?.directory;
    }
    let users = group::users_scope(&record);
    let into = ForkInto { new: 0, pid, cgroup: entry.directory.take().filter(|_| users.is_none()) };
    let inherited = launch::inherited(entry, process.terminal)?;
    // Its listener closes with the exec, so it waits until that was taken; and until systemd has moved it.
    let (gate, go) = if agent.is_some() || users.is_some() { hold()? } else { (None, None) };
    let detached = Detached { namespaces, ..launch::detached(gate, asked.preserve_fds)? };
    let plan = ExecPlan { version: PLAN_VERSION, id: record.id.clone(), process };
    let plan = launch::plan_file(plan.encode())?;
    if !first.alive() {
        return Err(Error::precondition(format!("container not running: {:?} has just ended", record.id)));
    }
    let warm = warm::program(&spec, first.pid);
    let own_cpus = initial_cpus(&cpus)?;
    let launched = spawn::join_detached(&plan, target.as_fd(), &into, &inherited, detached);
    if let Some(own) = own_cpus {
        // What is left of this program waits and relays; where, is not worth a failure.
        let _ = sched_setaffinity(None, &own);
    }
    let launching = launched.map_err(launch::error)?;
    drop(inherited);
    let own = Identity::of(launching.child.pid)?;
    let started = launch::until_ready(&launching.report, &context.log)
        .and_then(|master| console.take(master))
        .and_then(|terminal| {
            if let Some(scope) = users {
                let below = match &inner {
                    Some(inner) => inner.path().strip_prefix(record.cgroup.as_str()).unwrap_or_default(),
                    None => asked.cgroup.first().map_or("", String::as_str),
                };
                scope.attach(own.pid, below, systemd::PATIENCE)?;
            }
            if let Some(agent) = &agent {
                let state = record.for_hooks(status.name());
                agent.serve(&launching.child, &launching.report, &state, &context.log)?;
            }
            if let Some(go) = &go {
                container::detached::open(go).map_err(launch::error)?;
            }
            launch::until_executed(&launching.report, &context.log)?;
            if let Some(socket) = &pidfd {
                socket.send(launching.child.pidfd.as_fd(), b"setns")?;
            }
            pid_file::write(asked.pid_file.as_deref(), own.pid)?;
            Ok(terminal)
        });
    drop(warm);
    let terminal = match started {
        Ok(terminal) => terminal,
        Err(error) => {
            // It may wait for a terminal that nobody took, or run without a pid file.
            let _ = own.end();
            return Err(error.context(format!("exec in container {:?} failed", record.id)));
        }
    };
    match foreground {
        Some(foreground) => foreground.wait(&own, terminal),
        None => Ok(0),
    }
}

/// A pipe that a child waits on: its end and ours.
fn hold() -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
        Ok((wait, go)) => Ok((Some(wait), Some(go))),
        Err(errno) => {
            Err(Error::with_source(ErrorKind::Internal, "cannot make a pipe", std::io::Error::from(errno)))
        }
    }
}

/// Moves this program, and with it the child that it forks, to the CPUs that an exec starts on; a cgroup that is
/// joined later may move it on. Answers where it was.
fn initial_cpus(cpus: &[u32]) -> Result<Option<CpuSet>> {
    if cpus.is_empty() {
        return Ok(None);
    }
    let own = sched_getaffinity(None).map_err(|errno| {
        Error::with_source(
            ErrorKind::Internal,
            "cannot read this program's own CPUs",
            std::io::Error::from(errno),
        )
    })?;
    container::scheduling::set_cpus("process.execCPUAffinity.initial", cpus).map_err(launch::error)?;
    Ok(Some(own))
}

fn running(record: &Record, status: Status, ignore_paused: bool) -> Result<Identity> {
    match status {
        Status::Paused if !ignore_paused => Err(Error::precondition(format!(
            "cannot exec in a paused container (use --ignore-paused to override): {:?}",
            record.id
        ))),
        Status::Stopped => {
            Err(Error::precondition(format!("cannot exec in a stopped container: {:?}", record.id)))
        }
        status => record.running(status),
    }
}

/// The kinds that the container does not share with this program. Its own user namespace cannot be joined again.
fn joined_namespaces(all: &Namespaces) -> u64 {
    let kinds = [
        (&all.mount, namespace::MOUNT),
        (&all.pid, namespace::PID),
        (&all.ipc, namespace::IPC),
        (&all.uts, namespace::UTS),
        (&all.network, namespace::NETWORK),
        (&all.cgroup, namespace::CGROUP),
        (&all.user, namespace::USER),
        (&all.time, namespace::TIME),
    ];
    kinds.iter().filter(|(kind, _)| **kind != Namespace::Inherit).fold(0, |bits, (_, bit)| bits | bit)
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
fn wanted(spec: &Spec, asked: &Exec, warnings: &mut Vec<String>) -> Result<Process> {
    if let Some(path) = &asked.process {
        return from_file(path, asked, warnings);
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
    if let Some(profile) = &asked.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &asked.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if !asked.cap.is_empty() {
        process.set_capabilities(Some(with_capabilities(process.capabilities().clone(), &asked.cap)?));
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

/// More capabilities; not inheritable and not ambient, so that a program without file capabilities that an ordinary
/// user runs has none of them (CVE-2022-29162; runc `exec.go` adds to the same three sets).
fn with_capabilities(sets: Option<LinuxCapabilities>, names: &[String]) -> Result<LinuxCapabilities> {
    let mut added = Capabilities::new();
    for name in names {
        let long = name.to_ascii_uppercase();
        let known = serde_json::from_value::<Capability>(serde_json::Value::from(long.as_str()));
        added.insert(known.map_err(|_| {
            Error::invalid(format!("--cap {:?}: a name as CAP_NET_ADMIN is expected", shorten(name)))
        })?);
    }
    let mut sets = sets.unwrap_or_else(|| {
        let mut none = LinuxCapabilities::default();
        for set in [
            LinuxCapabilities::set_bounding,
            LinuxCapabilities::set_effective,
            LinuxCapabilities::set_inheritable,
            LinuxCapabilities::set_permitted,
            LinuxCapabilities::set_ambient,
        ] {
            set(&mut none, None);
        }
        none
    });
    let with = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&added).copied().collect());
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    Ok(sets)
}

fn is_own_user_namespace(pid: i32) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).ok();
    of(&pid.to_string()).is_some_and(|theirs| of("self") == Some(theirs))
}

/// The v2 group of the first process, where the container has made groups below its own and handed controllers down:
/// then its own takes no process (cgroup-v2.rst, "No Internal Process Constraint"; runc falls back to the same,
/// `libcontainer/process_linux.go`).
fn group_below(record: &Record, pid: i32) -> Result<Option<cgroups::Group>> {
    let Some(group) = group::of(record)? else { return Ok(None) };
    if group.text("", "cgroup.subtree_control")?.is_none_or(|text| text.trim().is_empty()) {
        return Ok(None);
    }
    // The node's /proc: nothing of the container's.
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let below = text
        .lines()
        .find_map(|line| line.strip_prefix("0::")?.split_once(record.cgroup.as_str()))
        .map(|(_, below)| below)
        .filter(|below| below.starts_with('/') && !below.contains(".."));
    match below {
        Some(below) => group::of(&Record { cgroup: format!("{}{below}", record.cgroup), ..record.clone() }),
        None => Ok(None),
    }
}

/// The cgroup to run in: the container's, or one below it that is there already.
fn entry(record: &Record, asked: &[String]) -> Result<cgroups::Entry> {
    let below = match asked {
        [] if record.cgroup.is_empty() => {
            return Ok(cgroups::Entry { tasks: Vec::new(), directory: None });
        }
        [] => return group::existing(record)?.entry(),
        [path] if !path.contains(':') => path.trim_matches('/'),
        _ => {
            return Err(Error::invalid(
                "--cgroup: one path below the container's cgroup is expected; it holds for all controllers",
            ));
        }
    };
    if below.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!(
            "--cgroup {:?} leads out of the container's cgroup",
            shorten(below)
        )));
    }
    group::existing(record)?;
    if below.is_empty() {
        return group::existing(record)?.entry();
    }
    let inner = Record { cgroup: format!("{}/{below}", record.cgroup), ..record.clone() };
    let found = group::of(&inner)?.ok_or_else(|| {
        Error::not_found(format!("--cgroup {:?}: the container has no such cgroup", shorten(below)))
    })?;
    found.entry()
}

fn from_file(path: &Path, asked: &Exec, warnings: &mut Vec<String>) -> Result<Process> {
    let beside = [
        ("a command", !asked.command.is_empty()),
        ("--cwd", asked.cwd.is_some()),
        ("--env", !asked.env.is_empty()),
        ("--user", asked.user.is_some()),
        ("--additional-gids", !asked.additional_gids.is_empty()),
        ("--no-new-privs", asked.no_new_privs),
        ("--cap", !asked.cap.is_empty()),
        ("--apparmor", asked.apparmor.is_some()),
        ("--process-label", asked.process_label.is_some()),
    ];
    if let Some((option, _)) = beside.iter().find(|(_, given)| *given) {
        return Err(Error::invalid(format!(
            "exec: {option} has no effect beside --process; write it into the file"
        )));
    }
    let bytes = folder::read_file(path)?;
    let (mut process, told) = leniently::parse_process(&bytes).map_err(|e| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            format!("{} is not the `process` of a specification", path.display()),
            e,
        )
    })?;
    warnings.extend(told);
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
