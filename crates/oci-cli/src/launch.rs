//! Forking a container's first process or one more, and hearing how far it came.

use crate::bundle::Bundle;
use crate::log::Log;
use ::container::Failure;
use ::container::detached::Detached;
use ::container::failure::FailureKind;
use ::container::init::Inherited;
use ::container::report::{Receiver, Report};
use ::container::stdio::Stdio;
use cgroups::Entry;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::MemfdFlags;
use types::{Error, ErrorKind, Result};

/// Most descriptors that `--preserve-fds` passes on.
const PRESERVED_MOST: u32 = 1024;
/// O_CLOEXEC as `/proc/PID/fdinfo` shows it (proc(5)).
const CLOEXEC: u32 = 0o2_000_000;

/// A failure of the container library as an error of ours.
pub fn error(failure: Failure) -> Error {
    let kind = match failure.kind {
        FailureKind::Request => ErrorKind::InvalidArgument,
        FailureKind::System => ErrorKind::Internal,
    };
    Error::new(kind, failure.message)
}

/// What the child gets: the caller's own standard descriptors, or none of them beside a terminal. Then no copy
/// may stay in a process that waits for its start, for callers read these pipes to their end (go-runc does).
pub fn inherited(entry: Entry, terminal: bool) -> Result<Inherited> {
    if terminal {
        return Ok(Inherited { cgroup_tasks: entry.tasks, ..Inherited::default() });
    }
    let copy = |fd: rustix::fd::BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, 3).map(Some).map_err(|errno| {
            Error::with_source(
                ErrorKind::Internal,
                "cannot duplicate a standard descriptor",
                std::io::Error::from(errno),
            )
        })
    };
    let stdio = Stdio {
        stdin: copy(rustix::stdio::stdin().as_fd())?,
        stdout: copy(rustix::stdio::stdout().as_fd())?,
        stderr: copy(rustix::stdio::stderr().as_fd())?,
    };
    Ok(Inherited { cgroup_tasks: entry.tasks, stdio, ..Inherited::default() })
}

/// How the child is held. Descriptors to pass on must be the caller's: one of ours (they all close on exec)
/// would open the node to the container (CVE-2024-21626).
pub fn detached(gate: Option<OwnedFd>, preserve_fds: u32) -> Result<Detached> {
    if preserve_fds > PRESERVED_MOST {
        return Err(Error::invalid(format!("--preserve-fds {preserve_fds}: {PRESERVED_MOST} are the most")));
    }
    for fd in 3..3 + preserve_fds {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_none_or(|flags| flags & CLOEXEC != 0) {
            return Err(Error::invalid(format!(
                "--preserve-fds {preserve_fds}: descriptor {fd} was not passed in"
            )));
        }
    }
    Ok(Detached { gate, preserve_fds, ..Detached::default() })
}

/// Sets the OOM score of a child in a user namespace, which may not make itself safer from there (proc(5),
/// `oom_score_adj`). Other children do it themselves.
pub fn set_oom_score(bundle: &Bundle, pid: i32, log: &Log) {
    let Some(score) = bundle.oom_score else { return };
    if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        // Without CAP_SYS_RESOURCE it can only be made less safe. Other children warn of it, too.
        log.warn(&format!("the OOM score {score} cannot be set: {error}"));
    }
}

/// A plan as a file in memory, which the child reads.
pub fn plan_file(bytes: std::result::Result<Vec<u8>, postcard::Error>) -> Result<OwnedFd> {
    let bytes = bytes.map_err(|e| Error::internal(format!("the plan cannot be written: {e}")))?;
    let write = || {
        let file = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC)?;
        let mut at = 0;
        while at < bytes.len() {
            at += rustix::io::pwrite(&file, &bytes[at..], at as u64)?;
        }
        Ok(file)
    };
    write().map_err(|errno: rustix::io::Errno| {
        Error::with_source(ErrorKind::Internal, "cannot hold the plan in memory", std::io::Error::from(errno))
    })
}

/// Waits until a child that pauses there has mounted everything.
pub fn until_mounted(report: &Receiver, log: &Log) -> Result<()> {
    loop {
        match report.receive().map_err(error)? {
            Some((Report::Mounted, _)) => return Ok(()),
            Some((Report::Ready(_) | Report::Listener(_), _)) => {}
            Some((Report::Warning(warning), _)) => log.warn(&warning),
            Some((Report::Failed(failure), _)) => return Err(error(failure)),
            None => return Err(Error::internal("the container's process ended before it could say why")),
        }
    }
}

/// Waits until the child is ready. Answers the master of its terminal.
pub fn until_ready(report: &Receiver, log: &Log) -> Result<Option<OwnedFd>> {
    loop {
        match report.receive().map_err(error)? {
            Some((Report::Ready(_), terminal)) => return Ok(terminal),
            Some((Report::Listener(_) | Report::Mounted, _)) => {}
            Some((Report::Warning(warning), _)) => log.warn(&warning),
            Some((Report::Failed(failure), _)) => return Err(error(failure)),
            None => return Err(Error::internal("the container's process ended before it could say why")),
        }
    }
}

/// Waits until the program runs: then the child's end of the report is closed by its exec.
pub fn until_executed(report: &Receiver, log: &Log) -> Result<()> {
    loop {
        match report.receive().map_err(error)? {
            Some((Report::Ready(_) | Report::Listener(_) | Report::Mounted, _)) => {}
            Some((Report::Warning(warning), _)) => log.warn(&warning),
            Some((Report::Failed(failure), _)) => return Err(error(failure)),
            None => return Ok(()),
        }
    }
}
