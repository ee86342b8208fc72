//! A fork by way of a process in between, where one clone3 cannot do: it enters or makes the namespaces that the
//! child has to be born in, forks the child as its own sibling, and is gone. The child is the caller's either way.

use crate::detached;
use crate::failure::{Failure, Step, Tried};
use crate::namespaces::{self, Visit};
use crate::plan::{Namespace, Namespaces};
use crate::report::{Receiver, Report, Sender};
use crate::user_map;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use sys::process::{Child, Fork, namespace};

/// What the process in between does.
pub(crate) enum Stage<'a> {
    /// For a first process: joins by path, clocks, ids.
    Launch(&'a Namespaces),
    /// For one more process of a container: this, which enters the container's namespaces.
    Enter(&'a dyn Fn() -> Step),
}

/// Whether a first process needs the process in between.
pub(crate) fn is_needed(wanted: &Namespaces) -> bool {
    matches!(wanted.user, Namespace::Path(_)) || namespaces::has_offsets(wanted)
}

/// Forks. In the child, the bits of the namespaces that were joined are in `joined`.
pub(crate) fn fork(
    stage: &Stage<'_>,
    cgroup: Option<&OwnedFd>,
    sender: &Sender,
    receiver: &Receiver,
    joined: &mut u64,
) -> Step<Fork> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).tried(|| "cannot make a pipe".into());
    let ((wait, go), (told, tell)) = (pipe()?, pipe()?);
    let (mut first, mut visit) = (0, None);
    if let Stage::Launch(wanted) = stage
        && wanted.user == Namespace::New
    {
        // Nothing of the caller's user namespace can be joined from inside a new one.
        let joins = namespaces::open(wanted, !(namespace::MOUNT | namespace::USER))?;
        visit = Some(Visit::enter(&joins)?);
        *joined = bits(&joins);
        first = namespace::USER;
    }
    // A child that is not held must be in its cgroup from its birth on. The process in between never is: in a
    // group that is frozen or throttled it would keep the caller waiting.
    let (at_once, after) = if matches!(stage, Stage::Enter(_)) { (cgroup, None) } else { (None, cgroup) };
    let forked = sys::process::fork(first, None).tried(|| "cannot make the container's process".into());
    if let (Some(visit), Ok(Fork::Parent(_)) | Err(_)) = (visit, &forked) {
        visit.leave();
    }
    match forked? {
        Fork::Child => {
            drop((go, told));
            if detached::wait(&wait).is_err() {
                sys::process::exit_now(1);
            }
            match run(stage, at_once, joined) {
                Ok(Some(pid)) => {
                    let _ = rustix::io::write(&tell, &pid.to_ne_bytes());
                    sys::process::exit_now(0)
                }
                Ok(None) => Ok(Fork::Child),
                Err(failure) => {
                    let _ = sender.send(&Report::Failed(failure), None);
                    sys::process::exit_now(1)
                }
            }
        }
        Fork::Parent(between) => {
            drop((wait, tell));
            let mapped = match stage {
                Stage::Launch(wanted) if first != 0 => {
                    user_map::write(between.pid, &wanted.uid_mappings, &wanted.gid_mappings)
                }
                _ => Ok(()),
            };
            let went = mapped.and_then(|()| detached::open(&go));
            // Without the byte it ends when this end is closed.
            drop(go);
            let number = went.and_then(|()| read_number(&told));
            if number.is_err() {
                let _ = sys::signal::send(between.pidfd.as_fd(), KILL);
            }
            // Not waited for: with its end it may have to unmount what the container has, as a dead volume. Whoever calls
            // takes its children, or ends soon.
            let _ =
                waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            match number? {
                Some(pid) => adopt(pid, after).map(Fork::Parent),
                None => Err(why(receiver)),
            }
        }
    }
}

fn bits(joins: &[namespaces::Join]) -> u64 {
    joins.iter().fold(0, |all, join| all | join.bit())
}

/// In the process in between; `None` in the child.
fn run(stage: &Stage<'_>, cgroup: Option<&OwnedFd>, joined: &mut u64) -> Step<Option<i32>> {
    let new = match stage {
        Stage::Launch(wanted) => {
            let clocks = namespaces::has_offsets(wanted).then(namespaces::open_clocks).transpose()?;
            let joins = namespaces::open(wanted, !*joined)?;
            *joined |= namespaces::enter_all(&joins)?;
            if let Some(clocks) = clocks {
                namespaces::make_time(clocks, &wanted.time_offsets)?;
            }
            // A new user namespace is this process's own already.
            namespaces::new_bits(wanted) & !namespace::USER
        }
        Stage::Enter(enter) => {
            enter()?;
            0
        }
    };
    sys::process::fork_sibling(new, cgroup.map(AsFd::as_fd))
        .tried(|| "cannot make the container's process".into())
}

/// SIGKILL.
const KILL: i32 = 9;
/// How long the process in between may take; a container's root can make it wait (autofs(5)).
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn read_number(told: &OwnedFd) -> Step<Option<i32>> {
    let mut bytes = [0; 4];
    loop {
        match poll(&mut [PollFd::new(told, PollFlags::IN)], Some(&PATIENCE)) {
            Ok(0) => {
                return Err(Failure::system(
                    "the container's namespaces could not be entered within 10 s; does its root hang?",
                ));
            }
            Err(Errno::INTR) => continue,
            _ => {}
        }
        return match rustix::io::read(told, &mut bytes) {
            Err(Errno::INTR) => continue,
            Ok(4) => Ok(Some(i32::from_ne_bytes(bytes))),
            Ok(_) => Ok(None),
            Err(errno) => Err(errno).tried(|| "cannot hear of the container's process".into()),
        };
    }
}

/// The number is of a child of ours that nobody has waited for, so it is still its.
fn adopt(number: i32, cgroup: Option<&OwnedFd>) -> Step<Child> {
    let pid =
        Pid::from_raw(number).ok_or_else(|| Failure::system("the container's process has no number"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .inspect_err(|_| {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        })
        .tried(|| "cannot open the container's process".into())?;
    if let Some(directory) = cgroup {
        rustix::fs::openat(directory, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::write(&file, number.to_string().as_bytes()))
            .tried(|| "cannot move the container's process into its cgroup".into())?;
    }
    Ok(Child { pid: number, pidfd })
}

fn why(receiver: &Receiver) -> Failure {
    while let Ok(Some(Some((report, _)))) = receiver.try_receive() {
        // Warnings may have come before.
        if let Report::Failed(failure) = report {
            return failure;
        }
    }
    Failure::system("the container's process could not be made, and nobody could say why")
}
