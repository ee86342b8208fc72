//! The per-pod monitor: one small static process, single-threaded, that is the parent of a pod's processes. It
//! creates containers in-process, writes their logs, keeps their exit codes, and outlives the daemon.
//! It decides nothing: what to do comes as plans from the daemon, and it never parses JSON.

mod configure;
mod container;
mod launch;
mod output;
mod pause;
mod peers;
mod supervisor;

use std::process::ExitCode;

fn main() -> ExitCode {
    match supervisor::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the pod's `shim.log`.
            eprintln!("corten-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
