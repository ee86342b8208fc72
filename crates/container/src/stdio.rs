//! Standard input, output and error of a new process: given descriptors, or a terminal of the container's own.

use crate::failure::{Failure, Step, Tried};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;

/// What a process gets as its standard descriptors; what is missing is `/dev/null`.
#[derive(Debug, Default)]
pub struct Stdio {
    /// 0.
    pub stdin: Option<OwnedFd>,
    /// 1.
    pub stdout: Option<OwnedFd>,
    /// 2.
    pub stderr: Option<OwnedFd>,
}

/// Puts the descriptors at 0, 1 and 2. `null` is the node's `/dev/null`, opened before the root changed.
pub fn install(stdio: &Stdio, null: &OwnedFd) -> Step {
    for (fd, target) in [(&stdio.stdin, 0), (&stdio.stdout, 1), (&stdio.stderr, 2)] {
        let source = fd.as_ref().unwrap_or(null);
        sys::process::set_stdio(source.as_fd(), target)
            .tried(|| format!("cannot set descriptor {target}"))?;
    }
    Ok(())
}

/// A new terminal pair from the container's own `/dev/pts`, made the controlling terminal of this session.
/// The master goes back to the supervisor.
pub fn open_terminal(size: Option<(u16, u16)>, uid: u32) -> Step<OwnedFd> {
    let open = |path: &str| {
        rustix::fs::open(
            path,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            rustix::fs::Mode::empty(),
        )
    };
    let master = open("/dev/pts/ptmx")
        .tried(|| "cannot open /dev/pts/ptmx for the terminal; is devpts mounted?".into())?;
    let name = rustix::pty::ptsname(&master, Vec::new()).tried(|| "cannot name the terminal".into())?;
    rustix::pty::unlockpt(&master).tried(|| "cannot unlock the terminal".into())?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .tried(|| format!("cannot open the terminal {name:?}"))?;
    if let Some((rows, columns)) = size {
        sys::process::set_window_size(slave.as_fd(), rows, columns)
            .tried(|| "cannot size the terminal".into())?;
    }
    // The program may reopen its terminal by name after it has dropped privileges, as su and ssh do.
    rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None)
        .tried(|| "cannot give the terminal to the user".into())?;
    rustix::process::ioctl_tiocsctty(&slave)
        .map_err(|e| Failure::system(format!("cannot take the terminal: {}", crate::failure::describe(e))))?;
    for target in 0..3 {
        sys::process::set_stdio(slave.as_fd(), target).tried(|| format!("cannot set descriptor {target}"))?;
    }
    Ok(master)
}
