//! Credential helpers (docker/docker-credential-helpers, "Development"): `docker-credential-NAME get`, the server on
//! standard input, JSON on standard output. It is started without a shell, bounded in time and size, and its
//! whole process group is ended with it.

use crate::auth::Auth;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// The most that a helper may say, in bytes.
const ANSWER_MAX: u64 = 256 << 10;
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What the helper `name` has for `server`; `None` where it has nothing. Blocks.
pub(super) fn get(name: &str, server: &str, patience: Duration) -> Result<Option<Auth>> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 100 || !name.bytes().all(fits) {
        return Err(Error::precondition(format!(
            "{:?} is not the name of a credential helper",
            shorten(name)
        )));
    }
    let program = format!("docker-credential-{name}");
    let path = find(&program).ok_or_else(|| {
        Error::precondition(format!(
            "the credential helper {program} is not in any folder of PATH; install it"
        ))
    })?;
    let (status, said) = run(&path, server, patience)?;
    if !status.success() {
        // The words of the protocol for "nothing"; a helper says them on standard output.
        let words = String::from_utf8_lossy(&said);
        let words = words.trim().lines().next().unwrap_or_default();
        if words.contains("credentials not found") {
            return Ok(None);
        }
        let words: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(Error::precondition(format!(
            "{program} failed for {} ({status}): {words}",
            shorten(server)
        )));
    }
    let answer: Answer = serde_json::from_slice(&said).map_err(|_| {
        Error::precondition(format!("the answer of {program} is not the JSON of a credential"))
    })?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(if answer.username == TOKEN_USER {
        Auth { identity_token: Some(answer.secret), ..Auth::default() }
    } else {
        Auth { username: Some(answer.username), password: Some(answer.secret), ..Auth::default() }
    }))
}

/// A program in the folders of `PATH`. Not in the working folder, whatever `PATH` says: it may be anybody's.
fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// A started helper; with this value it ends, and with it what it started.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Not yet reaped, so the id is still its own.
        if let Ok(None) = self.0.try_wait()
            && let Some(group) = Pid::from_raw(self.0.id().cast_signed())
        {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

pub(super) fn run(
    path: &Path,
    server: &str,
    patience: Duration,
) -> Result<(std::process::ExitStatus, Vec<u8>)> {
    let failed = |cause: std::io::Error| {
        Error::with_source(ErrorKind::FailedPrecondition, format!("cannot run {}", path.display()), cause)
    };
    let end = Instant::now() + patience;
    let child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let mut started = Started(child);
    // A name of a server fits a pipe, so this does not block. A helper may not care to read it.
    if let Some(mut input) = started.0.stdin.take() {
        let _ = input.write_all(server.as_bytes());
    }
    let (send, receive) = mpsc::channel();
    if let Some(output) = started.0.stdout.take() {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let read = output.take(ANSWER_MAX + 1).read_to_end(&mut said);
            let _ = send.send(read.map(|_| said));
        });
    }
    let late = || {
        let why = format!("{} gave no answer within {} s and was ended", path.display(), patience.as_secs());
        Error::new(ErrorKind::DeadlineExceeded, why)
    };
    let said = receive.recv_timeout(patience).map_err(|_| late())?.map_err(failed)?;
    if said.len() as u64 > ANSWER_MAX {
        return Err(Error::precondition(format!("{} says more than {ANSWER_MAX} bytes", path.display())));
    }
    loop {
        if let Some(status) = started.0.try_wait().map_err(failed)? {
            return Ok((status, said));
        }
        if Instant::now() > end {
            return Err(late());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
