//! A process whose starter leaves before it ends, as the command lines in runc's form do: it is held at two
//! points by descriptors, and it does not die with its parent. Never used by a supervisor that stays.

use crate::failure::{Failure, Step, Tried};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What a detached child is given beside [`crate::init::Inherited`].
#[derive(Debug, Default)]
pub struct Detached {
    /// Where the child waits for one byte once all but dropping privileges and exec is done, so that `create`
    /// can come back before `start`. A FIFO that is open for reading *and* writing: then the wait does not end
    /// when a writer goes away, and the descriptor works in any root, with or without a `/proc`.
    ///
    /// The wait is before the privileges are dropped: until then nobody in the container may look at
    /// this process (ptrace(2), `PTRACE_MODE_READ`), as it has capabilities that they lack.
    pub gate: Option<OwnedFd>,
    /// How many descriptors from 3 on the program gets.
    pub preserve_fds: u32,
    /// Namespaces (`CLONE_NEW*`) of the container that an exec joins.
    pub namespaces: u64,
    /// Those that it or its parent is in already; the fork sets it.
    pub joined: u64,
    /// Whether a first process waits once more when everything is mounted and before it enters its root, so that hooks
    /// see the mounts (OCI runtime specification, "createRuntime Hooks").
    pub pauses: bool,
    /// Where it then waits; the fork sets it.
    pub mounted: Option<OwnedFd>,
}

/// Waits for one byte.
pub(crate) fn wait(gate: &OwnedFd) -> Step {
    let mut byte = [0; 1];
    loop {
        match rustix::io::read(gate, &mut byte) {
            Err(Errno::INTR) => {}
            Ok(0) => return Err(Failure::system("the one that started the container is gone")),
            other => return other.map(|_| ()).tried(|| "cannot wait for the start".into()),
        }
    }
}

/// Writes the byte that [`wait`] waits for.
pub fn open(gate: &OwnedFd) -> Step {
    loop {
        match rustix::io::write(gate, b"0") {
            Err(Errno::INTR) => {}
            other => return other.map(|_| ()).tried(|| "cannot let the container go on".into()),
        }
    }
}

/// The most that is said at the gate, in bytes: less than a pipe takes without waiting (pipe(7), `PIPE_BUF`).
const COMPLAINT_MOST: usize = 2048;

/// Tells the one that called [`open`] why there is no program.
pub(crate) fn complain(gate: &OwnedFd, message: &str) {
    let end = message.len().min(COMPLAINT_MOST);
    let _ = rustix::io::write(gate, &message.as_bytes()[..end]);
}

/// Waits until the program runs or will not, which the process at the other end tells by closing the gate.
///
/// # Errors
/// What it said; or that it ended before it read the byte of [`open`].
pub fn outcome(gate: &OwnedFd) -> Step {
    // A writer is told that there are no readers (poll(2), POLLERR).
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(gate, PollFlags::empty())], None))
        .tried(|| "cannot wait for the program".into())?;
    // What it wrote waits in the pipe as long as this end is open.
    let said = rustix::fs::open(
        format!("/proc/self/fd/{}", gate.as_raw_fd()),
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .tried(|| "cannot hear of the program".into())?;
    let mut text = [0; COMPLAINT_MOST];
    match rustix::io::read(&said, &mut text) {
        Ok(0) | Err(Errno::AGAIN) => Ok(()),
        Ok(count) => match String::from_utf8_lossy(&text[..count]).trim() {
            "0" => Err(Failure::request("the container was ended before it could run its program")),
            message => Err(Failure::request(message)),
        },
        Err(errno) => Err(errno).tried(|| "cannot hear of the program".into()),
    }
}
