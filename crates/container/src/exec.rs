//! One more process in a running container: it is born in its namespaces, and ends as a first process does. Before that
//! nobody in the container sees it: through the root of a process that is still the node's, whoever may trace it (with
//! `CAP_SYS_PTRACE`) would be on the node.

use crate::detached::Detached;
use crate::failure::{Failure, Step, Tried};
use crate::init::{Ending, Inherited, finish, join_cgroups, last_word, read_plan};
use crate::plan::ExecPlan;
use crate::report::Sender;
use crate::{credentials, namespaces, user};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use sys::process::namespace;

/// What is read and opened in the node's namespaces.
pub(crate) struct Prepared {
    plan: ExecPlan,
    null: OwnedFd,
}

/// All that needs the node's files, by a process that nobody in the container can see; what it sets, its child has, too.
pub(crate) fn prepare(plan: &OwnedFd, report: &Sender) -> Step<Prepared> {
    let plan: ExecPlan = read_plan(plan)?;
    credentials::set_oom_score(&plan.process, report)?;
    credentials::set_labels(&credentials::open_labels(&plan.process)?)?;
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .tried(|| "cannot open the node's /dev/null".into())?;
    Ok(Prepared { plan, null })
}

/// Enters the container of `target` but for its cgroup namespace: from inside of that one nothing could be born into a
/// group any more (cgroup-v2.rst, "nsdelegate"). Of its PID namespace only children will be.
///
/// IPC, UTS and network are the supervisor's own, for it lives in the pod; a `detached` child joins what it is told.
pub(crate) fn enter(target: BorrowedFd<'_>, pid: Option<&OwnedFd>, detached: Option<&Detached>) -> Step {
    let mut wanted =
        detached.map_or(namespace::MOUNT, |d| d.namespaces & !(namespace::PID | namespace::CGROUP));
    if wanted & namespace::USER != 0 && !rustix::process::geteuid().is_root() {
        // An ordinary user owns it from inside its user namespace only.
        wanted |= namespace::PID;
    } else if let Some(pid) = pid {
        sys::process::setns(pid.as_fd(), namespace::PID)
            .tried(|| "cannot join the container's PID namespace (did it end?)".into())?;
    }
    // All at once: those that belong to the node's user namespace are then joined with the node's rights (setns(2)).
    sys::process::setns(target, wanted).tried(|| "cannot enter the container (did it end?)".into())
}

/// Becomes the program in the container that was entered or reports why not. Never returns.
pub(crate) fn run(
    prepared: Option<Prepared>,
    target: BorrowedFd<'_>,
    inherited: &Inherited,
    detached: Option<&Detached>,
    report: &Sender,
) -> ! {
    let prepared = prepared.ok_or_else(|| Failure::system("the exec was not prepared"));
    let failure =
        match prepared.and_then(|prepared| become_process(&prepared, target, inherited, detached, report)) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
    last_word(failure, detached, report)
}

fn become_process(
    prepared: &Prepared,
    target: BorrowedFd<'_>,
    inherited: &Inherited,
    detached: Option<&Detached>,
    report: &Sender,
) -> Step<std::convert::Infallible> {
    if detached.is_none() {
        sys::process::die_with_parent().tried(|| "cannot tie the process to its supervisor".into())?;
    }
    // Not before the fork: a group that is full takes a process that moves in, and not one that is born in it.
    join_cgroups(&inherited.cgroup_tasks)?;
    if detached.is_none_or(|d| d.namespaces & namespace::CGROUP != 0) {
        sys::process::setns(target, namespace::CGROUP)
            .tried(|| "cannot enter the container's cgroup namespace (did it end?)".into())?;
    }
    rustix::process::setsid().tried(|| "cannot start a session".into())?;
    if detached.is_some_and(|d| d.namespaces & namespace::USER != 0) {
        namespaces::become_root()?;
    }
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .tried(|| "cannot open the container's root".into())?;
    let process = &prepared.plan.process;
    let who = user::resolve(&root, &process.user)?;
    if let Some(warmer) = &inherited.warmer {
        warmer.ask(root.as_fd(), process);
    }
    finish(Ending {
        process,
        who: &who,
        stdio: &inherited.stdio,
        null: &prepared.null,
        labels: &credentials::Labels::default(),
        console: None,
        hooks: None,
        detached,
        report,
    })
}
