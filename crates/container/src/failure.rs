//! What a launching child says when a step fails: one sentence that names what was tried, on what, and
//! what the system answered.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// What was asked for cannot be: a missing program, user or mount source.
    Request,
    /// The system refused what should work.
    System,
}

/// A failed step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose fault.
    pub kind: FailureKind,
    /// One sentence.
    pub message: String,
}

/// A step's result.
pub type Step<T = ()> = Result<T, Failure>;

impl Failure {
    /// The request's fault.
    pub fn request(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Request, message: message.into() }
    }

    /// The system's fault.
    pub fn system(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::System, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Names what was tried where a system call failed.
pub trait Tried<T> {
    /// `message: what the system said`, as the system's fault.
    fn tried(self, message: impl FnOnce() -> String) -> Step<T>;
}

impl<T> Tried<T> for Result<T, Errno> {
    fn tried(self, message: impl FnOnce() -> String) -> Step<T> {
        self.map_err(|errno| Failure::system(format!("{}: {}", message(), describe(errno))))
    }
}

impl<T> Tried<T> for std::io::Result<T> {
    fn tried(self, message: impl FnOnce() -> String) -> Step<T> {
        self.map_err(|error| {
            let said = error
                .raw_os_error()
                .map_or_else(|| error.to_string(), |n| describe(Errno::from_raw_os_error(n)));
            Failure::system(format!("{}: {said}", message()))
        })
    }
}

/// The system's words for an error number, in lower case and without "(os error N)".
pub fn describe(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
