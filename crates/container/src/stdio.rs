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
    check_multiplexer(&master)?;
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

/// The multiplexer must be devpts' own, whatever the container put at its path (CVE-2025-52565 is a console that
/// was something else).
fn check_multiplexer(master: &OwnedFd) -> Step {
    /// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
    const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
    let stat = rustix::fs::fstat(master).tried(|| "cannot examine /dev/pts/ptmx".into())?;
    let system = rustix::fs::fstatfs(master).tried(|| "cannot examine /dev/pts/ptmx".into())?;
    if stat.st_rdev != rustix::fs::makedev(5, 2) || system.f_type as u64 != DEVPTS_SUPER_MAGIC {
        return Err(Failure::request(
            "/dev/pts/ptmx of the container is not devpts' multiplexer; no terminal is opened on it",
        ));
    }
    Ok(())
}

/// Shows the terminal at standard input as `/dev/console` (OCI runtime specification, "Default Devices"). `root` is
/// the container's; the mount is of the descriptor, and its target is opened through no link.
pub fn bind_console(root: &OwnedFd) -> Step {
    let point = crate::beneath::make_file(root, "/dev/console")?;
    let kind = crate::beneath::kind(&point).tried(|| "cannot examine /dev/console".into())?;
    if kind == rustix::fs::FileType::Directory {
        return Err(Failure::request("/dev/console of the image is a directory"));
    }
    let console = crate::mounts::clone_mount(rustix::stdio::stdin(), "", false)
        .tried(|| "cannot bind the terminal".into())?;
    crate::mounts::attach(&console, &point).tried(|| "cannot show the terminal at /dev/console".into())
}
