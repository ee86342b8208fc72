//! The command line of an OCI runtime, as runc has it: one test per verb and flag, and the life cycle of the
//! specification (runtime.md, "Operations").
//!
//! `OCI_RUNTIME=runc cargo nextest run -p corten-oci-suite` tests another runtime.

mod create;
mod delete;
mod events;
mod exec;
mod exec_settings;
mod features;
mod global;
mod kill;
mod life;
mod list;
mod pause;
mod ps;
mod run;
mod state;
mod update;
