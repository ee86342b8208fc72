//! Plugin binaries (CNI specification 1.1, sections 2 and 4): finding one, running one. A plugin is
//! a program of the node's administrator, but what it prints, how long it takes and what it leaves
//! behind are bounded all the same: 1 MiB of answer, a time limit, and its whole process group is
//! killed when it is over.

use crate::conf::valid_plugin_type;
use rustix::process::{Pid, Signal};
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use types::ErrorKind;

/// The longest answer that is taken.
const LONGEST_ANSWER: usize = 1024 * 1024;
/// How much of a plugin's complaints is kept: the end of them.
const LONGEST_COMPLAINT: usize = 4096;
/// How long the pipes are read after the plugin itself ended.
const LEFT_OVER: Duration = Duration::from_millis(500);

/// Why a plugin did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No such binary.
    #[error("plugin {plugin:?} is in none of the folders {folders}; install it there")]
    NotFound {
        /// Its type.
        plugin: String,
        /// Where it was looked for.
        folders: String,
    },
    /// It could not be started or talked to.
    #[error("cannot {action} plugin {plugin:?}")]
    Process {
        /// Its type.
        plugin: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("plugin {plugin:?} did not end within {} s and was killed{}", limit.as_secs(), complaint(stderr))]
    TimedOut {
        /// Its type.
        plugin: String,
        /// The limit.
        limit: Duration,
        /// The end of its standard error.
        stderr: String,
    },
    /// It reported a failure as the specification says.
    #[error(
        "plugin {plugin:?} reported: {message}{} (code {code}){}",
        details_of(details),
        complaint(stderr)
    )]
    Reported {
        /// Its type.
        plugin: String,
        /// The specification's code, section "Error".
        code: u64,
        /// Its sentence.
        message: String,
        /// More of it.
        details: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// It failed without saying why in the form of the specification.
    #[error("plugin {plugin:?} failed ({status}) without a reason{}", complaint(stderr))]
    Failed {
        /// Its type.
        plugin: String,
        /// How it ended.
        status: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// Its answer cannot be used.
    #[error("plugin {plugin:?} answered what is not a result: {reason}")]
    BadAnswer {
        /// Its type.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
}

impl PluginError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PluginError::NotFound { .. } => ErrorKind::FailedPrecondition,
            PluginError::TimedOut { .. } => ErrorKind::DeadlineExceeded,
            // Code 11: "try again later".
            PluginError::Reported { code: 11, .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }
}

fn details_of(details: &str) -> String {
    if details.is_empty() { String::new() } else { format!("; {details}") }
}

fn complaint(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it wrote: {stderr}") }
}

/// What a plugin is told by its environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_NETNS`; `None` where the namespace is gone, for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`
    pub interface: String,
    /// `CNI_ARGS`
    pub args: String,
    /// `CNI_PATH`
    pub path: Vec<PathBuf>,
}

/// The binary of a plugin: the first by the order of the folders that can be executed.
pub fn find(kind: &str, folders: &[PathBuf]) -> Result<PathBuf, PluginError> {
    if valid_plugin_type(kind) {
        for folder in folders {
            let path = folder.join(kind);
            let regular = std::fs::metadata(&path).is_ok_and(|m| m.is_file());
            if regular && rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_ok() {
                return Ok(path);
            }
        }
    }
    let folders = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(PluginError::NotFound { plugin: types::reference::shorten(kind), folders })
}

