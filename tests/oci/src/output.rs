//! What a call of the runtime said, and waiting for it with a limit.
//!
//! Output goes to files and not to pipes: a detached container holds them, and a pipe would never end.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How long one call may take. Generous, for a guest without hardware help; nothing waits this long in vain.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The arguments, to be named in messages.
    pub call: String,
    /// Exit status; 128 and the signal's number where one ended the runtime.
    pub code: i32,
    /// Standard output at its end.
    pub out: String,
    /// Standard error at its end.
    pub err: String,
    /// The file with standard output, where a detached container goes on writing.
    pub out_file: PathBuf,
}

impl Output {
    /// Itself, if it succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    #[must_use]
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "`{}` failed: {}{}", self.call, self.err, self.out);
        self
    }

    /// What it said on standard error (and, where that is empty, on standard output), if it failed.
    ///
    /// # Panics
    /// When it succeeded, or when it died of a bug.
    #[track_caller]
    pub fn bad(self) -> String {
        assert_ne!(self.code, 0, "`{}` succeeded: {}{}", self.call, self.err, self.out);
        for bug in ["panicked at", "goroutine 1", "SIGSEGV"] {
            assert!(!self.err.contains(bug), "`{}` died of a bug: {}", self.call, self.err);
        }
        if self.err.is_empty() { self.out } else { self.err }
    }

    /// What was written to standard output until now, for a container that goes on.
    #[must_use]
    pub fn text_now(&self) -> String {
        std::fs::read(&self.out_file)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// The lines of standard output.
    #[must_use]
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

/// Waits for a child; one that takes longer than `limit` is killed, and `None`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let pid = Pid::from_child(child);
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return None;
                }
                _ => break,
            }
        }
    }
    child.wait().ok()
}

/// Looks every few milliseconds until `found` is something.
///
/// # Panics
/// When that takes longer than [`PATIENCE`]; `what` completes "waited in vain for …".
#[track_caller]
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}
