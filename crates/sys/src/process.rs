//! Making processes and replacing them: `clone3(2)` used as a fork, and `execve(2)` that cannot allocate.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::{CStr, CString};
use std::io;

/// Namespaces for [`fork`]; the values are the kernel's `CLONE_NEW*` bits.
pub mod namespace {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// cgroup root.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Host and domain name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// IPC.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Users and groups.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Process ids.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    /// Clocks.
    pub const TIME: u64 = 0x80;
}

const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
/// clone3(2), Linux 5.7.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of `linux/sched.h`, version 2 (88 bytes).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child that [`fork`] made.
#[derive(Debug)]
pub struct Child {
    /// Its process id as the caller's namespace counts.
    pub pid: i32,
    /// A descriptor of it, close-on-exec.
    pub pidfd: OwnedFd,
}

/// Which of the two a process is after [`fork`].
#[derive(Debug)]
pub enum Fork {
    /// The one that called.
    Parent(Child),
    /// The new one. It runs on a copy of the memory, on the same stack.
    Child,
}

/// Makes a child with `clone3`, in new namespaces and, on cgroup v2, inside a cgroup from its first moment.
///
/// The memory is copied (no `CLONE_VM`), so the child may use the heap, provided that no other thread
/// held a lock at that moment. Therefore the call refuses a process that has more than one thread.
///
/// # Errors
/// `EDEADLK` for a process with several threads, else what clone3(2) says.
pub fn fork(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    refuse_threads()?;
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: namespaces | CLONE_PIDFD,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of its own size for the whole call. Without CLONE_VM and with
    // no stack given, the child continues here on its own copy of memory and stack, as after fork(2);
    // CLONE_PIDFD makes the kernel write one int to `pidfd`, which outlives the call. The process has one
    // thread (checked above), so the copied heap and locks are consistent.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), std::mem::size_of::<CloneArgs>())
    };
    let failed = (pid < 0).then(io::Error::last_os_error);
    match (pid, failed.and_then(|error| error.raw_os_error())) {
        // Filters answer so that programs take clone(2), whose flags they can read; what is asked for here fits it.
        (_, Some(libc::ENOSYS)) if namespaces == 0 && cgroup.is_none() => fork_by_clone(),
        (_, Some(code)) => Err(io::Error::from_raw_os_error(code)),
        (0, None) => Ok(Fork::Child),
        // SAFETY: the kernel stored a new descriptor that nobody else owns.
        (pid, None) => {
            Ok(Fork::Parent(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }))
        }
    }
}

