//! The only unsafe code: system calls that rustix does not wrap, each behind a safe function whose
//! SAFETY comment proves it. Knows nothing of containers.

pub mod bpf;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod process;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod signalfd;
pub mod userns;
