//! The first process of a PID namespace that all containers of a pod share. It reaps orphans and does
//! nothing else; it ends with the shim.
//!
//! Containers of the pod see it and may be allowed to trace it, so it holds nothing of the node's: an empty root of
//! its own, no descriptors, no capabilities.

use container::Failure;
use container::failure::{Step, Tried};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use rustix::process::{WaitOptions, wait};
use std::os::fd::AsFd;
use sys::process::{Child, Fork, namespace};

/// Forks it, and waits until it holds nothing any more.
pub fn start() -> Result<Child, Failure> {
    let (sender, receiver) = container::report::pair()?;
    match sys::process::fork(namespace::PID | namespace::MOUNT, None)
        .tried(|| "cannot make the pod's PID namespace".into())?
    {
        Fork::Parent(child) => {
            drop(sender);
            match receiver.receive()? {
                // The end without a word is the sign: its end of the pair was closed with all the rest.
                None => Ok(child),
                Some((container::report::Report::Failed(failure), _)) => Err(failure),
                Some(_) => Err(shim_protocol::system("the pod's first process said something unexpected")),
            }
        }
        Fork::Child => {
            drop(receiver);
            let failure = match isolate() {
                Ok(children) => {
                    // Closes the report, too: nothing but the signals' descriptor stays.
                    let closed =
                        sys::process::close_others_and(0, &[children.as_fd()], || reap_forever(&children));
                    shim_protocol::system(format!("cannot close the pod's first process off: {closed:?}"))
                }
                Err(failure) => failure,
            };
            let _ = sender.send(&container::report::Report::Failed(failure), None);
            sys::process::exit_now(1)
        }
    }
}

/// Gives up everything of the node's; answers where the ends of children are told.
fn isolate() -> Step<OwnedFd> {
    sys::process::die_with_parent().tried(|| "cannot tie the pod's first process to the shim".into())?;
    let _ = rustix::thread::set_name(c"corten-pause");
    let _ = rustix::process::setsid();
    let children = sys::signal::child_exits().tried(|| "cannot listen to children".into())?;
    container::root::detach_from_node()?;
    empty_root().tried(|| "cannot make an empty root".into())?;
    rustix::thread::set_no_new_privs(true).tried(|| "cannot set no_new_privs".into())?;
    sys::process::set_capabilities(0, 0, 0).tried(|| "cannot drop capabilities".into())?;
    // Dropping capabilities leaves it as it was: nobody without them may look at this process.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .tried(|| "cannot hide the pod's first process".into())?;
    Ok(children)
}

fn empty_root() -> Result<(), rustix::io::Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "nr_inodes", "2")?;
    fsconfig_set_string(&fs, "mode", "0555")?;
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // Anywhere does: it is this process's own mount namespace. The working directory is the pod's folder.
    move_mount(&root, "", rustix::fs::CWD, ".", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

fn reap_forever(children: &OwnedFd) -> std::convert::Infallible {
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if poll(&mut [PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN)], None).is_ok() {
            let mut pending = [0; 128];
            while rustix::io::read(children, &mut pending).is_ok() {}
        }
    }
}
