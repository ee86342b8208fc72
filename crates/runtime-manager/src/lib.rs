//! The Container Runtime Manager: what the kubelet's kuberuntime manager does for one pod, without a
//! kubelet. It reads a `v1.Pod`, refuses what it cannot honour, and makes the CRI calls that run it, on
//! any CRI endpoint.
//!
//! It knows the wire API and nothing of the runtime behind it. It keeps no state between two runs except
//! the folder of a pod's volumes, which [`Manager::sweep`] clears when its pod is gone.

pub mod client;
pub mod error;
pub mod manifest;
pub mod run;
pub mod translate;

pub use client::Client;
pub use error::{Error, Result};
pub use manifest::Manifest;
pub use run::{Control, Event, Manager, Options, Outcome, Running, RunningContainer, Step, Stop};
