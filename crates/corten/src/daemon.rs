//! `corten daemon`: serves CRI until it is asked to end. SIGTERM and SIGINT let running calls finish; pods
//! keep running, and the next daemon takes them over.

use crate::config::Config;
use crate::node;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use types::{Error, ErrorKind, Result};

/// Serves until a signal ends it.
pub async fn run(config: Config) -> Result<()> {
    let began = Instant::now();
    let node = node::open(&config, false).await?;
    let listener = node::listen(&config.grpc.address)?;
    let ended = ending()?;
    let pods = node.engine.list_pods(&engine::api::PodFilter::default()).len();
    tracing::info!(
        address = %config.grpc.address.display(),
        root = %config.root.display(),
        state = %config.state.display(),
        pods,
        millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ready"
    );
    notify("READY=1");
    let address = config.grpc.address.clone();
    let stopping = async {
        ended.await;
        tracing::info!("stopping: running calls finish, pods keep running");
        notify("STOPPING=1");
    };
    let served = cri_server::serve(node.engine.clone(), listener, stopping).await;
    if let Err(error) = node.engine.close().await {
        tracing::warn!(error = %error.chain(), "the node's own cgroup stays");
    }
    let _ = std::fs::remove_file(&address);
    tracing::info!("stopped");
    served
}

/// Resolves at SIGTERM or SIGINT.
fn ending() -> Result<impl Future<Output = ()>> {
    let fail = |e| Error::with_source(ErrorKind::Internal, "cannot listen to signals", e);
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Tells the service manager, where there is one (sd_notify(3)): one datagram to `$NOTIFY_SOCKET`, whose name
/// begins with `@` for an abstract address.
fn notify(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        let bytes = address.as_encoded_bytes();
        match bytes.strip_prefix(b"@") {
            Some(name) => {
                use std::os::linux::net::SocketAddrExt;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(state.as_bytes(), &address)?;
            }
            None => {
                socket.send_to(state.as_bytes(), &address)?;
            }
        }
        Ok(())
    };
    if let Err(error) = send() {
        tracing::warn!(%error, "the service manager cannot be told {state}");
    }
}
