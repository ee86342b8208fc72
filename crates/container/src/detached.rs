//! A process whose starter leaves before it ends, as the command lines in runc's form do: it is held at two
//! points by descriptors, and it does not die with its parent. Never used by a supervisor that stays.

use crate::failure::{Failure, Step, Tried};
use rustix::fd::OwnedFd;
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
