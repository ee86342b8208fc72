//! The registry client against servers in this process, and against Debian's docker-registry and tinyproxy where
//! they are installed.

mod credentials;
mod hosts;
mod led;
mod peers;
mod progress;
mod proxy;
mod push;
mod ranges;
mod server;

use registry::{Auth, BlobReader, Session, Timeouts, Transport};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use types::Reference;

/// Short waits; nothing of the environment.
pub fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(2),
        headers: Duration::from_secs(3),
        idle: Duration::from_millis(600),
    }
}

pub fn transport() -> Arc<Transport> {
    Arc::new(Transport::new(timeouts()).proxies(registry::Proxies::default()))
}

pub fn open(reference: &Reference, auth: Option<&Auth>) -> Session {
    Session::open(transport(), None, reference, auth).expect("session")
}

pub fn open_push(reference: &Reference, auth: Option<&Auth>) -> Session {
    Session::open_push(transport(), None, reference, auth).expect("session")
}

/// A session by a tree of `hosts.toml`.
pub fn open_with(hosts: &Path, reference: &Reference, auth: Option<&Auth>) -> types::Result<Session> {
    Session::open(transport(), Some(hosts.to_owned()), reference, auth)
}

/// `alice` with a password that must be seen nowhere.
pub fn alice() -> Auth {
    Auth { username: Some("alice".into()), password: Some(PASSWORD.into()), ..Auth::default() }
}

pub const PASSWORD: &str = "s3cret&pass";

/// Gives a blob from memory.
pub fn source(blob: bytes::Bytes) -> impl Fn(u64) -> std::io::Result<BlobReader> + Send + Sync {
    move |offset| {
        let rest = blob.slice(usize::try_from(offset).expect("offset")..);
        Ok(Box::new(std::io::Cursor::new(rest)) as BlobReader)
    }
}
