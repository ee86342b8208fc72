//! The OCI runtime library: namespaces, mounts, root, capabilities, exec. Synchronous, single-threaded,
//! no tokio, and no decisions: what to do stands in the [`plan`], which others make.
//!
//! A supervisor calls [`spawn::launch`] or [`spawn::join`]; the child that becomes the container runs
//! [`init`] or [`exec`], whose steps read as a list, and reports on a socket ([`report`]).

pub mod beneath;
pub mod credentials;
pub mod detached;
pub mod devices;
pub mod exec;
pub mod failure;
pub mod hooks;
mod idmap;
pub mod init;
mod keyring;
pub mod masks;
mod mountinfo;
pub mod mounts;
mod namespaces;
pub mod plan;
pub mod program;
pub mod report;
pub mod root;
pub mod scheduling;
pub mod spawn;
mod staged;
pub mod stdio;
pub mod sysctl;
pub mod user;
mod user_map;
pub mod warm;

pub use failure::{Failure, FailureKind};
