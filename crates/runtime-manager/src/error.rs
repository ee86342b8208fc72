//! What can go wrong between a manifest and a running pod. Nothing is printed or retried here.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of reading, checking or running a pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that the user named, or one of ours, could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: "read", "create", …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is not YAML, or larger than what is read.
    #[error("{name}: {reason}")]
    Syntax {
        /// File name as given.
        name: String,
        /// Line, column and reason, from the parser.
        reason: String,
    },
    /// The manifest is YAML, and asks for what is unknown, unsupported or contradictory.
    #[error("{name}: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Manifest {
        /// File name as given.
        name: String,
        /// Every problem found, in the order of the document.
        problems: Vec<Problem>,
    },
    /// Nothing answers at the endpoint.
    #[error("no CRI endpoint answers at {endpoint}; is the daemon running?")]
    Connect {
        /// Path of the socket.
        endpoint: String,
        /// The transport's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The runtime refused a call or failed in it.
    #[error("{call}: {message} ({code})")]
    Call {
        /// What was tried, with its object.
        call: String,
        /// gRPC code.
        code: Code,
        /// The runtime's words.
        message: String,
    },
    /// A volume, user or image does not allow the container to be made.
    #[error("{path}: {message}")]
    Refused {
        /// Field of the manifest.
        path: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// An init container failed and its restart policy ends the pod.
    #[error("init container {name:?} failed with exit code {code}")]
    Init {
        /// Container name.
        name: String,
        /// Its exit code.
        code: i32,
    },
    /// The user asked to stop while the pod was starting.
    #[error("stopped on request before the pod was up")]
    Stopped,
    /// The start failed, and so did taking it back.
    #[error("{first}; and taking back what was made failed: {}", .undo.join("; "))]
    Undo {
        /// Why the start failed.
        first: Box<Error>,
        /// What could not be taken back.
        undo: Vec<String>,
    },
}

impl Error {
    /// Shorthand for a file error.
    pub fn file(action: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::File { action, path: path.into(), source: source.into() }
    }

    /// Shorthand for a refused field.
    pub fn refused(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Refused { path: path.into(), message: message.into() }
    }

    /// A failed call. The status' own text already names what the runtime tried.
    pub fn call(call: impl Into<String>, status: &tonic::Status) -> Self {
        Self::Call { call: call.into(), code: Code(status.code()), message: status.message().to_owned() }
    }

    /// The gRPC code, when a call failed.
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Call { code, .. } => Some(code.0),
            Self::Undo { first, .. } => first.code(),
            _ => None,
        }
    }

    /// True when the endpoint went away, which a restarting daemon does: the containers live on.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.code(), Some(tonic::Code::Unavailable | tonic::Code::DeadlineExceeded))
    }
}

/// A gRPC code that prints as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub tonic::Code);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// One thing that is wrong in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Field, as `spec.containers[0].image`.
    pub path: String,
    /// What is wrong there, and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
