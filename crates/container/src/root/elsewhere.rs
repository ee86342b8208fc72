//! A mount made in a mount namespace that goes with it: what older kernels want attached for a moment is never in the
//! caller's mount table, nor in that of anybody whose mounts are peers of the caller's. A kill at any moment leaves nothing,
//! for the namespace goes with its last process.

use crate::failure::{Failure, Step, Tried};
use crate::report::{Receiver, Report, pair};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::process::{Child, Fork, namespace};

/// Runs `make` where nobody sees it and takes the mount that it makes, which has to be attached nowhere: such a mount
/// outlives the namespace that it was made in.
///
/// A child does it. A caller with several threads must not fork, and one of them of its own does it.
pub(super) fn elsewhere(make: impl FnOnce() -> Step<OwnedFd> + Send) -> Step<OwnedFd> {
    let (sender, receiver) = pair()?;
    match sys::process::fork(namespace::MOUNT, None) {
        Ok(Fork::Child) => {
            drop(receiver);
            // A mount that hangs must not outlive the one that waits for it.
            let made = sys::process::die_with_parent()
                .tried(|| "cannot tie the process that mounts the layers to its supervisor".into())
                .and_then(|()| super::detach_from_node())
                .and_then(|()| make());
            let told = match made {
                Ok(mount) => sender.send(&Report::Mounted, Some(mount.as_fd())),
                Err(failure) => sender.send(&Report::Failed(failure), None),
            };
            sys::process::exit_now(i32::from(told.is_err()))
        }
        Ok(Fork::Parent(child)) => {
            drop(sender);
            made_by(&child, &receiver)
        }
        Err(error) if error.raw_os_error() == Some(Errno::DEADLK.raw_os_error()) => in_a_thread(make),
        Err(error) => Err(error).tried(|| "cannot make a process that mounts the layers".into()),
    }
}

fn made_by(child: &Child, receiver: &Receiver) -> Step<OwnedFd> {
    let said = receiver.receive();
    let _ = retry_on_intr(|| waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED));
    match said? {
        Some((Report::Mounted, Some(mount))) => Ok(mount),
        Some((Report::Failed(failure), _)) => Err(failure),
        _ => Err(Failure::system("the process that mounts the layers ended before it did")),
    }
}

/// A thread may leave the others' mount namespace; with that it has a working directory and a root of its own, too
/// (unshare(2), `CLONE_NEWNS`), and ends with both.
fn in_a_thread(make: impl FnOnce() -> Step<OwnedFd> + Send) -> Step<OwnedFd> {
    std::thread::scope(|scope| {
        let apart = || {
            sys::process::unshare(namespace::MOUNT).tried(|| "cannot make a mount namespace".into())?;
            super::detach_from_node()?;
            make()
        };
        let thread = std::thread::Builder::new()
            .name("mounts".into())
            .spawn_scoped(scope, apart)
            .tried(|| "cannot start a thread that mounts the layers".into())?;
        thread.join().unwrap_or_else(|_| Err(Failure::system("the thread that mounts the layers broke off")))
    })
}
