//! Taking over what an earlier daemon left: records are compared with the kernel, and the kernel wins.
//!
//! | found | done |
//! |---|---|
//! | a pod that was starting | undone: nobody was told of it |
//! | a ready pod whose shim answers | taken over; ends that were missed are on disk |
//! | a ready pod whose shim is gone | what is left is killed; not ready |
//! | a container that was being created | undone |
//! | a writable layer, a layer, or an attachment that no record needs | removed |

use crate::container::{Container, exit};
use crate::parts::{Shared, blocking};
use crate::pod::{self, Pod};
use crate::record::{ContainerPhase, ContainerRecord, POD, PodPhase, PodRecord, container_name};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::record::Folder;
use types::{ContainerId, PodId, Result};

/// How long a shim may take to say that it is there.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<()> {
    let mut half_done = Vec::new();
    for path in pod_folders(&shared.config.state.join("pods")) {
        match load(shared, &path) {
            Ok(Some(pod)) if pod.record().phase == PodPhase::Starting => half_done.push(pod),
            Ok(Some(pod)) => take_over(shared, &pod).await,
            Ok(None) => remove_empty(&path),
            Err(error) => {
                tracing::error!(folder = %path.display(), error = %error.chain(), "a pod's record cannot be read; its folder stays for you to look at");
            }
        }
    }
    for pod in half_done {
        tracing::info!(pod = %pod.id, "a pod that was being started is undone");
        if let Err(error) = pod::remove::remove(shared, pod.id.as_str()).await {
            tracing::warn!(pod = %pod.id, error = %error.chain(), "a half-started pod is not undone in every part");
        }
    }
    sweep(shared).await
}

fn pod_folders(pods: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(pods) else { return Vec::new() };
    let is_pod =
        |e: &std::fs::DirEntry| e.file_name().to_str().is_some_and(|name| PodId::parse(name).is_ok());
    entries.flatten().filter(is_pod).map(|e| e.path()).collect()
}

/// The pod and its containers, from their records into memory.
fn load(shared: &Arc<Shared>, path: &Path) -> Result<Option<Arc<Pod>>> {
    let folder = Folder::open(path)?;
    let Some(record) = folder.read::<PodRecord>(POD)? else { return Ok(None) };
    let pod = Arc::new(Pod::new(path.to_owned(), record)?);
    shared.registry.add_pod(pod.clone());
    for name in folder.names()? {
        let Some(id) = name.strip_prefix("container-").and_then(|n| n.strip_suffix(".json")) else {
            continue;
        };
        let Ok(id) = ContainerId::parse(id) else { continue };
        let Some(record) = folder.read::<ContainerRecord>(&container_name(&id))? else { continue };
        shared.parts.images.hold_layers(id.as_str(), record.chain.clone());
        shared.registry.add_container(Arc::new(Container::new(
            pod.clone(),
            record,
            shared.parts.snapshotter.name(),
        )));
    }
    Ok(Some(pod))
}

fn remove_empty(path: &Path) {
    // A folder without a record was made and not recorded: nothing else was done in it.
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(folder = %path.display(), %error, "a folder without a record cannot be removed");
    }
}

async fn take_over(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    let connected = match monitor::connect(&pod.path) {
        Ok(monitor) => match tokio::time::timeout(HELLO_LIMIT, monitor.hello()).await {
            Ok(Ok((pid, known))) => Some((monitor, pid, known)),
            Ok(Err(error)) => {
                tracing::warn!(pod = %pod.id, error = %error.chain(), "the pod's monitor does not answer");
                None
            }
            Err(_) => {
                // It is there and does not run (stopped, or starved): the pod is kept, its calls will tell.
                tracing::warn!(pod = %pod.id, "the pod's monitor is there and does not answer in time");
                Some((monitor, pod.record().monitor_pid, Vec::new()))
            }
        },
        Err(_) => None,
    };
    let Some((monitor, pid, known)) = connected else {
        pod::lost(shared, pod);
        undo_creations(shared, pod).await;
        return;
    };
    pod.set_monitor(Some(monitor.clone()));
    if pod.record().monitor_pid != pid
        && let Err(error) = pod.update(|record| record.monitor_pid = pid)
    {
        tracing::warn!(pod = %pod.id, error = %error.chain(), "a record cannot be written");
    }
    for container in shared.registry.containers_of(pod) {
        if !matches!(container.phase(), ContainerPhase::Running | ContainerPhase::Starting) {
            continue;
        }
        match known.iter().find(|k| k.container == container.id.as_str()) {
            Some(k) if k.pid != 0 => {
                let started = |record: &mut ContainerRecord| {
                    record.phase = ContainerPhase::Running;
                    record.pid = k.pid;
                    record.started_at = record.started_at.max(record.created_at);
                };
                let _ = container.update(started);
            }
            _ => match exit::on_disk(&container) {
                Some(end) => exit::apply(shared, &end),
                None if known.is_empty() => {}
                None => exit::lost_now(&container),
            },
        }
    }
    undo_creations(shared, pod).await;
    pod::listen(shared, pod, &monitor);
}

async fn undo_creations(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    for container in shared.registry.containers_of(pod) {
        if container.phase() == ContainerPhase::Creating
            && let Err(error) = crate::container::remove::remove(shared, container.id.as_str()).await
        {
            tracing::warn!(container = %container.id, error = %error.chain(), "a half-made container is not undone in every part");
        }
    }
}

/// Removes what no record owns.
async fn sweep(shared: &Arc<Shared>) -> Result<()> {
    let live: HashSet<String> = shared.registry.pods().iter().map(|pod| pod.id.to_string()).collect();
    if let Err(error) = shared.parts.network.sweep(&live).await {
        tracing::warn!(error = %error.chain(), "attachments of pods that are gone are not all given back");
    }
    if let Err(error) = shared.parts.images.collect().await {
        tracing::warn!(error = %error.chain(), "content that nothing refers to is not all removed");
    }
    let known: HashSet<String> = shared.registry.containers().iter().map(|c| c.id.to_string()).collect();
    let shared = shared.clone();
    blocking(move || {
        for id in shared.parts.snapshotter.containers()? {
            if !known.contains(&id) {
                tracing::info!(container = %id, "a writable layer without a container is removed");
                shared.parts.snapshotter.remove(&id)?;
            }
        }
        if let Ok(volumes) = std::fs::read_dir(&shared.config.volumes) {
            for folder in
                volumes.flatten().filter(|f| f.file_name().to_str().is_some_and(|n| !known.contains(n)))
            {
                let _ = std::fs::remove_dir_all(folder.path());
            }
        }
        Ok(())
    })
    .await
}
