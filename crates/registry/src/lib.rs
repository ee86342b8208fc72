//! A client for image registries (OCI distribution specification 1.1): where a reference is fetched from,
//! with whose credentials, over which connections, with which retries.
//!
//! It verifies sizes of what it holds in memory and digests of manifests; whoever takes a blob verifies it. It
//! writes nothing to the disk, and gives credentials to nobody but the host they are for.

mod auth;
mod challenge;
mod credentials;
mod error;
mod exchange;
mod fetch;
mod hosts;
mod identity;
mod led;
mod list;
mod payload;
mod proxy;
mod push;
mod registries_conf;
mod retry;
mod session;
mod token;
mod transport;
mod url;

pub use auth::Auth;
pub use credentials::CredentialsFile;
pub use error::RegistryError;
pub use fetch::{Arriving, BlobHead, Fetched};
pub use list::Referrer;
pub use payload::BlobReader;
pub use proxy::Proxies;
pub use push::Put;
pub use registries_conf::{RegistriesConf, is_short as is_short_name};
pub use retry::backoff as retry_wait;
pub use session::Session;
pub use transport::{DownloadTurn, PROGRESS_MIN, Timeouts, Transport};

/// The largest manifest or index that is read, in bytes.
pub const MANIFEST_MAX: u64 = 8 << 20;

/// What a request for a manifest accepts.
pub const MANIFEST_ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Parsers of what comes from outside, for fuzzing: none may panic, or take long, on any input.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::challenge::fuzz_www_authenticate as www_authenticate;
    pub use crate::credentials::fuzz_docker_config as docker_config;
    pub use crate::hosts::fuzz_hosts_toml as hosts_toml;
    pub use crate::registries_conf::fuzz_registries_conf as registries_conf;
}
