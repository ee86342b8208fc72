//! The end of a container: recorded, told to whoever waits, and its cgroup removed.

use super::Container;
use crate::parts::Shared;
use crate::record::ContainerPhase;
use monitor::Exit;
use std::sync::Arc;
use types::Result;
use types::time::now_nanos;

/// A container's first process ended.
pub(crate) fn apply(shared: &Arc<Shared>, exit: &Exit) {
    let Ok(container) = shared.registry.container(&exit.container) else { return };
    if container.phase() == ContainerPhase::Exited {
        return;
    }
    record(&container, exit);
    tracing::info!(pod = %container.pod.id, container = %container.id, exit_code = exit.exit_code, oom = exit.oom_killed, "container ended");
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = clean_cgroup(&shared, &container) {
            tracing::warn!(container = %container.id, error = %error.chain(), "the cgroup of an ended container stays until it is removed");
        }
        // Told last: who waited for the end finds nothing of the container running.
        container.ended.send_replace(true);
    });
}

/// What the record says of an end.
pub(crate) fn record(container: &Container, exit: &Exit) {
    let updated = container.note(|record| {
        record.phase = ContainerPhase::Exited;
        record.pid = 0;
        record.exit_code = exit.exit_code;
        record.finished_at = exit.finished_at.max(record.started_at);
        if record.started_at == 0 {
            record.started_at = record.created_at.max(exit.finished_at);
        }
        record.reason = match (exit.oom_killed, exit.exit_code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        }
        .into();
    });
    if let Err(error) = updated {
        tracing::error!(container = %container.id, error = %error.chain(), "the end of a container is not recorded");
    }
}

/// The monitor is gone: what it left on disk counts, else the container was killed with it.
pub(crate) fn lost(shared: &Arc<Shared>, container: &Arc<Container>) {
    if !matches!(container.phase(), ContainerPhase::Running | ContainerPhase::Starting) {
        return;
    }
    match on_disk(container) {
        Some(exit) => apply(shared, &exit),
        None => {
            let (shared, container) = (shared.clone(), container.clone());
            tokio::task::spawn_blocking(move || {
                if let Err(error) = clean_cgroup(&shared, &container) {
                    tracing::warn!(container = %container.id, error = %error.chain(), "cannot kill what is left of a container");
                }
                settle(&container);
            });
        }
    }
}

/// Records the end of a container of which nothing runs any more: as the shim wrote it, else as killed.
pub(crate) fn settle(container: &Container) {
    match on_disk(container) {
        Some(exit) if container.phase() != ContainerPhase::Exited => {
            record(container, &exit);
            container.ended.send_replace(true);
        }
        _ => lost_now(container),
    }
}

/// Records an end that nobody saw.
pub(crate) fn lost_now(container: &Container) {
    if container.phase() != ContainerPhase::Exited {
        let exit = Exit {
            container: container.id.to_string(),
            exit_code: 137,
            signal: 9,
            oom_killed: false,
            finished_at: now_nanos(),
        };
        record(container, &exit);
        let _ = container
            .note(|record| record.message = "the pod's monitor ended; the container was killed".into());
    }
    container.ended.send_replace(true);
}

/// The exit record that the shim wrote.
pub(crate) fn on_disk(container: &Container) -> Option<Exit> {
    let dir = std::fs::File::open(&container.pod.path).ok()?;
    match monitor::exits::read(&dir, container.id.as_str()) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::warn!(container = %container.id, %error, "an exit record cannot be read");
            None
        }
    }
}

/// Kills what is left in the container's cgroup, and removes it.
pub(crate) fn clean_cgroup(shared: &Shared, container: &Container) -> Result<()> {
    match shared.parts.cgroups.open(&container.cgroup())? {
        Some(group) => {
            group.kill()?;
            group.remove()
        }
        None => Ok(()),
    }
}
