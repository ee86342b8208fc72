//! From what a caller asks (CRI configuration, image configuration, facts of the node) to what is done:
//! an OCI runtime specification for people and tools, and the launch plan that the supervisor gets.
//!
//! Pure: no file is read, no system call is made, nothing is remembered. The same input gives the same output.

mod capabilities;
mod container;
mod devices;
mod exec;
mod files;
mod inputs;
mod limits;
mod mounts;
mod oci;
mod process;
mod render;
mod resources;
mod security;
mod signals;
mod sysctls;
mod user;

pub use capabilities::{capability_names, capability_number};
pub use container::container;
pub use exec::exec;
pub use files::{hosts, resolv_conf};
pub use inputs::{
    Built, DeviceKind, DeviceRule, HostDevice, ImageConfig, Inputs, NodeFacts, PodFiles, SharedMemory,
};
pub use oci::{PlanOptions, hook, plan_from_oci};
pub use signals::{signal_number, stop_signal};
pub use sysctls::sysctls;
