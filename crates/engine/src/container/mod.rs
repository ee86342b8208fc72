//! One container: what is known of it.
//!
//! ```text
//!            create                start                 exit
//! (nothing) ───────▶ Creating ─▶ Created ─▶ Starting ─▶ Running ─▶ Exited ─▶ (removed)
//!                       └─ a step fails: undone          └─ a step fails: Exited, with the reason
//! ```

pub mod create;
pub mod exec;
pub mod exit;
pub mod log;
pub mod prepare;
pub mod remove;
pub mod start;
pub mod stop;

use crate::api::{ContainerState, ContainerStatus};
use crate::pod::Pod;
use crate::record::{ContainerPhase, ContainerRecord, container_name};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use types::{ContainerId, Result};

/// One container.
pub(crate) struct Container {
    pub id: ContainerId,
    pub pod: Arc<Pod>,
    record: RwLock<ContainerRecord>,
    /// Held by whoever creates, starts or removes it.
    pub operation: tokio::sync::Mutex<()>,
    /// `true` once it does not run any more.
    pub ended: watch::Sender<bool>,
    /// Numbers execs.
    pub execs: AtomicU64,
    pub snapshotter: &'static str,
}

impl Container {
    pub fn new(pod: Arc<Pod>, record: ContainerRecord, snapshotter: &'static str) -> Self {
        let ended = record.phase == ContainerPhase::Exited;
        Self {
            id: record.id.clone(),
            pod,
            record: RwLock::new(record),
            operation: tokio::sync::Mutex::new(()),
            ended: watch::Sender::new(ended),
            // A daemon before this one may have execs under way in the same shim; numbers do not meet.
            execs: AtomicU64::new(first_exec()),
            snapshotter,
        }
    }

    pub fn record(&self) -> RwLockReadGuard<'_, ContainerRecord> {
        self.record.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record on disk, and where that succeeds in memory.
    pub fn update(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        let mut record = self.record.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = record.clone();
        change(&mut changed);
        self.pod.folder.write(&container_name(&self.id), &changed)?;
        *record = changed;
        Ok(())
    }

    /// Changes the record in memory even where the disk does not take it: for what has happened already.
    pub fn note(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        let mut record = self.record.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        self.pod.folder.write(&container_name(&self.id), &*record)
    }

    pub fn phase(&self) -> ContainerPhase {
        self.record().phase
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> String {
        format!("{}/{}", self.pod.record().cgroup.trim_end_matches('/'), self.id)
    }

    /// The log's folder and its path below it; `None` where it writes none.
    pub fn log(&self) -> Option<(String, String)> {
        let (directory, path) =
            (self.pod.record().config.log_directory.clone(), self.record().config.log_path.clone());
        (!directory.is_empty() && !path.is_empty()).then_some((directory, path))
    }

    pub fn status(&self) -> ContainerStatus {
        let log_path =
            self.log().map(|(dir, path)| Path::new(&dir).join(path).to_string_lossy().into_owned());
        let record = self.record();
        ContainerStatus {
            id: record.id.clone(),
            pod: self.pod.id.clone(),
            config: record.config.clone(),
            state: record.state(),
            created_at: record.created_at,
            started_at: record.started_at,
            finished_at: record.finished_at,
            exit_code: record.exit_code,
            reason: record.reason.clone(),
            message: record.message.clone(),
            image_id: record.image_id.clone(),
            image_ref: record.image_ref.clone(),
            log_path: log_path.unwrap_or_default(),
            resources: record.resources.clone(),
            user: record.user.clone(),
            stop_signal: record.stop_signal,
            pid: record.pid,
            spec: None,
            snapshotter: self.snapshotter.to_owned(),
            steps: record.steps.clone(),
        }
    }
}

fn first_exec() -> u64 {
    let mut bytes = [0; 8];
    // Even without randomness the clock keeps daemons apart.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes) >> 1,
        _ => types::time::now_nanos().cast_unsigned() >> 1,
    }
}

impl ContainerRecord {
    /// A container whose creation is not done is nobody's yet.
    pub fn is_listed(&self) -> bool {
        self.phase != ContainerPhase::Creating
    }

    pub fn state(&self) -> ContainerState {
        match self.phase {
            ContainerPhase::Creating | ContainerPhase::Created | ContainerPhase::Starting => {
                ContainerState::Created
            }
            ContainerPhase::Running => ContainerState::Running,
            ContainerPhase::Exited => ContainerState::Exited,
        }
    }
}
