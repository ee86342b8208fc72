//! The specification of OCI runtimes, one test per promise; run with any runtime that has runc's command line.
//!
//! `OCI_RUNTIME=crun cargo nextest run -p corten-oci-suite` tests another one. Where a peer is not as the
//! specification says, the test says so with [`oci_suite::differs`], and checks that it is still so.

mod binds;
mod capabilities;
mod device_rules;
mod devices;
mod hook_failures;
mod hooks;
mod idmap;
mod labels;
mod limits;
mod mount_options;
mod mount_points;
mod mounts;
mod namespaces;
mod net_devices;
mod paths;
mod process;
mod propagation;
mod refusals;
mod resources;
mod root;
mod scheduling;
mod seccomp;
mod seccomp_args;
mod terminal;
mod user_namespaces;
