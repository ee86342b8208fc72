//! Which CRI endpoint a verb talks to: the one that is named, the configured one when a daemon answers
//! there, or an engine in this process. It starts no daemon.

use crate::config::Config;
use crate::node::{self, InProcess};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use types::{Error, ErrorKind, Result};

/// How long a local socket may take to accept.
const CONNECT: Duration = Duration::from_secs(5);
/// How long to wait for another process that holds the folders.
const LOCKED: Duration = Duration::from_secs(3);

/// Reads `unix:///path`, `unix:/path` or a path.
pub fn parse(text: &str) -> Result<PathBuf, String> {
    let path = match text.split_once("://") {
        Some(("unix", path)) => path,
        Some((scheme, _)) => {
            return Err(format!("{scheme} endpoints are not supported; only Unix sockets are"));
        }
        None => text.strip_prefix("unix:").unwrap_or(text),
    };
    if path.is_empty() {
        return Err("the path of the socket is missing".into());
    }
    Ok(path.into())
}

/// A connection, and what is at its other end.
pub struct Connection {
    /// The transport.
    pub channel: Channel,
    /// The socket's path, which also names the endpoint in records.
    pub socket: PathBuf,
    /// The engine, where it is in this process; to be closed at the end.
    pub node: Option<InProcess>,
}

/// Connects to `named`, else to the configuration's socket, else to an engine in this process.
///
/// A verb that works in its own process holds the folders' lock for a moment; another one waits for it.
pub async fn open(named: Option<&Path>, config: &Config) -> Result<Connection> {
    let socket = named.unwrap_or(&config.grpc.address).to_owned();
    let begin = Instant::now();
    loop {
        if named.is_some() || listens(&socket)? {
            return Ok(Connection { channel: connect(&socket).await?, socket, node: None });
        }
        tracing::debug!(socket = %socket.display(), "no daemon answers; working in this process");
        match node::open_in_process(config).await {
            Ok(node) => return Ok(Connection { channel: node.channel.clone(), socket, node: Some(node) }),
            Err(error) if error.kind() == ErrorKind::FailedPrecondition && begin.elapsed() < LOCKED => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a daemon listens, which is the kernel's answer to connect(2), not whether the file is there.
fn listens(socket: &Path) -> Result<bool> {
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message =
                format!("the daemon's socket {} may only be used by root; use sudo", socket.display());
            Err(Error::with_source(ErrorKind::PermissionDenied, message, error))
        }
        Err(_) => Ok(false),
    }
}

/// Connects to the Unix socket at `path`.
pub async fn connect(path: &Path) -> Result<Channel> {
    runtime_manager::client::channel(path, CONNECT).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Error::with_source(ErrorKind::Unavailable, error.to_string(), cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_path_or_a_unix_url() {
        assert_eq!(parse("unix:///run/a.sock").unwrap(), Path::new("/run/a.sock"));
        assert_eq!(parse("unix:/run/a.sock").unwrap(), Path::new("/run/a.sock"));
        assert_eq!(parse("/run/a.sock").unwrap(), Path::new("/run/a.sock"));
        assert!(parse("tcp://1.2.3.4:5").unwrap_err().contains("only Unix sockets"));
        assert!(parse("unix://").is_err());
    }

    #[tokio::test]
    async fn a_named_endpoint_that_does_not_answer_is_an_error_with_its_path() {
        let error = open(Some(Path::new("/nonexistent/x.sock")), &Config::default()).await.err().unwrap();
        let text = error.chain();
        assert!(text.contains("/nonexistent/x.sock") && text.contains("No such file"), "{text}");
    }
}
