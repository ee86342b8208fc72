//! One more process in a running container: joins its namespaces by a pidfd, then ends as a first process does.

use crate::detached::Detached;
use crate::failure::{Failure, Step, Tried};
use crate::init::{Inherited, finish, join_cgroups, last_word, read_plan};
use crate::plan::{ExecPlan, PLAN_VERSION};
use crate::report::Sender;
use crate::{credentials, user};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use sys::process::namespace;

/// Becomes the program in the container of `target` or reports why not. Never returns.
///
/// The PID namespace was joined by the supervisor before it forked (setns(2): it counts for children only);
/// IPC, UTS and network are the supervisor's own, for it lives in the pod; a `detached` child joins the target's.
pub fn run(
    plan: &OwnedFd,
    target: BorrowedFd<'_>,
    inherited: &Inherited,
    detached: Option<&Detached>,
    report: &Sender,
) -> ! {
    let failure = match become_process(plan, target, inherited, detached, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    last_word(failure, detached, report)
}

fn become_process(
    plan: &OwnedFd,
    target: BorrowedFd<'_>,
    inherited: &Inherited,
    detached: Option<&Detached>,
    report: &Sender,
) -> Step<std::convert::Infallible> {
    if detached.is_none() {
        sys::process::die_with_parent().tried(|| "cannot tie the process to its supervisor".into())?;
    }
    let plan: ExecPlan = read_plan(plan)?;
    if plan.version != PLAN_VERSION {
        return Err(Failure::system(format!(
            "the exec plan is of version {}, this supervisor knows {PLAN_VERSION}",
            plan.version
        )));
    }
    join_cgroups(&inherited.cgroup_tasks)?;
    credentials::set_oom_score(&plan.process, report)?;
    rustix::process::setsid().tried(|| "cannot start a session".into())?;
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .tried(|| "cannot open the node's /dev/null".into())?;
    let mut namespaces = namespace::MOUNT | namespace::CGROUP;
    if detached.is_some() {
        namespaces |= namespace::IPC | namespace::UTS | namespace::NETWORK;
    }
    sys::process::setns(target, namespaces).tried(|| "cannot enter the container (did it end?)".into())?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .tried(|| "cannot open the container's root".into())?;
    let who = user::resolve(&root, &plan.process.user)?;
    finish(&plan.process, &who, &inherited.stdio, &null, None, detached, report)
}
