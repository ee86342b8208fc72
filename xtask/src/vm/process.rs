//! A process that does not outlive us: a long build step, or QEMU.
//!
//! `Drop` ends it by its own id. Where we are killed first, the kernel ends it (`PR_SET_PDEATHSIG`, which
//! setpriv(1) sets, as that needs code between fork and exec).

use crate::steps::interrupted;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a process that we wait for is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Killed when dropped. It must be started by a thread that lives as long: the kernel's rule is about that.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it prints is appended to the file `log`.
    pub fn start<S: AsRef<OsStr>>(
        words: impl IntoIterator<Item = S>,
        environment: &[(&str, String)],
        log: &Path,
    ) -> Result<Self, String> {
        let words: Vec<_> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let name = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let sink = || {
            let file = File::options().create(true).append(true).open(log);
            file.map_err(|said| format!("cannot write {}: {said}", log.display()))
        };
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(&words)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(sink()?)
            .stderr(sink()?)
            // Ctrl-C is for us; we end it when we have seen it.
            .process_group(0)
            .spawn()
            .map_err(|said| format!("cannot start {name} by setpriv: {said}"))?;
        Ok(Self { child, name, log: log.to_owned() })
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its end, or `None` when it has not ended by itself after `patience`.
    pub fn end_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < end && !interrupted() => std::thread::sleep(LOOK),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }

    /// Waits for an end in success.
    pub fn succeed_within(mut self, patience: Duration) -> Result<(), String> {
        match self.end_within(patience) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{} ended with {status}:\n{}", self.name, tail(&self.log, 15))),
            None if interrupted() => Err(format!("{} was interrupted", self.name)),
            None => {
                Err(format!("{} took longer than {patience:?}; its log is {}", self.name, self.log.display()))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only a process that was not waited for is signalled: no other can have its id yet.
        if self.runs() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The last lines of a file.
pub fn tail(path: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_shows_the_end_of_its_log_and_a_slow_one_is_ended() {
        let log = std::env::temp_dir().join(format!("xtask-process-{}", std::process::id()));
        let patience = Duration::from_secs(20);
        let step = Process::start(["sh", "-c", "echo words; exit 3"], &[], &log).expect("started");
        let failed = step.succeed_within(patience).expect_err("it fails");
        assert!(failed.contains("words") && failed.contains('3'), "{failed}");
        let begin = Instant::now();
        let step = Process::start(["sleep", "60"], &[], &log).expect("started");
        assert!(step.succeed_within(Duration::from_millis(50)).is_err());
        assert!(begin.elapsed() < patience);
        std::fs::remove_file(&log).expect("removed");
    }
}
