//! What can be wrong with a seccomp profile, and where in it.

use types::ErrorKind;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The profile is no JSON of the known form.
    #[error("the seccomp profile cannot be read: give a JSON object as in the OCI runtime spec or Docker")]
    Json(#[source] serde_json::Error),
    /// The profile is too large to be one.
    #[error("the seccomp profile has {size} bytes, and at most {limit} are taken")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Something in a rule cannot be.
    #[error("the seccomp rule for {names} is refused: {why}")]
    Rule {
        /// First names of the rule.
        names: String,
        /// What is wrong.
        why: String,
    },
    /// Something in the profile, outside of its rules, cannot be.
    #[error("the seccomp profile is refused: {0}")]
    Profile(String),
    /// The filter does not fit in what the kernel takes.
    #[error(
        "the seccomp profile becomes {length} instructions, and the kernel takes at most 4096: make its rules fewer"
    )]
    TooLong {
        /// Number of instructions.
        length: usize,
    },
    /// This machine is of a kind that has no system call table here.
    #[error("seccomp profiles can be used on x86-64 and arm64 only")]
    Machine,
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Machine => ErrorKind::Unimplemented,
            _ => ErrorKind::InvalidArgument,
        };
        types::Error::with_source(kind, error.to_string(), error)
    }
}
