//! The process of a specification.

use super::{PlanOptions, scheduling, text, unimplemented};
use crate::{capabilities, limits};
use container::plan::{self, Capabilities, Rlimit, Seccomp, User};
use oci_spec::runtime::{Capabilities as Named, Linux, LinuxSeccomp, PosixRlimitType, Process, Spec};
use types::{Error, Result};

/// Numbers of `asm-generic/resource.h`, which x86-64 and arm64 use.
const RLIMITS: [PosixRlimitType; 16] = [
    PosixRlimitType::RlimitCpu,
    PosixRlimitType::RlimitFsize,
    PosixRlimitType::RlimitData,
    PosixRlimitType::RlimitStack,
    PosixRlimitType::RlimitCore,
    PosixRlimitType::RlimitRss,
    PosixRlimitType::RlimitNproc,
    PosixRlimitType::RlimitNofile,
    PosixRlimitType::RlimitMemlock,
    PosixRlimitType::RlimitAs,
    PosixRlimitType::RlimitLocks,
    PosixRlimitType::RlimitSigpending,
    PosixRlimitType::RlimitMsgqueue,
    PosixRlimitType::RlimitNice,
    PosixRlimitType::RlimitRtprio,
    PosixRlimitType::RlimitRttime,
];

/// The name of a resource number.
pub(crate) fn rlimit_type(resource: u32) -> Option<PosixRlimitType> {
    RLIMITS.get(usize::try_from(resource).ok()?).copied()
}

pub(super) fn of(id: &str, spec: &Spec, linux: &Linux, options: &PlanOptions) -> Result<plan::Process> {
    let process =
        spec.process().as_ref().ok_or_else(|| Error::invalid("the specification has no `process`"))?;
    if process.command_line().is_some() {
        // It is for Windows alone, by the standard.
        return unimplemented("process.commandLine");
    }
    let bytes = |list: &Option<Vec<String>>| -> Vec<Vec<u8>> {
        list.iter().flatten().map(|text| text.clone().into_bytes()).collect()
    };
    let (args, env) = (bytes(process.args()), bytes(process.env()));
    if args.first().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("process.args is empty: there is no command to run"));
    }
    limits::arguments(&args, &env)?;
    let cwd = text("process.cwd", process.cwd())?;
    limits::path("process.cwd", cwd)?;
    let terminal = process.terminal().unwrap_or(false);
    Ok(plan::Process {
        args,
        env,
        cwd: cwd.to_owned(),
        // runc makes it (`rootfs_linux.go`, `prepareRootfs`), and sets HOME (`init_linux.go`, `finalizeNamespace`).
        create_cwd: true,
        user: user(process)?,
        set_home: true,
        rlimits: rlimits(process)?,
        capabilities: Some(sets(process)),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj().map(oom_score).transpose()?,
        umask: process.user().umask().map(|mask| mask & 0o777),
        terminal,
        console_size: terminal.then(|| console(process)).flatten(),
        apparmor: label("process.apparmorProfile", process.apparmor_profile())?,
        selinux: label("process.selinuxLabel", process.selinux_label())?,
        seccomp: linux.seccomp().as_ref().map(seccomp).transpose()?,
        scheduling: scheduling::of(process)?,
        // The name is runc's, whose `exec` joins it again (`libcontainer/keys`).
        keyring: (!options.no_new_keyring).then(|| format!("_ses.{id}")),
        personality: scheduling::personality(linux.personality().as_ref())?,
        memory_policy: linux.memory_policy().as_ref().map(scheduling::memory_policy).transpose()?,
    })
}

/// `user.username` is for Windows alone, by the standard ("POSIX-platform User").
fn user(process: &Process) -> Result<User> {
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    // NGROUPS_MAX of linux/limits.h.
    if groups.len() > 65_536 {
        return Err(Error::invalid("process.user.additionalGids has more than 65536 groups"));
    }
    // 2³²−1 means "leave it" to setresuid(2) and would keep the creating process's own id.
    if [user.uid(), user.gid()].iter().chain(&groups).any(|id| *id == u32::MAX) {
        return Err(Error::invalid("process.user has the id 4294967295, which is none"));
    }
    Ok(User::Ids { uid: user.uid(), gid: user.gid(), groups })
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>> {
    let mut out: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let kind = limit.typ();
        // Every type of the library is in the table.
        let Some(at) = RLIMITS.iter().position(|known| *known == kind) else {
            return unimplemented(&format!("process.rlimits {kind}"));
        };
        let resource = u32::try_from(at).unwrap_or(u32::MAX);
        if out.iter().any(|known| known.resource == resource) {
            return Err(Error::invalid(format!("process.rlimits has {kind} twice")));
        }
        if limit.soft() > limit.hard() {
            return Err(Error::invalid(format!(
                "process.rlimits {kind}: the soft limit {} is above the hard one {}",
                limit.soft(),
                limit.hard()
            )));
        }
        out.push(Rlimit { resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(out)
}

/// No section means none at all, as runc takes it (`init_linux.go`, `finalizeNamespace`).
fn sets(process: &Process) -> Capabilities {
    let Some(sets) = process.capabilities() else { return Capabilities::default() };
    let mask = |names: &Option<Named>| {
        names
            .iter()
            .flatten()
            .filter_map(|name| capabilities::capability_number(&name.to_string()))
            .fold(0, |mask, number| mask | 1 << number)
    };
    Capabilities {
        bounding: mask(sets.bounding()),
        effective: mask(sets.effective()),
        inheritable: mask(sets.inheritable()),
        permitted: mask(sets.permitted()),
        ambient: mask(sets.ambient()),
    }
}

fn oom_score(score: i32) -> Result<i32> {
    if (-1000..=1000).contains(&score) {
        return Ok(score);
    }
    Err(Error::invalid(format!("process.oomScoreAdj {score}: a number from -1000 to 1000 is expected")))
}

fn console(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    let fits = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    Some((fits(size.height()), fits(size.width())))
}

fn label(what: &str, label: &Option<String>) -> Result<Option<String>> {
    match label.as_deref() {
        None | Some("") => Ok(None),
        Some(label) if label.len() < 4096 && !label.contains(|c: char| c.is_control()) => {
            Ok(Some(label.to_owned()))
        }
        Some(_) => Err(Error::invalid(format!("{what} is too long or has control characters"))),
    }
}

fn seccomp(profile: &LinuxSeccomp) -> Result<Seccomp> {
    let filter = seccomp::compile(profile).map_err(|e| e.context("linux.seccomp cannot be compiled"))?;
    Ok(Seccomp {
        flags: filter.flags & !seccomp::NEW_LISTENER,
        listener: filter.needs_listener(),
        program: filter.program,
    })
}
