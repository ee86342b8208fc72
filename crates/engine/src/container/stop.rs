//! StopContainer: asked, waited for, killed.

use super::Container;
use super::exit::clean_cgroup;
use crate::parts::{Shared, blocking};
use crate::record::ContainerPhase;
use std::sync::Arc;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

const SIGKILL: i32 = 9;
/// How long a monitor may take to pass a signal on.
const SIGNAL_LIMIT: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone; one that hangs in the kernel takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn stop(shared: &Arc<Shared>, id: &str, timeout: Duration) -> Result<()> {
    let container = match shared.registry.container(id) {
        Ok(container) => container,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let shared = shared.clone();
    // Not joined with other stops: a later one may have less patience.
    let stop = tokio::spawn(async move { stop_container(&shared, &container, timeout).await });
    stop.await.unwrap_or_else(|e| Err(Error::with_source(ErrorKind::Internal, "the stop broke off", e)))
}

/// Stops a container. One that does not run is stopped.
///
/// Every stop waits for the same end with a patience of its own: one that comes later with less is not held up.
pub(crate) async fn stop_container(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    timeout: Duration,
) -> Result<()> {
    {
        // A start that is under way ends first, so that nothing is born after the stop.
        let _operation = container.operation.lock().await;
        if !matches!(container.phase(), ContainerPhase::Running | ContainerPhase::Starting) {
            return Ok(());
        }
    }
    let mut ended = container.ended.subscribe();
    if !timeout.is_zero() {
        let signal = container.record().stop_signal;
        // Where the monitor does not help, asking is over and the kill below decides.
        let asked = send(container, signal).await;
        if asked.is_ok() && tokio::time::timeout(timeout, ended.wait_for(|ended| *ended)).await.is_ok() {
            return Ok(());
        }
    }
    let killed = send(container, SIGKILL).await;
    if killed.is_ok() && tokio::time::timeout(KILL_LIMIT, ended.wait_for(|e| *e)).await.is_ok() {
        return Ok(());
    }
    // The cgroup knows every process of the container.
    let (shared, owned) = (shared.clone(), container.clone());
    blocking(move || clean_cgroup(&shared, &owned)).await?;
    super::exit::settle(container);
    Ok(())
}

async fn send(container: &Container, signal: i32) -> Result<()> {
    let Some(monitor) = container.pod.monitor() else {
        return Err(Error::new(ErrorKind::Unavailable, "the pod's monitor is gone"));
    };
    let sent = monitor.signal(container.id.as_str(), None, signal);
    tokio::time::timeout(SIGNAL_LIMIT, sent)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::DeadlineExceeded, "the pod's monitor does not answer")))
}
