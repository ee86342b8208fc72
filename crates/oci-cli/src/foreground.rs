//! Waiting in the foreground: passes signals on to the process and answers how it ended.

use crate::identity::Identity;
use crate::terminal::Terminal;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use types::{Error, ErrorKind, Result};

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
/// Job control of the shell that started us, and changes of a terminal that the process does not have.
const NOT_PASSED_ON: [i32; 5] = [SIGCHLD, 20, 21, 22, SIGWINCH];

/// All signals of this process are read from here.
pub struct Foreground {
    signals: OwnedFd,
}

impl Foreground {
    /// Blocks all signals; with `subreaper`, orphans of the container become our children, not init's
    /// (runc does so, that a container without a PID namespace leaves no zombies).
    pub fn enter(subreaper: bool) -> Result<Self> {
        let fail =
            |what: &str, e: std::io::Error| Error::with_source(ErrorKind::Internal, what.to_owned(), e);
        if subreaper {
            // Any process id that is not 0 turns it on (prctl(2)).
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|errno| fail("cannot become the reaper of orphans", errno.into()))?;
        }
        sys::signal::block_all().map_err(|e| fail("cannot block signals", e))?;
        let signals = sys::signalfd::all().map_err(|e| fail("cannot read signals", e))?;
        Ok(Self { signals })
    }

    /// Waits until the process ends, and relays its terminal meanwhile. Its exit code, or 128 and the signal that
    /// ended it.
    pub fn wait(&self, process: &Identity, mut terminal: Option<Terminal>) -> Result<u8> {
        loop {
            if let Some(code) = reap(process.pid)? {
                if let Some(terminal) = terminal {
                    terminal.finish();
                }
                return Ok(code);
            }
            if let Some(terminal) = &mut terminal {
                terminal.relay_until(self.signals.as_fd())?;
            }
            let signal = sys::signalfd::next(&self.signals)
                .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot read signals", e))?;
            if let (SIGWINCH, Some(terminal)) = (signal, &terminal) {
                terminal.resize();
            }
            if !NOT_PASSED_ON.contains(&signal) {
                process.signal(signal)?;
            }
        }
    }
}

/// Takes every child that ended; the code of the one that counts.
fn reap(pid: i32) -> Result<Option<u8>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended == Pid::from_raw(pid).unwrap_or(Pid::INIT) => {
                return Ok(Some(code(status)));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(errno) => {
                return Err(Error::with_source(
                    ErrorKind::Internal,
                    "cannot wait for the container's process",
                    std::io::Error::from(errno),
                ));
            }
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code).unwrap_or(255)
}
