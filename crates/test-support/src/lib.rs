//! What tests, the demonstration and the benchmark stand on: image fixtures built in memory, a local
//! registry, temporary roots, the programs under test, and a view of what the kernel still holds.
//!
//! Nothing here reaches beyond the loopback interface, and nothing here is linked into a program that
//! runs on a node. Failures are sentences ([`Problem`]): a test that cannot be set up shows them.

pub mod http;
pub mod image;
pub mod kernel;
pub mod programs;
pub mod registry;
pub mod root;
pub mod supervised;

pub use image::Image;
pub use registry::{OciServer, Registry, serve_oci};
pub use root::TempRoot;
pub use supervised::Supervised;

/// Why a fixture could not be made: one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Problem(pub String);

/// The result of making a fixture.
pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    /// A problem with what was tried and what the system said.
    pub fn new(tried: impl std::fmt::Display, said: impl std::fmt::Display) -> Self {
        Self(format!("{tried}: {said}"))
    }
}

/// Turns a system's refusal into a [`Problem`] that says what was tried.
pub trait Tried<T> {
    /// `what` completes the sentence "cannot …".
    fn tried(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> Tried<T> for std::result::Result<T, E> {
    fn tried(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|said| Problem::new(format_args!("cannot {what}"), said))
    }
}
