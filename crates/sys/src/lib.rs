//! The only unsafe code: system calls that rustix does not wrap, each behind a safe function whose
//! SAFETY comment proves it. Knows nothing of containers.

pub mod bpf;
pub mod btrfs;
pub mod dm;
pub mod keyring;
pub mod loop_device;
pub mod memory;
pub mod mount;
pub mod process;
pub mod quota;
pub mod resident;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod signalfd;
pub mod userns;
pub mod verity;
