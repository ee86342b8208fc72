//! Runs a program of the node, without a shell: for so long, with so much output, and nothing of our environment.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use types::{Error, ErrorKind, Result};

/// The most that is read of each of its outputs.
const MOST: u64 = 4 << 20;
/// How much of what it says goes into an error.
const SHOWN: usize = 500;

/// What a program said that ended by itself.
#[derive(Debug)]
pub struct Said {
    status: ExitStatus,
    /// Its standard output.
    pub out: String,
    error: String,
}

impl Said {
    /// Whether it did what it was to do.
    pub fn well(&self) -> bool {
        self.status.success()
    }

    /// What it complains about, as it may be shown.
    pub fn words(&self) -> String {
        let words = if self.error.trim().is_empty() { self.out.trim() } else { self.error.trim() };
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
        if words.is_empty() { self.status.to_string() } else { words }
    }
}

/// Runs it to its end. One that does not end in time is killed, and so is one that says too much.
pub fn run<S: AsRef<OsStr>>(program: &OsStr, arguments: &[S], limit: Duration) -> Result<Said> {
    let name = program.to_string_lossy();
    let failed = |what: &str, error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                ErrorKind::FailedPrecondition
            }
            _ => ErrorKind::Internal,
        };
        Error::with_source(kind, format!("cannot {what} the program {name}"), error)
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed("run", error))?;
    let out = child.stdout.take().map(read);
    let error = child.stderr.take().map(read);
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(pause),
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                ended.map_err(|error| failed("wait for", error))?;
                return Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    format!(
                        "the program {name} did not end within {} seconds and was ended",
                        limit.as_secs()
                    ),
                ));
            }
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    // Somebody that it started may still have the other end.
    let take = |from: Option<Receiver<Vec<u8>>>| {
        from.and_then(|from| from.recv_timeout(Duration::from_secs(2)).ok()).unwrap_or_default()
    };
    let (out, error) = (take(out), take(error));
    if out.len() as u64 > MOST || error.len() as u64 > MOST {
        return Err(Error::internal(format!("the program {name} said more than {MOST} bytes")));
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { status, out: text(out), error: text(error) })
}

fn read(from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends as one that is closed does; it is closed here when there is too much.
        let _ = from.take(MOST + 1).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Said> {
        run(OsStr::new("sh"), &["-c", script], limit)
    }

    #[test]
    fn a_program_is_bounded_in_time_and_output() {
        let error = sh("exec sleep 60", Duration::from_millis(100)).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        let error = sh("exec cat /dev/zero", Duration::from_secs(20)).expect_err("too much");
        assert!(error.message().contains("said more than"), "{error}");
        let error = run(OsStr::new("/no/such"), &["x"], Duration::from_secs(1)).expect_err("no program");
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    }

    #[test]
    fn what_it_says_is_kept_and_nothing_of_our_environment_gets_there() {
        let said = sh("env; echo bad >&2; exit 3", Duration::from_secs(20)).expect("it ends");
        assert!(!said.well() && said.words() == "bad", "{said:?}");
        assert!(said.out.contains("LC_ALL=C") && !said.out.contains("HOME="), "{said:?}");
    }
}
