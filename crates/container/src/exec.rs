//! One more process in a running container: joins its namespaces by a pidfd, then ends as a first process does.

use crate::failure::{Failure, Step, Tried};
use crate::init::{Inherited, finish, join_cgroups, read_plan};
use crate::plan::{ExecPlan, PLAN_VERSION};
use crate::report::{Report, Sender};
use crate::user;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use sys::process::namespace;

/// Becomes the program in the container of `target` or reports why not. Never returns.
///
/// The PID namespace was joined by the supervisor before it forked (setns(2): it counts for children only);
/// IPC, UTS and network are the supervisor's own, for it lives in the pod.
pub fn run(plan: &OwnedFd, target: BorrowedFd<'_>, inherited: &Inherited, report: &Sender) -> ! {
    let failure = match become_process(plan, target, inherited, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let _ = report.send(&Report::Failed(failure), None);
    sys::process::exit_now(1)
}

fn become_process(
    plan: &OwnedFd,
    target: BorrowedFd<'_>,
    inherited: &Inherited,
    report: &Sender,
) -> Step<std::convert::Infallible> {
    sys::process::die_with_parent().tried(|| "cannot tie the process to its supervisor".into())?;
    let plan: ExecPlan = read_plan(plan)?;
    if plan.version != PLAN_VERSION {
        return Err(Failure::system(format!(
            "the exec plan is of version {}, this supervisor knows {PLAN_VERSION}",
            plan.version
        )));
    }
    join_cgroups(&inherited.cgroup_tasks)?;
    rustix::process::setsid().tried(|| "cannot start a session".into())?;
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .tried(|| "cannot open the node's /dev/null".into())?;
    sys::process::setns(target, namespace::MOUNT | namespace::CGROUP)
        .tried(|| "cannot enter the container (did it end?)".into())?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .tried(|| "cannot open the container's root".into())?;
    let who = user::resolve(&root, &plan.process.user)?;
    finish(&plan.process, &who, &inherited.stdio, &null, report)
}
