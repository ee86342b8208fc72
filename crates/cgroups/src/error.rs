//! What can go wrong with cgroups, with the path and the value that were tried.

use std::io;
use std::path::PathBuf;
use types::ErrorKind;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path of a group is not one that this crate works with.
    #[error("the cgroup path {path:?} is refused: {why}")]
    Path {
        /// What was asked for.
        path: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A value from outside cannot be what a cgroup file takes.
    #[error("{value:?} is refused for {what}: {why}")]
    Value {
        /// The setting or file.
        what: String,
        /// What was asked for.
        value: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The kernel refused to take a value.
    #[error("cannot write {value:?} to {path}")]
    Write {
        /// The cgroup file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another call of the kernel failed.
    #[error("cannot {what} {path}")]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup and start again")]
    NoHierarchy,
    /// A controller that is needed has no hierarchy.
    #[error("the cgroup controller {0} is not mounted, or not enabled for this group, on this machine")]
    NoController(&'static str),
    /// The machine cannot do what was asked for, in one sentence.
    #[error("{0}")]
    Unable(String),
    /// A v2 group has processes of its own and therefore cannot hand controllers down.
    #[error(
        "cannot hand the controllers {controllers:?} down from the cgroup {path}, which has processes of its own: \
         move them into a group below it, or start the runtime in a group of its own"
    )]
    InnerProcesses {
        /// The group with the processes.
        path: PathBuf,
        /// What was to be written to `cgroup.subtree_control`.
        controllers: String,
    },
    /// The group is the caller's own, or above it.
    #[error("refused to {what} the cgroup {path}: this process is in it")]
    Own {
        /// The verb.
        what: &'static str,
        /// The group.
        path: String,
    },
    /// The eBPF program of device rules is not in force.
    #[error("cannot {what} the cgroup {path}: {why}{}", shown_log(log))]
    Devices {
        /// The step.
        what: &'static str,
        /// The group in the unified hierarchy.
        path: PathBuf,
        /// What the kernel's answer means here.
        why: &'static str,
        /// The end of the verifier's log, or nothing.
        log: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process that was to be moved is gone.
    #[error("cannot move process {pid} into the cgroup {path}: it has ended")]
    Ended {
        /// The process.
        pid: i32,
        /// The group.
        path: String,
    },
    /// Processes stay although everything was done to end them.
    #[error("the cgroup {path} still has processes after {seconds} s: {pids:?} (the first ones)")]
    Alive {
        /// The group.
        path: String,
        /// How long was waited.
        seconds: u64,
        /// At most eight of them.
        pids: Vec<i32>,
    },
}

impl Error {
    /// An [`Error::Io`] from rustix.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, errno: rustix::io::Errno) -> Self {
        Self::Io { what, path: path.into(), source: errno.into() }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Path { .. } | Self::Value { .. } => ErrorKind::InvalidArgument,
            Self::NoHierarchy
            | Self::NoController(_)
            | Self::Unable(_)
            | Self::InnerProcesses { .. }
            | Self::Own { .. } => ErrorKind::FailedPrecondition,
            Self::Alive { .. } => ErrorKind::DeadlineExceeded,
            Self::Ended { .. } => ErrorKind::NotFound,
            Self::Devices { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::FailedPrecondition,
            },
            Self::Write { source, .. } | Self::Io { source, .. } => match source.raw_os_error() {
                Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => ErrorKind::InvalidArgument,
                Some(code) if code == rustix::io::Errno::BUSY.raw_os_error() => ErrorKind::FailedPrecondition,
                // cgroup.max.descendants, and v1's 65,535 memory groups.
                Some(code) if code == rustix::io::Errno::AGAIN.raw_os_error() => ErrorKind::ResourceExhausted,
                Some(code) if code == rustix::io::Errno::NOSPC.raw_os_error() => ErrorKind::ResourceExhausted,
                _ => match source.kind() {
                    io::ErrorKind::NotFound => ErrorKind::NotFound,
                    io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        ErrorKind::PermissionDenied
                    }
                    _ => ErrorKind::Internal,
                },
            },
        }
    }
}

fn shown_log(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" (the verifier said: {log:?})") }
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        types::Error::with_source(error.kind(), error.to_string(), error)
    }
}
