//! Signals: all blocked and read from a descriptor in a supervisor, all as at birth in a container's process.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::io;

/// Blocks every signal for this thread and threads made later.
pub fn block_all() -> io::Result<()> {
    // SAFETY: sigfillset initialises the set before sigprocmask reads it.
    let done = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The standard signals to their default action and none blocked: what a new program expects. Rust's runtime ignores
/// SIGPIPE, and ignored signals outlive exec.
pub fn restore_defaults() -> io::Result<()> {
    // Handlers go with the exec; what stays ignored is what the caller or the runtime of Rust ignores (SIGPIPE). Signals
    // from 32 on have no customary meaning and are left to the caller.
    for signal in 1..32 {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        // SAFETY: SIG_DFL is valid for every signal but KILL and STOP.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it.
    let done = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor that is readable when SIGCHLD is pending (signalfd(2)); non-blocking, close-on-exec.
pub fn child_exits() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before use; -1 asks for a new descriptor, which is owned by nobody else.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        match libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Sends a signal by its number to the process of a pidfd (pidfd_send_signal(2)).
pub fn send(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: integers and a null siginfo pointer, which the call allows.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
