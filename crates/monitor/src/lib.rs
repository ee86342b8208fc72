//! How the engine talks to what runs a pod. Today that is the native shim; this crate starts one, connects to
//! one that is there, and turns its messages into calls and events. It knows nothing of CRI.

mod connection;
mod program;
mod start;

pub use connection::{Monitor, MonitorEvent, Started};
pub use program::ShimProgram;
pub use shim_protocol::exits::{self, Exit};
pub use shim_protocol::{Configure, Exec, ExecStdio, Known, PidNamespace, Start};
pub use start::{Spawned, connect, spawn};
