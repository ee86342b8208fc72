//! What can go wrong between us and systemd, in one sentence each.

use std::time::Duration;
use types::ErrorKind;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `linux.cgroupsPath` does not have the form of the systemd driver.
    #[error(
        "linux.cgroupsPath {path:?} is refused: with systemd it is slice:prefix:name, for example \
         system.slice:corten:web"
    )]
    Form {
        /// What was asked for.
        path: String,
    },
    /// A unit's name.
    #[error("the systemd unit {name:?} is refused: {why}")]
    Name {
        /// What was asked for.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A slice.
    #[error("the systemd slice {slice:?} is refused: {why}")]
    Slice {
        /// What was asked for.
        slice: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A value that systemd would not understand.
    #[error("{value:?} is refused for {what}: {why}")]
    Value {
        /// The limit or annotation.
        what: String,
        /// What was asked for.
        value: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// There is no systemd to talk to.
    #[error("cannot use the systemd cgroup driver: {why}")]
    Absent {
        /// What is missing, and what to do.
        why: String,
    },
    /// The bus is there and does not work.
    #[error("cannot reach systemd at {address}")]
    Connect {
        /// The socket.
        address: String,
        /// What was said.
        source: Box<zbus::Error>,
    },
    /// No answer in time.
    #[error("systemd did not {what} {unit} within {} ms; look at its state with systemctl", patience.as_millis())]
    Late {
        /// The verb.
        what: &'static str,
        /// The unit.
        unit: String,
        /// How long was waited.
        patience: Duration,
    },
    /// Systemd refused.
    #[error("systemd refused to {what} {unit}: {message}")]
    Refused {
        /// The verb.
        what: &'static str,
        /// The unit.
        unit: String,
        /// The error's name on the bus.
        name: String,
        /// What systemd said.
        message: String,
    },
    /// A unit of the same name runs.
    #[error(
        "the systemd unit {unit} exists already: another container uses this name; choose another id, or stop it with \
         systemctl stop {unit}"
    )]
    Exists {
        /// The unit.
        unit: String,
    },
    /// The job ended otherwise than done.
    #[error("systemd could not {what} {unit}: its job ended as {result:?}; see journalctl -u {unit}")]
    Job {
        /// The verb.
        what: &'static str,
        /// The unit.
        unit: String,
        /// `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
        result: String,
    },
    /// The bus broke, or said what nobody understands.
    #[error("the talk with systemd broke off, to {what} {unit}")]
    Bus {
        /// The verb.
        what: &'static str,
        /// The unit.
        unit: String,
        /// What was said.
        source: Box<zbus::Error>,
    },
    /// Our own side.
    #[error("cannot prepare to talk with systemd")]
    Runtime(#[source] std::io::Error),
}

impl Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Form { .. } | Self::Name { .. } | Self::Slice { .. } | Self::Value { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Absent { .. } => ErrorKind::FailedPrecondition,
            Self::Connect { .. } | Self::Bus { .. } => ErrorKind::Unavailable,
            Self::Late { .. } => ErrorKind::DeadlineExceeded,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Refused { name, .. } => match name.rsplit('.').next().unwrap_or_default() {
                "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => {
                    ErrorKind::PermissionDenied
                }
                "InvalidArgs" | "PropertyReadOnly" | "UnknownProperty" => ErrorKind::InvalidArgument,
                "NoSuchUnit" => ErrorKind::NotFound,
                "LimitsExceeded" => ErrorKind::ResourceExhausted,
                _ => ErrorKind::FailedPrecondition,
            },
            Self::Job { .. } => ErrorKind::FailedPrecondition,
            Self::Runtime(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        types::Error::with_source(error.kind(), error.to_string(), error)
    }
}
