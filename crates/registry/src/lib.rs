//! A client for image registries (OCI distribution specification 1.1): where a reference is fetched from,
//! with whose credentials, over which connections, with which retries.
//!
//! It verifies sizes of what it holds in memory and digests of manifests; whoever takes a blob verifies it. It
//! writes nothing to the disk, and gives credentials to nobody but the host they are for.

mod auth;
mod challenge;
mod error;
mod fetch;
mod hosts;
mod retry;
mod session;
mod token;
mod transport;
mod url;

pub use auth::Auth;
pub use error::RegistryError;
pub use fetch::{Arriving, Fetched};
pub use retry::backoff as retry_wait;
pub use session::Session;
pub use transport::{Timeouts, Transport};

/// The largest manifest or index that is read, in bytes.
pub const MANIFEST_MAX: u64 = 8 << 20;

/// What a request for a manifest accepts.
pub const MANIFEST_ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
