//! Typical requests and what is decided about them (golden files), one test per refusal, and specifications
//! as runc's callers write them.

mod golden;
mod hostile;
mod oci;
mod refusals;
mod requests;
