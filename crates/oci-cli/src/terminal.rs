//! The terminal of a process in the foreground, relayed between its master and the caller's standard descriptors. The
//! caller's own terminal is raw meanwhile, and as it was again at the end. Handles no signals itself.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use types::{Error, ErrorKind, Result};

/// Bytes on their way in one direction: at most what a pipe takes without waiting once it is writable (pipe(7)).
const AT_ONCE: usize = 4096;

/// A master that this program relays.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// How the caller's own terminal was.
    before: Option<Termios>,
    /// For the container.
    typed: Vec<u8>,
    /// For the caller.
    shown: Vec<u8>,
    input_ended: bool,
    output_ended: bool,
}

impl Terminal {
    /// Takes the caller's terminal, where standard input is one.
    pub fn new(master: OwnedFd) -> Result<Self> {
        let fail = |what: &str, errno: Errno| {
            Error::with_source(ErrorKind::Internal, what.to_owned(), std::io::Error::from(errno))
        };
        rustix::io::ioctl_fionbio(&master, true).map_err(|e| fail("cannot set the terminal up", e))?;
        let before = match tcgetattr(rustix::stdio::stdin()) {
            Ok(before) => {
                let mut raw = before.clone();
                raw.make_raw();
                tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)
                    .map_err(|e| fail("cannot make the caller's terminal raw", e))?;
                Some(before)
            }
            Err(_) => None,
        };
        let terminal =
            Self { master, before, typed: vec![], shown: vec![], input_ended: false, output_ended: false };
        terminal.resize();
        Ok(terminal)
    }

    /// Gives it the size of the caller's. A caller without a terminal has none, and the size stays.
    pub fn resize(&self) {
        let callers = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        if let Some(size) = callers.iter().find_map(|fd| tcgetwinsize(fd).ok()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Relays until `signals` is readable.
    pub fn relay_until(&mut self, signals: BorrowedFd<'_>) -> Result<()> {
        loop {
            let master = self.master.as_fd();
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, self.shown.is_empty());
            wanted.set(PollFlags::OUT, !self.typed.is_empty());
            let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
            let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
            let mut add = |fd, flags, use_it: bool| {
                use_it.then(|| {
                    fds.push(PollFd::from_borrowed_fd(fd, flags));
                    fds.len() - 1
                })
            };
            let at_master = add(master, wanted, !self.output_ended);
            let at_stdin = add(stdin, PollFlags::IN, !self.input_ended && self.typed.is_empty());
            let at_stdout = add(stdout, PollFlags::OUT, !self.shown.is_empty());
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::with_source(
                        ErrorKind::Internal,
                        "cannot wait for the terminal",
                        std::io::Error::from(errno),
                    ));
                }
            }
            let ready = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| fds[at].revents());
            let (signalled, from_master, from_stdin, to_stdout) =
                (!ready(Some(0)).is_empty(), ready(at_master), ready(at_stdin), ready(at_stdout));
            if from_master.contains(PollFlags::OUT) {
                self.write_typed();
            }
            // The last process that closes it hangs it up, with bytes still to be read.
            if from_master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && self.shown.is_empty()
            {
                self.read_shown();
            }
            if !from_stdin.is_empty() {
                self.read_typed();
            }
            if !to_stdout.is_empty() {
                self.write_shown();
            }
            if signalled {
                return Ok(());
            }
        }
    }

    /// Shows what is left when the process has ended: what the kernel holds, and no more, for others may write on.
    pub fn finish(mut self) {
        let mut left: usize = 1 << 20;
        while left > 0 && !self.output_ended || !self.shown.is_empty() {
            if self.shown.is_empty() {
                self.read_shown();
                if self.shown.is_empty() {
                    break;
                }
            }
            left = left.saturating_sub(self.shown.len());
            self.write_shown();
        }
    }

    fn read_shown(&mut self) {
        let mut buffer = [0; AT_ONCE];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(count) if count > 0 => self.shown.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The end of a terminal whose last process ended is EIO (pty(7)).
            _ => self.output_ended = true,
        }
    }

    fn read_typed(&mut self) {
        let mut buffer = [0; AT_ONCE];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(count) if count > 0 => self.typed.extend_from_slice(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => self.input_ended = true,
        }
    }

    fn write_typed(&mut self) {
        match rustix::io::write(&self.master, &self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.typed.clear(),
        }
    }

    fn write_shown(&mut self) {
        match rustix::io::write(rustix::stdio::stdout(), &self.shown) {
            Ok(count) => drop(self.shown.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads any more; the process goes on without.
            Err(_) => self.shown.clear(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}
