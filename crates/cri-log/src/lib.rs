//! The CRI log format: writing it (for the supervisor) and reading it back (for `logs`).
//!
//! One line of the file is `<RFC 3339 time> <stdout|stderr> <F|P> <text>\n`; the tag `P` says that the
//! line of the container goes on in the next record of the same stream (Kubernetes design proposal
//! "CRI: Log management for container stdout/stderr streams").
//! Nothing here runs a thread, reads a configuration or talks to a daemon.

mod error;
mod file;
mod record;
mod timestamp;
mod writer;

pub mod read;

pub use error::Error;
pub use file::LogFile;
pub use record::{Record, Stream};
pub use timestamp::{STAMP_LEN, parse_rfc3339, stamp};
pub use writer::{Lost, Writer};

/// The most text that one record carries, in bytes; a longer line of the container is cut into records with
/// the tag `P`. containerd (`max_container_log_line_size`) and the kubelet agree on 16 KiB.
pub const MAX_TEXT: usize = 16 * 1024;
