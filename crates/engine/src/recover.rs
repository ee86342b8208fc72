//! Taking over what an earlier daemon left: records are compared with the kernel, and the kernel wins.
//!
//! | found | done |
//! |---|---|
//! | a pod that was starting | undone: nobody was told of it |
//! | a ready pod whose shim answers | taken over; ends that were missed are on disk |
//! | a pod whose shim is there and silent | kept as it is |
//! | a ready pod whose shim is gone | what is left is killed; not ready |
//! | a container whose start never reached the shim | created, as before |
//! | a container that was being created | undone |
//! | a writable layer, a layer, or an attachment that no record needs | removed |
//! | a record that cannot be read | kept, and as long as this daemon lives nothing that looks unneeded is removed |

use crate::container::prepare::remove_volumes;
use crate::container::{Container, exit};
use crate::parts::{Shared, blocking};
use crate::pod::sandbox::monitor_alive;
use crate::pod::{self, Pod};
use crate::record::{ContainerPhase, ContainerRecord, POD, PodPhase, PodRecord, container_name};
use futures_util::future::join_all;
use monitor::{Known, Monitor};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::record::Folder;
use types::{ContainerId, PodId, Result};

/// How long a shim may take to say that it is there.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How often a shim whose process is there is connected to.
const CONNECT_ATTEMPTS: u32 = 8;
/// The first pause between two attempts; each is longer by as much.
const CONNECT_PAUSE: Duration = Duration::from_millis(25);

pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<()> {
    let (mut half_done, mut whole) = (Vec::new(), Vec::new());
    let mut unread = 0;
    let pods = shared.config.state.join("pods");
    let folders = pod_folders(&pods).unwrap_or_else(|error| {
        tracing::error!(folder = %pods.display(), %error, "the folder of the pods cannot be read");
        unread += 1;
        Vec::new()
    });
    for path in folders {
        match load(shared, &path, &mut unread) {
            Ok(Some(pod)) if pod.record().phase == PodPhase::Starting => half_done.push(pod),
            Ok(Some(pod)) => whole.push(pod),
            Ok(None) => remove_empty(&path),
            Err(error) => {
                unread += 1;
                tracing::error!(folder = %path.display(), error = %error.chain(), "a pod's record cannot be read; its folder stays for you to look at");
            }
        }
    }
    // Side by side: one monitor that does not answer delays no other pod.
    join_all(whole.iter().map(|pod| take_over(shared, pod))).await;
    join_all(half_done.iter().map(|pod| undo(shared, pod))).await;
    if unread > 0 {
        // What those containers hold is not known, and they may run.
        shared.parts.images.keep_all();
        tracing::error!(
            unread,
            "records of pods or containers cannot be read, so nothing that looks unneeded is removed: no writable \
             layer, volume, image layer or network attachment; mend what the errors above name, or remove those files \
             once their containers are gone, and restart the daemon"
        );
        return Ok(());
    }
    sweep(shared).await
}

async fn undo(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    tracing::info!(pod = %pod.id, "a pod that was being started is undone");
    if let Err(error) = pod::remove::remove(shared, pod.id.as_str()).await {
        tracing::warn!(pod = %pod.id, error = %error.chain(), "a half-started pod is not undone in every part");
    }
}

/// All of them, or an error: what is not known here counts as gone.
fn pod_folders(pods: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let is_pod =
        |e: &std::fs::DirEntry| e.file_name().to_str().is_some_and(|name| PodId::parse(name).is_ok());
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(pods)? {
        folders.extend(Some(entry?).filter(is_pod).map(|e| e.path()));
    }
    Ok(folders)
}

/// The pod and its containers, from their records into memory. A container whose record cannot be read is counted
/// in `unread`; the others are taken over without it.
fn load(shared: &Arc<Shared>, path: &Path, unread: &mut usize) -> Result<Option<Arc<Pod>>> {
    let folder = Folder::open(path)?;
    let Some(record) = folder.read::<PodRecord>(POD)? else { return Ok(None) };
    let pod = Arc::new(Pod::new(path.to_owned(), record)?);
    let names = folder.names()?;
    shared.registry.add_pod(pod.clone());
    for name in names {
        let Some(id) = name.strip_prefix("container-").and_then(|n| n.strip_suffix(".json")) else {
            continue;
        };
        let Ok(id) = ContainerId::parse(id) else { continue };
        let record = match folder.read::<ContainerRecord>(&container_name(&id)) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error) => {
                *unread += 1;
                tracing::error!(pod = %pod.id, container = %id, error = %error.chain(), "a container's record cannot be read; what is its own stays as it is");
                continue;
            }
        };
        shared.parts.images.hold_layers(id.as_str(), record.chain.clone());
        shared.parts.images.hold_volume_layers(id.as_str(), &record.mounted);
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

