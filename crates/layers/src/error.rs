//! What can go wrong while a layer is unpacked, and what kind of failure it is for a caller.
//!
//! Names from an archive are shown escaped and shortened, so that a hostile name cannot forge a log line.

use rustix::io::Errno;
use std::fmt;
use types::ErrorKind;

/// A failure inside this crate; it leaves the crate as [`types::Error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive breaks the format, or asks for what no layer may have.
    #[error("the layer is refused at byte {offset} of its tar stream: {what}")]
    Refused {
        /// Position in the uncompressed stream.
        offset: u64,
        /// A sentence.
        what: String,
    },
    /// A limit of [`crate::UnpackLimits`] is reached.
    #[error("the layer is too large: {what}; {advice}")]
    TooLarge {
        /// Which limit.
        what: String,
        /// What can be done.
        advice: &'static str,
    },
    /// The compressed stream is not what it should be.
    #[error("cannot decode the layer's {stage} stream; it is damaged or something else")]
    Decode {
        /// `gzip`, `zstd`.
        stage: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The reader that gives the compressed stream failed.
    #[error("cannot read the layer's compressed stream")]
    Read {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A system call failed on the target directory.
    #[error("cannot {action} {path}")]
    System {
        /// For example `create the file`.
        action: &'static str,
        /// The entry, escaped.
        path: String,
        /// Why.
        #[source]
        source: Errno,
    },
}

/// A result of this crate's inside.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do about a limit that no configuration moves.
pub const REBUILD: &str = "no honest image is like that; build it anew";

impl Error {
    /// A system call that failed on an entry.
    pub fn system(action: &'static str, path: impl fmt::Display, source: Errno) -> Self {
        Self::System { action, path: path.to_string(), source }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::InvalidArgument,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::Decode { .. } => ErrorKind::InvalidArgument,
            Self::Read { .. } => ErrorKind::Unavailable,
            Self::System { source, .. } => match *source {
                Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                    ErrorKind::ResourceExhausted
                }
                Errno::PERM | Errno::ACCESS => ErrorKind::PermissionDenied,
                // Only an archive's own names and links lead to these.
                Errno::NAMETOOLONG | Errno::LOOP | Errno::NOTDIR | Errno::MLINK => ErrorKind::InvalidArgument,
                _ => ErrorKind::Internal,
            },
        }
    }
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        let (kind, message) = (error.kind(), error.to_string());
        match error {
            Error::Read { source } | Error::Decode { source, .. } => Self::with_source(kind, message, source),
            Error::System { source, .. } => Self::with_source(kind, message, std::io::Error::from(source)),
            Error::Refused { .. } | Error::TooLarge { .. } => Self::new(kind, message),
        }
    }
}

/// Bytes from an archive as they may be shown: escaped, at most 120 bytes of them.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 120;
        let head = &self.0[..self.0.len().min(MOST)];
        write!(f, "\"{}\"", head.escape_ascii())?;
        if self.0.len() > MOST { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}
