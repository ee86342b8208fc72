//! The supervisor's half of a launch: it forks into the right namespaces and gives the child its part.

use crate::failure::{Failure, Step, Tried};
use crate::init::Inherited;
use crate::plan::{Namespace, Namespaces};
use crate::report::{self, Receiver};
use crate::{exec, init};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use sys::process::{Child, Fork, namespace};

/// A child that is becoming a container's process. Its reports come on `report`; the end of them without a
/// failure means that the program runs.
#[derive(Debug)]
pub struct Launching {
    /// The child.
    pub child: Child,
    /// Where it reports.
    pub report: Receiver,
}

/// How to fork for a plan: which namespaces are new, and which PID namespace is joined.
#[derive(Debug, Default)]
pub struct ForkInto {
    /// `CLONE_NEW*` bits.
    pub new: u64,
    /// A PID namespace for the child, where it is neither new nor the supervisor's.
    pub pid: Option<OwnedFd>,
    /// A cgroup v2 directory.
    pub cgroup: Option<OwnedFd>,
}

/// The bits of namespaces that a plan wants new at the fork. The cgroup namespace is not among them: it has
/// to be made after the cgroup is joined.
pub fn new_namespaces(wanted: &Namespaces) -> u64 {
    let bits = [
        (&wanted.mount, namespace::MOUNT),
        (&wanted.pid, namespace::PID),
        (&wanted.ipc, namespace::IPC),
        (&wanted.uts, namespace::UTS),
        (&wanted.network, namespace::NETWORK),
    ];
    let new = bits.iter().filter(|(ns, _)| **ns == Namespace::New).fold(0, |all, (_, bit)| all | bit);
    // A container without a mount namespace of its own would change the node's mounts.
    new | namespace::MOUNT
}

/// Starts a container's first process from an encoded [`crate::plan::LaunchPlan`].
pub fn launch(plan: &OwnedFd, into: &ForkInto, inherited: Inherited) -> Step<Launching> {
    let (sender, receiver) = report::pair()?;
    match fork_into(into)? {
        Fork::Child => {
            drop(receiver);
            init::run(plan, inherited, &sender)
        }
        Fork::Parent(child) => Ok(Launching { child, report: receiver }),
    }
}

/// Starts one more process in the container of `target` from an encoded [`crate::plan::ExecPlan`].
/// `into.pid` has to be the container's PID namespace where it has one of its own.
pub fn join(
    plan: &OwnedFd,
    target: BorrowedFd<'_>,
    into: &ForkInto,
    inherited: &Inherited,
) -> Step<Launching> {
    let (sender, receiver) = report::pair()?;
    match fork_into(into)? {
        Fork::Child => {
            drop(receiver);
            exec::run(plan, target, inherited, &sender)
        }
        Fork::Parent(child) => Ok(Launching { child, report: receiver }),
    }
}

fn fork_into(into: &ForkInto) -> Step<Fork> {
    let cgroup = into.cgroup.as_ref().map(AsFd::as_fd);
    let fork = || sys::process::fork(into.new, cgroup).tried(|| "cannot make the container's process".into());
    let Some(pid) = &into.pid else { return fork() };
    // Joining counts for children only, so the supervisor itself stays where it is; it returns at once so
    // that the next child is not born there. The parent half alone runs the way back.
    let own = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .tried(|| "cannot open the supervisor's PID namespace".into())?;
    sys::process::setns(pid.as_fd(), namespace::PID).map_err(|e| {
        Failure::request(format!("cannot join the container's PID namespace (did it end?): {e}"))
    })?;
    let forked = fork();
    if !matches!(forked, Ok(Fork::Child)) {
        sys::process::setns(own.as_fd(), namespace::PID)
            .tried(|| "cannot return to the supervisor's PID namespace".into())?;
    }
    forked
}