/// What became of a pod's monitor.
enum Found {
    /// It answers.
    Answered { monitor: Monitor, pid: i32, known: Vec<Known> },
    /// Its process is there and does not answer: stopped, starved, or of another version. Its pod is kept, and
    /// its calls tell what is wrong.
    Silent(Option<Monitor>),
    /// Its process is gone.
    Gone,
}

async fn find(pod: &Pod) -> Found {
    for attempt in 1..=CONNECT_ATTEMPTS {
        let Ok(monitor) = monitor::connect(&pod.path) else {
            if !monitor_alive(pod) {
                return Found::Gone;
            }
            tokio::time::sleep(CONNECT_PAUSE * attempt).await;
            continue;
        };
        let problem = match tokio::time::timeout(HELLO_LIMIT, monitor.hello()).await {
            Ok(Ok((pid, known))) => return Found::Answered { monitor, pid, known },
            Ok(Err(error)) => error.chain(),
            Err(_) => format!("no answer within {} s", HELLO_LIMIT.as_secs()),
        };
        if !monitor_alive(pod) {
            return Found::Gone;
        }
        tracing::warn!(pod = %pod.id, problem, "the pod's monitor is there and of no help; its pod is kept");
        return Found::Silent(Some(monitor));
    }
    tracing::warn!(pod = %pod.id, "the pod's monitor is there and cannot be connected to; its pod is kept");
    Found::Silent(None)
}

/// Finds a pod's monitor and brings the records to what it knows.
pub(crate) async fn take_over(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    let (monitor, answer) = match find(pod).await {
        Found::Gone => {
            pod::lost(shared, pod);
            return undo_creations(shared, pod).await;
        }
        Found::Silent(monitor) => (monitor, None),
        Found::Answered { monitor, pid, known } => (Some(monitor), Some((pid, known))),
    };
    pod.set_monitor(monitor.clone());
    if let Some((pid, _)) = answer
        && pod.record().monitor_pid != pid
        && let Err(error) = pod.update(|record| record.monitor_pid = pid)
    {
        tracing::warn!(pod = %pod.id, error = %error.chain(), "a record cannot be written");
    }
    for container in shared.registry.containers_of(pod) {
        if matches!(container.phase(), ContainerPhase::Running | ContainerPhase::Starting) {
            compare(shared, &container, answer.as_ref().map(|(_, known)| known.as_slice())).await;
        }
    }
    undo_creations(shared, pod).await;
    if let Some(monitor) = monitor {
        pod::listen(shared, pod, &monitor);
    }
}

/// Brings the record of a container that was running or starting to what the shim knows; `None` where it did not say.
async fn compare(shared: &Arc<Shared>, container: &Arc<Container>, known: Option<&[Known]>) {
    let found = known.and_then(|known| known.iter().find(|k| k.container == container.id.as_str()));
    if let Some(running) = found.filter(|k| k.pid != 0) {
        let started = |record: &mut ContainerRecord| {
            record.phase = ContainerPhase::Running;
            record.pid = running.pid;
            record.started_at = record.started_at.max(record.created_at);
        };
        if let Err(error) = container.note(started) {
            tracing::warn!(container = %container.id, error = %error.chain(), "a record cannot be written");
        }
        return;
    }
    if let Some(end) = exit::on_disk(container) {
        return exit::apply(shared, &end);
    }
    if known.is_none() {
        return;
    }
    // The shim answered and knows no such process: the start never reached it, or failed there unheard.
    let (engine, owned) = (shared.clone(), container.clone());
    if let Err(error) = blocking(move || exit::clean_cgroup(&engine, &owned)).await {
        tracing::warn!(container = %container.id, error = %error.chain(), "the cgroup of a container that does not run stays");
    }
    if container.phase() == ContainerPhase::Starting {
        if let Err(error) = container.note(|record| record.phase = ContainerPhase::Created) {
            tracing::warn!(container = %container.id, error = %error.chain(), "a record cannot be written");
        }
    } else {
        exit::lost_now(container);
    }
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
                if let Some(id) = folder.file_name().to_str()
                    && let Err(error) = remove_volumes(&shared, id)
                {
                    tracing::warn!(error = %error.chain(), "volumes without a container stay");
                }
            }
        }
        Ok(())
    })
    .await
}
