//! The kinds of failure that a caller can act on, and the error that carries one across layers.
//!
//! Subsystems have error enums of their own; where an error leaves a subsystem for the engine it is
//! turned into an [`Error`], whose kind `cri-server` maps to a gRPC code in one place.

use std::fmt;

/// What a caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The request itself is wrong: repeating it unchanged cannot succeed.
    InvalidArgument,
    /// The object is there already, and it is not the one that was asked for.
    AlreadyExists,
    /// The object is in a state that forbids the operation.
    FailedPrecondition,
    /// Credentials are missing or refused, or the kernel forbids it.
    PermissionDenied,
    /// A limit (disk, addresses, size of an answer) is reached.
    ResourceExhausted,
    /// A time limit ran out.
    DeadlineExceeded,
    /// A thing that is needed does not answer now; repeating may succeed.
    Unavailable,
    /// The operation was given up by its caller.
    Cancelled,
    /// Declared, and not built.
    Unimplemented,
    /// Everything else: the system did what it should not.
    Internal,
}

/// A failure with its kind, one sentence for the user, and what caused it.
///
/// The message says what was tried, on what, and what to do; it does not repeat its source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

/// A result whose error carries an [`ErrorKind`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a deeper cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error that was caused by another.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// [`ErrorKind::FailedPrecondition`].
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, message)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// This error's own sentence, without its causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same failure under a sentence of the layer above; the kind stays.
    pub fn context(self, message: impl Into<String>) -> Self {
        Self { kind: self.kind, message: message.into(), source: Some(Box::new(self)) }
    }

    /// The whole chain in one line, `outer: inner: innermost`.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The chain of an error and its sources in one line, each part once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        let inner = Error::new(ErrorKind::NotFound, "no such file");
        let outer = inner.context("cannot read the image's passwd");
        assert_eq!(outer.kind(), ErrorKind::NotFound);
        assert_eq!(outer.chain(), "cannot read the image's passwd: no such file");
    }
}