fn fork_by_clone() -> io::Result<Fork> {
    let mut pidfd: i32 = -1;
    // SAFETY: as in `fork`. The first three arguments are flags, stack and the place for the pidfd on every machine that
    // is built for; the rest belongs to flags that are not set.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            CLONE_PIDFD | libc::SIGCHLD as u64,
            std::ptr::null_mut::<u8>(),
            std::ptr::from_mut(&mut pidfd),
            0,
            0,
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        // SAFETY: the kernel stored a new descriptor that nobody else owns.
        pid => Ok(Fork::Parent(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

/// As [`fork`], but the new process is the caller's sibling: its parent is the caller's parent, which is told its end
/// (clone(2), `CLONE_PARENT`). Answers the id as the caller's namespace counts, and `None` in the new process.
///
/// # Errors
/// `EDEADLK` for a process with several threads, else what clone3(2) says: `EINVAL` for the first process of a PID
/// namespace.
pub fn fork_sibling(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<i32>> {
    refuse_threads()?;
    // The signal to the parent is the caller's own; clone3(2) wants 0 here.
    let mut args = CloneArgs { flags: namespaces | libc::CLONE_PARENT as u64, ..CloneArgs::default() };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: as in `fork`: a valid clone_args of its own size, a copied memory and stack, one thread; nothing is
    // written back, for CLONE_PIDFD is not set.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut args), std::mem::size_of::<CloneArgs>())
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// Fails with `EDEADLK` where this process has more than one thread. Needs no `/proc`: the kernel refuses to take a
/// thread out of a group that has others, and does nothing for one that is alone (unshare(2), `CLONE_THREAD`).
fn refuse_threads() -> io::Result<()> {
    // SAFETY: no memory, descriptor or namespace of this process changes.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } == 0 {
        return Ok(());
    }
    let busy = io::Error::from_raw_os_error(libc::EDEADLK);
    match io::Error::last_os_error().raw_os_error() {
        // A filter that forbids the call. The link count of `/proc/self/task` less `.` and `..` (proc(5)) says it, too.
        Some(libc::EPERM | libc::ENOSYS) => match rustix::fs::stat(c"/proc/self/task")?.st_nlink {
            0..=3 => Ok(()),
            _ => Err(busy),
        },
        _ => Err(busy),
    }
}

/// Ends the process at once, without running destructors or exit handlers: the only right way out of a
/// forked child that does not exec.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Argument and environment vectors in the form that execve(2) wants, made before privileges are dropped.
pub struct Image {
    _args: Vec<CString>,
    _env: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

impl Image {
    /// Takes ownership of both vectors.
    pub fn new(args: Vec<CString>, env: Vec<CString>) -> Self {
        let pointers = |list: &[CString]| {
            let mut all: Vec<_> = list.iter().map(|text| text.as_ptr()).collect();
            all.push(std::ptr::null());
            all
        };
        let (argv, envp) = (pointers(&args), pointers(&env));
        Self { _args: args, _env: env, argv, envp }
    }

    /// Replaces the process; comes back only with an error.
    pub fn exec(&self, path: &CStr) -> io::Error {
        // SAFETY: `path` is NUL-terminated; argv and envp are arrays of pointers to strings that `self`
        // owns and never changes (a CString's heap data does not move with it), each ending in NULL.
        unsafe { libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Moves this process out of namespaces it shares (`unshare(2)`).
///
/// Only for a process with one thread, where a change of its file-descriptor or memory sharing
/// cannot surprise another; descriptors and memory are never unshared here.
/// A thread may leave the others' mount namespace: from then on it has a working directory of its own, too.
pub fn unshare(namespaces: u64) -> io::Result<()> {
    // SAFETY: only CLONE_NEW* bits pass; none of them changes memory or descriptors of this process.
    let done = unsafe { libc::unshare((namespaces & ALL_NAMESPACES) as i32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const ALL_NAMESPACES: u64 = namespace::MOUNT
    | namespace::CGROUP
    | namespace::UTS
    | namespace::IPC
    | namespace::USER
    | namespace::PID
    | namespace::NETWORK
    | namespace::TIME;

/// Joins namespaces of `fd`: a namespace file (then exactly one bit or 0), or a pidfd (any bits, Linux 5.8).
pub fn setns(fd: BorrowedFd<'_>, namespaces: u64) -> io::Result<()> {
    // SAFETY: setns(2) takes two integers; the descriptor is borrowed for the call.
    let done = unsafe { libc::setns(fd.as_raw_fd(), (namespaces & ALL_NAMESPACES) as i32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: only the close-on-exec flag changes; no descriptor that Rust owns is closed.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from `first` on but those in `keep`, then runs `last`, which never comes back.
///
/// Close-on-exec is not enough before an exec of a path that a container chooses: the path is resolved while
/// the descriptors are still open, and `/proc/self/fd/N/..` leads out of the root (CVE-2024-21626).
///
/// # Errors
/// What close_range(2) (Linux 5.9) says; then `last` was not run, and nothing was closed. A failure after that ends
/// the process.
pub fn close_others_and(
    first: u32,
    keep: &[BorrowedFd<'_>],
    last: impl FnOnce() -> std::convert::Infallible,
) -> io::Result<std::convert::Infallible> {
    struct Never;
    impl Drop for Never {
        fn drop(&mut self) {
            // Unwinding would drop owners of descriptors that are closed.
            std::process::abort();
        }
    }
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    kept.dedup();
    let ends = kept.iter().map(|fd| fd.saturating_sub(1)).chain([u32::MAX]);
    let starts = [first].into_iter().chain(kept.iter().map(|fd| fd + 1));
    let mut closed = false;
    for (from, to) in starts.zip(ends) {
        // Nothing lies between two neighbours, and nothing below descriptor 0.
        if from > to || kept.contains(&to) {
            continue;
        }
        // SAFETY: descriptors are closed behind the back of their owners, but no owner runs again: `last` is
        // given none of them by its caller's contract and never returns, and a panic in it aborts.
        let done = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        if done != 0 && closed {
            exit_now(1);
        }
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        closed = true;
    }
    let _guard = Never;
    // The lint sees that nothing follows; the type checker wants it written down.
    #[allow(unreachable_code)]
    {
        match last() {}
    }
}

/// Makes `target` (0, 1 or 2) a duplicate of `source`, not close-on-exec. For the last steps before exec.
pub fn set_stdio(source: BorrowedFd<'_>, target: i32) -> io::Result<()> {
    if !(0..=2).contains(&target) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    if source.as_raw_fd() == target {
        // dup2 onto itself would leave close-on-exec set.
        // SAFETY: fcntl(2) with integers on a borrowed descriptor.
        let done = unsafe { libc::fcntl(target, libc::F_SETFD, 0) };
        return if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    }
    // SAFETY: 0–2 are never owned by an OwnedFd of this program (std keeps them open for the process's
    // life), so replacing what they refer to breaks no ownership.
    let done = unsafe { libc::dup2(source.as_raw_fd(), target) };
    if done >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `PR_SET_PDEATHSIG` SIGKILL: die when the parent dies. Set again after each change of credentials,
/// which clears it (prctl(2)).
pub fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Sets one resource limit of this process by its raw number, so that limits newer than a library can be set.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: prlimit64(2) reads one rlimit64 that lives for the call; no old value is asked for.
    let done = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::from_ref(&limit), std::ptr::null::<u8>())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the window size of a terminal.
pub fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize that lives for the call.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The three capability sets of this thread: effective, permitted, inheritable, as bit masks (capset(2), version 3).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let mut header = Header { version: 0x2008_0522, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: header and the two data records have the layout of linux/capability.h for version 3 and live
    // for the call; pid 0 is this thread.
    let done = unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_mut(&mut header), data.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_cannot_fork() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || receive.recv());
        let error = fork(0, None).expect_err("two threads");
        assert_eq!(error.raw_os_error(), Some(libc::EDEADLK));
        drop(send);
        thread.join().expect("ends").expect_err("channel closed");
    }
}
