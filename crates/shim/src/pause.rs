//! The first process of a PID namespace that all containers of a pod share. It reaps orphans and does
//! nothing else; it ends with the shim.

use container::Failure;
use container::failure::Tried;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, wait};
use std::os::fd::AsFd;
use sys::process::{Child, Fork, namespace};

/// Forks it.
pub fn start() -> Result<Child, Failure> {
    match sys::process::fork(namespace::PID, None).tried(|| "cannot make the pod's PID namespace".into())? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => {
            let _ = sys::process::die_with_parent();
            let _ = rustix::thread::set_name(c"corten-pause");
            let _ = rustix::process::setsid();
            reap_forever()
        }
    }
}

fn reap_forever() -> ! {
    let Ok(children) = sys::signal::child_exits() else { sys::process::exit_now(1) };
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if poll(&mut [PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN)], None).is_ok() {
            let mut pending = [0; 128];
            while rustix::io::read(&children, &mut pending).is_ok() {}
        }
    }
}
