//! User namespaces that nobody lives in: only their mappings are wanted, for idmapped mounts
//! (mount_setattr(2), `MOUNT_ATTR_IDMAP`). Never used for a container's own namespace.

use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{fs, io};

/// A user namespace with these mappings, in the form of `/proc/PID/uid_map` (user_namespaces(7)).
///
/// A child is made in the new namespace, does nothing, and is ended as soon as the namespace is open. The
/// caller's `/proc` has to show the caller's processes. May be called with several threads.
///
/// # Errors
/// What the system says; `EPERM` or `EINVAL` mostly means that the caller may not make these mappings.
pub fn with_mappings(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let helper = Helper::start()?;
    let folder = format!("/proc/{}", helper.pid_in_proc()?);
    fs::write(format!("{folder}/uid_map"), uid_map)?;
    fs::write(format!("{folder}/gid_map"), gid_map)?;
    Ok(fs::File::open(format!("{folder}/ns/user"))?.into())
}

/// The child; it ends with this value, or with its parent.
struct Helper {
    pidfd: OwnedFd,
    /// The child waits for its end, which comes with this process's end at the latest.
    _hold: OwnedFd,
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (wait, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut pidfd: i32 = -1;
        let flags = libc::CLONE_NEWUSER | libc::CLONE_PIDFD;
        // SAFETY: clone(2) without CLONE_VM and without a stack continues here on copies of memory and stack, as
        // fork(2) does; CLONE_PIDFD makes the kernel write one int to `pidfd`, which outlives the call. Its exit
        // signal is 0, so that no handler of the caller's hears of it. The first three arguments have one order
        // on every architecture; the others are unused and 0.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, std::ptr::from_mut(&mut pidfd), 0, 0) };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let mut byte = 0u8;
                // SAFETY: the child of a process that may have several threads: it makes system calls only, which
                // are async-signal-safe, on descriptors of its own and one byte that lives, and never returns.
                unsafe {
                    libc::close(hold.as_raw_fd());
                    libc::read(wait.as_raw_fd(), std::ptr::from_mut(&mut byte).cast(), 1);
                    libc::_exit(0)
                }
            }
            // SAFETY: the kernel stored a new descriptor that nobody else owns.
            _ => Ok(Self { pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, _hold: hold }),
        }
    }

    /// The child's number as `/proc` counts: that may be another namespace's proc than the caller is in, which
    /// knows both of them by other numbers (pidfd_open(2), `fdinfo`).
    fn pid_in_proc(&self) -> io::Result<u32> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd()))?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        pid.filter(|pid| *pid != 0).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let pidfd = self.pidfd.as_raw_fd();
        // SAFETY: pidfd_send_signal(2) with integers and no siginfo, on a descriptor that is open.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd, libc::SIGKILL, std::ptr::null::<u8>(), 0)
        };
        // SAFETY: waitid(2) fills one siginfo that lives for the call; all-zero is a valid value of it.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            while libc::waitid(
                libc::P_PIDFD,
                pidfd as libc::id_t,
                std::ptr::from_mut(&mut info),
                libc::WEXITED | libc::__WALL,
            ) != 0
                && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
            {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_outlives_the_child_that_made_it() {
        match with_mappings("0 100000 10\n", "0 200000 10\n") {
            Ok(namespace) => {
                let link = fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd())).expect("link");
                assert!(link.to_string_lossy().starts_with("user:["), "{}", link.display());
                assert_ne!(link, fs::read_link("/proc/self/ns/user").expect("own"));
            }
            Err(error) => {
                eprintln!("SKIPPED: user namespaces with mappings are not to be had here: {error}")
            }
        }
    }

    #[test]
    fn mappings_that_the_kernel_refuses_leave_no_child() {
        with_mappings("0 0 0\n", "0 0 1\n").expect_err("an empty range");
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        assert_eq!(children.trim(), "");
    }
}
