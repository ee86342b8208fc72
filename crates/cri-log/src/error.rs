//! What can go wrong with a log file. Never carries the log's own text.

use std::io;
use std::path::PathBuf;

/// A failure of a log file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory that log paths are relative to does not open.
    #[error("cannot open the log directory {path:?}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The path of the log inside its directory is not one that is followed.
    #[error(
        "log path {path:?}: {why}; a relative path of plain names below the pod's log directory is expected"
    )]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The log file does not open.
    #[error("cannot open the log file {path:?}")]
    Open {
        /// The path, relative to the log directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is something at the log's path, and it is not a regular file.
    #[error("the log path {path:?} is not a regular file; remove what is there")]
    NotRegular {
        /// The path, relative to the log directory.
        path: PathBuf,
    },
    /// A link stands in the way, and links are not followed below the log directory.
    #[error("the log path {path:?} leads through a symbolic link, which is not followed; remove the link")]
    Link {
        /// The path, relative to the log directory.
        path: PathBuf,
    },
    /// The file does not take what was written. The text is lost and counted, see [`crate::Lost`].
    #[error("cannot write to the log file; {bytes} bytes of this chunk are lost")]
    Write {
        /// How many bytes of records were not written.
        bytes: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file does not read.
    #[error("cannot read the log file")]
    Read {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}
