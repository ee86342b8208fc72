//! The supervisor's half of a launch: it forks into the right namespaces and gives the child its part.

use crate::detached::{self, Detached};
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
            init::run(plan, inherited, None, &sender)
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
            exec::run(plan, target, inherited, None, &sender)
        }
        Fork::Parent(child) => Ok(Launching { child, report: receiver }),
    }
}

/// A detached child that has done nothing yet: it waits for [`Held::release`], and ends if that never comes.
/// Meanwhile its id can be recorded, and hooks can work on its namespaces.
#[derive(Debug)]
pub struct Held {
    launching: Launching,
    go: OwnedFd,
}

impl Held {
    /// The child.
    pub fn child(&self) -> &Child {
        &self.launching.child
    }

    /// Lets the child go on.
    pub fn release(self) -> Step<Launching> {
        detached::open(&self.go)?;
        Ok(self.launching)
    }
}

/// As [`launch`], for a caller that leaves while the container lives.
pub fn launch_detached(
    plan: &OwnedFd,
    into: &ForkInto,
    inherited: Inherited,
    detached: &Detached,
) -> Step<Held> {
    let (sender, receiver) = report::pair()?;
    let (wait, go) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).tried(|| "cannot make a pipe".into())?;
    match fork_into(into)? {
        Fork::Child => {
            drop(receiver);
            // Else the pipe would never end for the child that waits on it.
            drop(go);
            if detached::wait(&wait).is_err() {
                // Whoever started it is dead, and nothing was done yet.
                sys::process::exit_now(1)
            }
            init::run(plan, inherited, Some(detached), &sender)
        }
        Fork::Parent(child) => Ok(Held { launching: Launching { child, report: receiver }, go }),
    }
}

/// As [`join`], for a caller that leaves while the process lives, and that is not in the container's
/// IPC, UTS and network namespaces itself.
pub fn join_detached(
    plan: &OwnedFd,
    target: BorrowedFd<'_>,
    into: &ForkInto,
    inherited: &Inherited,
    detached: &Detached,
) -> Step<Launching> {
    let (sender, receiver) = report::pair()?;
    match fork_into(into)? {
        Fork::Child => {
            drop(receiver);
            exec::run(plan, target, inherited, Some(detached), &sender)
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
    if !matches!(forked, Ok(Fork::Child)) && sys::process::setns(own.as_fd(), namespace::PID).is_err() {
        // Every later child would be born in this container. A pod that ends is seen; this would not be.
        eprintln!("cannot return to the supervisor's own PID namespace; giving up");
        sys::process::exit_now(70);
    }
    forked
}
