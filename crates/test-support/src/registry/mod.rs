//! Registries on the loopback interface: Debian's docker-registry for what must be real, and a read-only
//! one in threads of our own for what must need nothing.

mod options;
mod process;
mod push;
mod serve;

pub use options::{Options, PASSWORD, USER};
pub use process::Registry;
pub use serve::{OciServer, Request, serve_oci};
