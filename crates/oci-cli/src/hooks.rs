//! Hooks in the runtime's own namespaces (OCI runtime specification, "POSIX-platform Hooks"): `prestart`,
//! `createRuntime`, `poststart` and `poststop`. Those inside the container are refused by `spec`.

use crate::log::Log;
use crate::record::Record;
use oci_spec::runtime::{Hook, Hooks, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use types::{Error, ErrorKind, Result};

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The namespaces are there, and nothing is mounted in them yet.
    Created,
    /// The program runs.
    Started,
    /// The container is deleted.
    Deleted,
}

/// Runs the hooks of a moment in their order; the first that fails ends it.
pub fn run(moment: Moment, spec: &Spec, record: &Record) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let status = match moment {
        Moment::Created => "creating",
        Moment::Started => "running",
        Moment::Deleted => "stopped",
    };
    for (name, list) in lists(moment, hooks) {
        for hook in list.iter().flatten() {
            one(hook, &record.for_hooks(status)).map_err(|e| {
                e.context(format!(
                    "the {name} hook {} of container {:?} failed",
                    hook.path().display(),
                    record.id
                ))
            })?;
        }
    }
    Ok(())
}

/// As [`run`], where the specification wants a failure to be told and passed over (`poststart`, `poststop`).
pub fn run_leniently(moment: Moment, spec: &Spec, record: &Record, log: &Log) {
    if let Err(error) = run(moment, spec, record) {
        log.warn(&error.chain());
    }
}

/// Docker still writes `prestart`, and libnetwork hangs on it.
#[allow(deprecated)]
fn lists(moment: Moment, hooks: &Hooks) -> Vec<(&'static str, &Option<Vec<Hook>>)> {
    match moment {
        Moment::Created => {
            vec![("prestart", hooks.prestart()), ("createRuntime", hooks.create_runtime())]
        }
        Moment::Started => vec![("poststart", hooks.poststart())],
        Moment::Deleted => vec![("poststop", hooks.poststop())],
    }
}

fn one(hook: &Hook, state: &serde_json::Value) -> Result<()> {
    if !hook.path().is_absolute() {
        return Err(Error::invalid("its path is not absolute"));
    }
    let system = |what: &str, e: std::io::Error| Error::with_source(ErrorKind::Internal, what.to_owned(), e);
    // A file in memory, so that a hook that never reads its input cannot hold us up.
    let input = rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC)
        .map_err(|e| system("cannot make its input", e.into()))?;
    rustix::io::write(&input, state.to_string().as_bytes())
        .and_then(|_| rustix::fs::seek(&input, SeekFrom::Start(0)))
        .map_err(|e| system("cannot write its input", e.into()))?;
    let mut command = Command::new(hook.path());
    let mut args = hook.args().iter().flatten();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    // Its own environment, and nothing of ours (CVE-2024-0132 and its kin grew from a container's in a hook's).
    command.args(args).env_clear().stdin(input);
    for variable in hook.env().iter().flatten() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if name.is_empty() || variable.contains('\0') {
            return Err(Error::invalid("its env has an entry that is not NAME=value"));
        }
        command.env(name, value);
    }
    let mut child = command.spawn().map_err(|e| system("it cannot be executed", e))?;
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
            _ => return Err(Error::invalid(format!("its timeout {seconds} is not a number above 0"))),
        },
    };
    if let Some(timeout) = timeout
        && !ends_within(&child, timeout)
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(Error::new(
            ErrorKind::DeadlineExceeded,
            format!("it did not end within its timeout of {} s, and was killed", timeout.as_secs()),
        ));
    }
    let status = child.wait().map_err(|e| system("it cannot be waited for", e))?;
    if status.success() { Ok(()) } else { Err(Error::precondition(status.to_string())) }
}

fn ends_within(child: &Child, timeout: Duration) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let Some(Ok(fd)) = pid.map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
    else {
        // Without a descriptor there is no bound; the wait after this one answers.
        return true;
    };
    let start = Instant::now();
    loop {
        let Some(left) = timeout.checked_sub(start.elapsed()) else { return false };
        let left =
            Timespec { tv_sec: left.as_secs().min(1 << 30) as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            _ => return true,
        }
    }
}
