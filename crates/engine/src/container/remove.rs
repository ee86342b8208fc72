//! RemoveContainer: what it holds goes first, its record last.

use super::Container;
use super::exit::clean_cgroup;
use super::prepare::{remove_plan, remove_root};
use super::stop::stop_container;
use crate::parts::{Shared, blocking};
use crate::record::container_name;
use std::sync::Arc;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

pub(crate) async fn remove(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let container = match shared.registry.container(id) {
        Ok(container) => container,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let shared = shared.clone();
    let flights = &shared.clone().flights;
    let key = format!("remove/{}", container.id);
    flights.join(key, move || async move { remove_container(&shared, &container).await }).await
}

/// Removes a container and everything that is its own; the log stays, for it is its reader's.
pub(crate) async fn remove_container(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<()> {
    stop_container(shared, container, Duration::ZERO).await?;
    let _operation = container.operation.lock().await;
    let owned = container.clone();
    let engine = shared.clone();
    blocking(move || clean_cgroup(&engine, &owned)).await?;
    remove_root(shared, container).await?;
    if let Some(monitor) = container.pod.monitor() {
        // A shim that is gone has nothing to forget.
        match monitor.forget(container.id.as_str()).await {
            Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
            _ => {}
        }
    }
    remove_plan(container)?;
    remove_exit(container)?;
    container.pod.folder.remove(&container_name(&container.id))?;
    shared.registry.remove_container(container);
    // The last container of an image that was removed meanwhile takes the layers along: they are collected soon.
    shared.parts.images.release(container.id.as_str());
    Ok(())
}

fn remove_exit(container: &Container) -> Result<()> {
    let Ok(dir) = std::fs::File::open(&container.pod.path) else { return Ok(()) };
    monitor::exits::remove(&dir, container.id.as_str())
        .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot remove an exit record", e))
}
