//! A server process that cannot outlive the test that started it.
//!
//! A test may be killed at any point (nextest's time limit, Ctrl-C), so `Drop` alone is not enough, and
//! `PR_SET_PDEATHSIG` needs code between fork and exec. So the server runs under a shell that reads a
//! pipe from us: when we end, however we end, the read ends and the shell ends its child.

use crate::{Problem, Result, Tried};
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// `$0` is where the process id goes. `wait` is interrupted by nothing here: the shell has no traps.
const SUPERVISE: &str =
    r#""$@" </dev/null & child=$!; echo "$child" >"$0"; read -r _; kill "$child"; wait "$child""#;
/// How long the shell may take until it has started the program.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ended by its own process id when dropped.
#[derive(Debug)]
pub struct Supervised {
    shell: Child,
    pid: i32,
}

impl Supervised {
    /// Starts `program` with `arguments`; what it prints goes to the file `log`, its id to `log` with `.pid`.
    pub fn start<S: AsRef<OsStr>>(program: &Path, arguments: &[S], log: &Path) -> Result<Self> {
        let out = std::fs::File::create(log).tried(format_args!("make {}", log.display()))?;
        let err = out.try_clone().tried(format_args!("share {}", log.display()))?;
        let mut pid_file = log.as_os_str().to_owned();
        pid_file.push(".pid");
        let _ = std::fs::remove_file(&pid_file);
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SUPERVISE])
            .arg(&pid_file)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            // Ctrl-C is for us: we end it when our own work is undone.
            .process_group(0)
            .stdout(out)
            .stderr(err)
            .spawn()
            .tried(format_args!("start {}", program.display()))?;
        match wait_for_pid(Path::new(&pid_file)) {
            Some(pid) => Ok(Self { shell, pid }),
            None => {
                drop(shell.stdin.take());
                let _ = shell.wait();
                Err(Problem(format!("{} was not started within {PATIENCE:?}", program.display())))
            }
        }
    }

    /// The process id of the program.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it ended by itself: it is a zombie of its shell, or gone where the shell reaps at once.
    pub fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    }

    /// Asks it to end (SIGTERM), waits, and tells how it ended.
    pub fn end(mut self) -> Result<ExitStatus> {
        drop(self.shell.stdin.take());
        self.shell.wait().tried("wait for a process")
    }
}

/// The line is whole once it has its end.
fn wait_for_pid(file: &Path) -> Option<i32> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n').and_then(|line| line.parse().ok()) {
            return Some(pid);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_asked_to_end_and_tells_how_it_did() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = dir.path().join("log");
        let script = "trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        let process = Supervised::start(Path::new("/bin/sh"), &["-c", script], &log).expect("started");
        let end = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(&log).expect("a log").contains("ready") {
            assert!(Instant::now() < end, "it never was ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!process.has_ended());
        assert_eq!(process.end().expect("ended").code(), Some(7));
        assert!(std::fs::read_to_string(&log).expect("a log").contains("asked"));
    }

    #[test]
    fn a_process_that_ended_by_itself_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let process = Supervised::start(Path::new("/bin/sh"), &["-c", "exit 3"], &dir.path().join("log"))
            .expect("started");
        let end = Instant::now() + Duration::from_secs(10);
        while !process.has_ended() {
            assert!(Instant::now() < end, "it is never seen");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(process.end().expect("ended").code(), Some(3));
    }
}
