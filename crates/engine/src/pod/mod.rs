//! One pod sandbox: what is known of it, and the task that listens to its monitor.
//!
//! ```text
//!            run              stop, or monitor lost
//! (nothing) ─────▶ Starting ─▶ Ready ─────▶ Stopping ─────▶ Stopped ─────▶ (removed)
//!                     │                        └─ a part fails: a retry does what is left
//!                     └─ a step fails: undone, nothing remains
//! ```

pub mod remove;
pub mod run;
pub mod sandbox;
pub mod stop;

use crate::api::{PodState, PodStatus};
use crate::parts::Shared;
use crate::record::{POD, PodPhase, PodRecord};
use monitor::{Monitor, MonitorEvent};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use store::record::Folder;
use types::{PodId, Result};

/// One pod sandbox.
pub(crate) struct Pod {
    pub id: PodId,
    /// Its state folder.
    pub path: PathBuf,
    pub folder: Folder,
    record: RwLock<PodRecord>,
    monitor: Mutex<Option<Monitor>>,
    /// Held by whoever changes the pod as a whole.
    pub operation: tokio::sync::Mutex<()>,
}

impl Pod {
    pub fn new(path: PathBuf, record: PodRecord) -> Result<Self> {
        let folder = Folder::open(&path)?;
        Ok(Self {
            id: record.id.clone(),
            path,
            folder,
            record: RwLock::new(record),
            monitor: Mutex::new(None),
            operation: tokio::sync::Mutex::new(()),
        })
    }

    pub fn record(&self) -> RwLockReadGuard<'_, PodRecord> {
        self.record.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record on disk, and where that succeeds in memory.
    pub fn update(&self, change: impl FnOnce(&mut PodRecord)) -> Result<()> {
        let mut record = self.record.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = record.clone();
        change(&mut changed);
        self.folder.write(POD, &changed)?;
        *record = changed;
        Ok(())
    }

    pub fn monitor(&self) -> Option<Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_monitor(&self, monitor: Option<Monitor>) {
        *self.monitor.lock().unwrap_or_else(PoisonError::into_inner) = monitor;
    }

    pub fn is_ready(&self) -> bool {
        self.record().state() == PodState::Ready
    }

    pub fn status(&self) -> PodStatus {
        let record = self.record();
        PodStatus {
            id: record.id.clone(),
            config: record.config.clone(),
            runtime_handler: record.runtime_handler.clone(),
            state: record.state(),
            created_at: record.created_at,
            ips: record.ips.clone(),
            network_result: record.network_result.clone(),
            monitor_pid: record.monitor_pid,
            netns: if record.own_network {
                self.netns().to_string_lossy().into_owned()
            } else {
                String::new()
            },
            cgroup: record.cgroup.clone(),
            steps: record.steps.clone(),
        }
    }

    /// Where the network namespace is pinned.
    pub fn netns(&self) -> PathBuf {
        self.path.join("netns")
    }
}

/// Listens to a pod's monitor until it is gone.
pub(crate) fn listen(shared: &Arc<Shared>, pod: &Arc<Pod>, monitor: &Monitor) {
    let Some(mut events) = monitor.events() else { return };
    let (shared, pod) = (Arc::downgrade(shared), Arc::downgrade(pod));
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let Some((shared, pod)) = upgrade(&shared, &pod) else { return };
            match event {
                MonitorEvent::Exited(exit) => crate::container::exit::apply(&shared, &exit),
                MonitorEvent::Gone => return disconnected(&shared, &pod).await,
            }
        }
    });
}

fn upgrade(shared: &Weak<Shared>, pod: &Weak<Pod>) -> Option<(Arc<Shared>, Arc<Pod>)> {
    Some((shared.upgrade()?, pod.upgrade()?))
}

/// The connection broke. A monitor that is alive all the same is connected to again; one that is not is lost.
async fn disconnected(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    pod.set_monitor(None);
    if sandbox::monitor_alive(pod) && pod.is_ready() {
        tracing::warn!(pod = %pod.id, "the connection to the pod's monitor broke; connecting again");
        Box::pin(crate::recover::take_over(shared, pod)).await;
    } else {
        lost(shared, pod);
    }
}

/// The monitor ended without being asked to: what it had on disk counts, what ran is killed, and the pod is
/// no longer ready, so that its owner makes a new one.
pub(crate) fn lost(shared: &Arc<Shared>, pod: &Arc<Pod>) {
    pod.set_monitor(None);
    if pod.is_ready() {
        tracing::warn!(pod = %pod.id, "the pod's monitor is gone; what still runs is killed");
        if let Err(error) = pod.update(|record| record.phase = PodPhase::Stopping) {
            tracing::error!(pod = %pod.id, error = %error.chain(), "the loss of the monitor is not recorded");
        }
    }
    for container in shared.registry.containers_of(pod) {
        crate::container::exit::lost(shared, &container);
    }
}
