//! The supervisor's half of a launch: it forks into the right namespaces and gives the child its part.

use crate::detached::{self, Detached};
use crate::failure::{Failure, Step, Tried};
use crate::init::Inherited;
use crate::namespaces::{self, Visit};
use crate::plan::{Namespace, Namespaces};
use crate::report::{self, Receiver};
use crate::staged::{self, Stage};
use crate::{exec, init, user_map};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::DumpableBehavior;
use sys::process::{Child, Fork, namespace};

pub use crate::namespaces::new_bits as new_namespaces;

/// A child that is becoming a container's process. Its reports come on `report`; the end of them without a
/// failure means that the program runs.
#[derive(Debug)]
pub struct Launching {
    /// The child.
    pub child: Child,
    /// Where it reports.
    pub report: Receiver,
    /// What lets a child that paused go on.
    go: Option<OwnedFd>,
}

impl Launching {
    /// Lets a child go on that has reported [`crate::report::Report::Mounted`].
    pub fn go_on(&self) -> Step {
        self.go.as_ref().map_or(Ok(()), detached::open)
    }
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

/// Starts a container's first process from an encoded [`crate::plan::LaunchPlan`].
pub fn launch(plan: &OwnedFd, into: &ForkInto, mut inherited: Inherited) -> Step<Launching> {
    // Mostly the child alone reads the plan, to keep the supervisor's heap small.
    if init::wants_preparation(plan)? {
        inherited.sources = crate::mounts::prepare(&init::read_plan(plan)?)?;
    }
    let (sender, receiver) = report::pair()?;
    match fork_into(into)? {
        Fork::Child => {
            drop(receiver);
            init::run(plan, inherited, None, &sender)
        }
        Fork::Parent(child) => Ok(Launching { child, report: receiver, go: None }),
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
    join_by(plan, target, into, inherited, None)
}

/// By a process in between, see [`exec`].
fn join_by(
    plan: &OwnedFd,
    target: BorrowedFd<'_>,
    into: &ForkInto,
    inherited: &Inherited,
    detached: Option<&Detached>,
) -> Step<Launching> {
    let (sender, receiver) = report::pair()?;
    let prepared = std::cell::Cell::new(None);
    let enter = || {
        prepared.set(Some(exec::prepare(plan, &sender)?));
        exec::enter(target, into.pid.as_ref(), detached)
    };
    match staged::fork(&Stage::Enter(&enter), into.cgroup.as_ref(), &sender, &receiver, &mut 0)? {
        Fork::Child => {
            drop(receiver);
            exec::run(prepared.take(), target, inherited, detached, &sender)
        }
        Fork::Parent(child) => Ok(Launching { child, report: receiver, go: None }),
    }
}

/// A detached child that has done nothing yet: it waits for [`Held::release`], and ends if that never comes.
/// Meanwhile its id can be recorded, and hooks can work on its namespaces.
#[derive(Debug)]
pub struct Held {
    launching: Launching,
}

impl Held {
    /// The child.
    pub fn child(&self) -> &Child {
        &self.launching.child
    }

    /// Lets the child go on.
    pub fn release(self) -> Step<Launching> {
        self.launching.go_on()?;
        Ok(self.launching)
    }
}

/// As [`launch`], for a caller that leaves while the container lives. Namespaces of every kind are made and joined as
/// `wanted`, which is the plan's, says; the ids of a new user namespace are mapped when this comes back.
pub fn launch_detached(
    plan: &OwnedFd,
    wanted: &Namespaces,
    cgroup: Option<OwnedFd>,
    inherited: Inherited,
    mut detached: Detached,
) -> Step<Held> {
    let (sender, receiver) = report::pair()?;
    let (wait, go) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).tried(|| "cannot make a pipe".into())?;
    // An ordinary user may write the ids of a dumpable process only; the files of others are root's (proc(5)).
    let shown = wanted.user == Namespace::New && !rustix::process::geteuid().is_root();
    if shown {
        set_dumpable(DumpableBehavior::Dumpable)?;
    }
    let forked = if staged::is_needed(wanted) {
        let stage = Stage::Launch(wanted);
        staged::fork(&stage, cgroup.as_ref(), &sender, &receiver, &mut detached.joined)
    } else {
        fork_straight(wanted, cgroup.as_ref(), &mut detached.joined)
    };
    if let Ok(Fork::Child) = forked {
        drop(receiver);
        // Else the pipe would never end for the child that waits on it.
        drop(go);
        if detached::wait(&wait).is_err() || (shown && set_dumpable(DumpableBehavior::NotDumpable).is_err()) {
            // Whoever started it is dead, and nothing was done yet.
            sys::process::exit_now(1)
        }
        detached.mounted = detached.pauses.then_some(wait);
        init::run(plan, inherited, Some(&detached), &sender)
    }
    let mapped = match &forked {
        Ok(Fork::Parent(child)) if wanted.user == Namespace::New && !staged::is_needed(wanted) => {
            user_map::write(child.pid, &wanted.uid_mappings, &wanted.gid_mappings)
        }
        _ => Ok(()),
    };
    if shown {
        set_dumpable(DumpableBehavior::NotDumpable)?;
    }
    match forked? {
        Fork::Parent(child) => {
            mapped?;
            Ok(Held { launching: Launching { child, report: receiver, go: Some(go) } })
        }
        Fork::Child => Err(Failure::system("a child came back")),
    }
}

/// One clone3, and for what cannot be joined later, a visit of the caller to the namespace.
fn fork_straight(wanted: &Namespaces, cgroup: Option<&OwnedFd>, joined: &mut u64) -> Step<Fork> {
    // A PID namespace counts for children only, and from inside a new user namespace nothing else can be joined.
    let from_here = if wanted.user == Namespace::New { !namespace::MOUNT } else { namespace::PID };
    let joins = namespaces::open(wanted, from_here)?;
    let visit = Visit::enter(&joins)?;
    *joined |= joins.iter().fold(0, |all, join| all | join.bit());
    let forked = sys::process::fork(namespaces::new_bits(wanted), cgroup.map(AsFd::as_fd))
        .tried(|| "cannot make the container's process".into());
    if !matches!(forked, Ok(Fork::Child)) {
        visit.leave();
    }
    forked
}

fn set_dumpable(dumpable: DumpableBehavior) -> Step {
    rustix::process::set_dumpable_behavior(dumpable)
        .tried(|| "cannot change whether this process may be looked at".into())
}

/// As [`join`], for a caller that leaves while the process lives, and that is not in the container's namespaces
/// itself: `detached.namespaces` are joined.
pub fn join_detached(
    plan: &OwnedFd,
    target: BorrowedFd<'_>,
    into: &ForkInto,
    inherited: &Inherited,
    detached: Detached,
) -> Step<Launching> {
    join_by(plan, target, into, inherited, Some(&detached))
}

fn fork_into(into: &ForkInto) -> Step<Fork> {
    let cgroup = into.cgroup.as_ref().map(AsFd::as_fd);
    let fork = || sys::process::fork(into.new, cgroup).tried(|| "cannot make the container's process".into());
    let Some(pid) = &into.pid else { return fork() };
    // Joining counts for children only, so the supervisor itself stays where it is; it returns at once so
    // that the next child is not born there. The parent half alone runs the way back.
    let visit = Visit::enter_pid(pid)?;
    let forked = fork();
    if !matches!(forked, Ok(Fork::Child)) {
        visit.leave();
    }
    forked
}