/// Kills the plugin's process group when it goes out of scope, also when the caller gives up.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        // Once only: when all of them are gone, the number may soon be somebody else's.
        if let Some(pid) = self.0.take() {
            // ESRCH: all of them are gone.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a plugin: `command` is `ADD`, `DEL`…, `conf` goes to its standard input. Answers what it
/// printed, `None` where that is nothing.
pub async fn run(
    kind: &str,
    binary: &Path,
    command: &str,
    environment: &Environment,
    conf: &[u8],
    limit: Duration,
) -> Result<Option<Value>, PluginError> {
    let failed =
        |action: &'static str| move |source| PluginError::Process { plugin: kind.to_owned(), action, source };
    let mut process = tokio::process::Command::new(binary);
    process
        .env_clear()
        .env("PATH", search_path())
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &environment.container)
        .env("CNI_NETNS", environment.netns.as_deref().unwrap_or(Path::new("")))
        .env("CNI_IFNAME", &environment.interface)
        .env("CNI_ARGS", &environment.args)
        .env("CNI_PATH", std::env::join_paths(&environment.path).unwrap_or_default())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = process.spawn().map_err(failed("start"))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut answer = Vec::new();
    let mut complaints = Vec::new();
    let talk = async {
        let io = async {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A plugin that does not read its configuration closes the pipe: its own business.
                    let _ = stdin.write_all(conf).await;
                }
            };
            let ((), answered, complained) =
                tokio::join!(write, all(stdout, &mut answer), tail(stderr, &mut complaints));
            answered.and(complained)
        };
        tokio::pin!(io);
        let mut done = None;
        let status = loop {
            tokio::select! {
                outcome = &mut io, if done.is_none() => done = Some(outcome),
                status = child.wait() => break status,
            }
        };
        // What it started and left running may hold the pipes open; what the plugin itself wrote
        // is in them already.
        let outcome = match done {
            Some(outcome) => outcome,
            None => tokio::time::timeout(LEFT_OVER, io).await.unwrap_or(Ok(())),
        };
        outcome.and(status)
    };
    let ended = tokio::time::timeout(limit, talk).await;
    // What it left running goes, too: a child that kept the pipe open, or hung.
    group.kill();
    let stderr = readable(&complaints);
    let plugin = kind.to_owned();
    match ended {
        Err(_) => {
            // The group is dead; wait() only collects it.
            let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
            Err(PluginError::TimedOut { plugin, limit, stderr })
        }
        Ok(Err(source)) => Err(PluginError::Process { plugin, action: "talk to", source }),
        Ok(Ok(status)) if status.success() => {
            if !stderr.is_empty() {
                tracing::debug!(plugin, stderr, "plugin wrote to standard error");
            }
            if answer.len() > LONGEST_ANSWER {
                let reason = format!("it is longer than {LONGEST_ANSWER} bytes");
                return Err(PluginError::BadAnswer { plugin, reason });
            }
            if answer.trim_ascii().is_empty() {
                return Ok(None);
            }
            let value = serde_json::from_slice(&answer);
            value.map(Some).map_err(|error| PluginError::BadAnswer { plugin, reason: error.to_string() })
        }
        Ok(Ok(status)) => Err(report(plugin, &answer, stderr, status.to_string())),
    }
}

/// The specification's error object, as it comes on standard output.
#[derive(Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

fn report(plugin: String, answer: &[u8], stderr: String, status: String) -> PluginError {
    match serde_json::from_slice::<ErrorObject>(answer) {
        Ok(error)
            if answer.len() <= LONGEST_ANSWER && !(error.msg.is_empty() && error.details.is_empty()) =>
        {
            PluginError::Reported {
                plugin,
                code: error.code,
                message: readable(error.msg.as_bytes()),
                details: readable(error.details.as_bytes()),
                stderr,
            }
        }
        _ => PluginError::Failed { plugin, status, stderr },
    }
}

/// Reads all, keeps one byte more than is allowed.
async fn all(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut chunk = [0; 8192];
    loop {
        match from.read(&mut chunk).await? {
            0 => return Ok(()),
            count => {
                let room = (LONGEST_ANSWER + 1).saturating_sub(into.len());
                into.extend_from_slice(&chunk[..count.min(room)]);
            }
        }
    }
}

/// Reads all, keeps the end.
async fn tail(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut chunk = [0; 4096];
    loop {
        match from.read(&mut chunk).await? {
            0 => return Ok(()),
            count => {
                into.extend_from_slice(&chunk[..count]);
                if into.len() > LONGEST_COMPLAINT {
                    into.drain(..into.len() - LONGEST_COMPLAINT);
                }
            }
        }
    }
}

/// A plugin's words on one line, bounded, without control characters.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LONGEST_COMPLAINT)..]);
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Plugins execute iptables and the like; this is all that they get of our environment.
fn search_path() -> OsString {
    std::env::var_os("PATH")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_a_path_is_never_looked_up() {
        for bad in ["../sh", "/bin/sh", "sh/../sh", "", ".", "..", "a\0b"] {
            assert!(
                matches!(find(bad, &[PathBuf::from("/bin")]), Err(PluginError::NotFound { .. })),
                "{bad}"
            );
        }
        assert!(find("sh", &[PathBuf::from("/nowhere"), PathBuf::from("/bin")]).is_ok());
    }

    #[test]
    fn a_reported_error_reads_as_a_sentence() {
        let error = report(
            "bridge".into(),
            br#"{"code":11,"msg":"try\nagain","details":"soon"}"#,
            "x".into(),
            "1".into(),
        );
        assert_eq!(error.to_string(), "plugin \"bridge\" reported: try again; soon (code 11); it wrote: x");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let error = report("bridge".into(), b"boom", String::new(), "exit status: 1".into());
        assert_eq!(error.to_string(), "plugin \"bridge\" failed (exit status: 1) without a reason");
    }
}
