//! Pod and container life cycles as visible lists of steps with their undo.
//!
//! The engine knows no wire format. Its callers (`cri-server`, `corten run`) speak [`types`] and [`api`];
//! below it are the subsystems, which never call back. One object has one lock for its operations; what is
//! listed is answered from memory; what has to survive a restart of the daemon is written to the state folder
//! before it is done.

pub mod api;
mod container;
mod facts;
mod flight;
mod node;
mod parts;
mod pod;
mod record;
mod recover;
mod registry;
mod steps;

pub use parts::{EngineConfig, Parts};

use api::*;
use std::sync::Arc;
use std::time::Duration;
use types::{ContainerConfig, ContainerId, PodConfig, PodId, Result};

/// The engine; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<parts::Shared>);

impl Engine {
    /// Takes its parts, and the pods that an earlier daemon left.
    pub async fn open(config: EngineConfig, parts: Parts) -> Result<Self> {
        let engine = Self(Arc::new(parts::Shared::new(config, parts)?));
        recover::recover(&engine.0).await?;
        Ok(engine)
    }

    /// Makes a pod sandbox. The same metadata joins a call that is running, and answers with the pod that is
    /// there where it is ready.
    pub async fn run_pod(&self, config: PodConfig, runtime_handler: &str) -> Result<PodId> {
        pod::run::run(&self.0, config, runtime_handler).await
    }

    /// Stops every container of a pod and gives its network back. A pod that is gone is stopped.
    pub async fn stop_pod(&self, id: &str) -> Result<()> {
        pod::stop::stop(&self.0, id).await
    }

    /// Removes a pod with all that belongs to it. A pod that is gone is removed.
    pub async fn remove_pod(&self, id: &str) -> Result<()> {
        pod::remove::remove(&self.0, id).await
    }

    /// One pod.
    pub fn pod_status(&self, id: &str) -> Result<PodStatus> {
        Ok(self.0.registry.pod(id)?.status())
    }

    /// Pods, newest first.
    pub fn list_pods(&self, filter: &PodFilter) -> Vec<PodStatus> {
        self.0.registry.list_pods(filter)
    }

    /// Prepares a container in a pod. The same metadata joins a call that is running, and answers with the
    /// container that is there where it has not been started.
    pub async fn create_container(&self, pod: &str, config: ContainerConfig) -> Result<ContainerId> {
        container::create::create(&self.0, pod, config).await
    }

    /// Starts a prepared container. One that runs is started.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        container::start::start(&self.0, id).await
    }

    /// Asks a container to stop, and kills it when `timeout` has passed. One that is gone is stopped.
    pub async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        container::stop::stop(&self.0, id, timeout).await
    }

    /// Removes a container, which is killed where it runs. One that is gone is removed.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        container::remove::remove(&self.0, id).await
    }

    /// One container.
    pub fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(self.0.registry.container(id)?.status())
    }

    /// One container with the OCI specification that it was made from.
    pub fn container_details(&self, id: &str) -> Result<ContainerStatus> {
        let container = self.0.registry.container(id)?;
        let mut status = container.status();
        status.spec = container.pod.folder.read(&record::spec_name(&container.id)).unwrap_or_default();
        Ok(status)
    }

    /// Containers, newest first.
    pub fn list_containers(&self, filter: &ContainerFilter) -> Vec<ContainerStatus> {
        self.0.registry.list_containers(filter)
    }

    /// Opens a running container's log anew.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        container::log::reopen(&self.0, id).await
    }

    /// Runs a command in a container and brings its output. At the time limit the command is killed.
    pub async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        container::exec::exec_sync(&self.0, id, cmd, timeout).await
    }

    /// What the node can do and how it is.
    pub fn node_status(&self) -> NodeStatus {
        node::status(&self.0)
    }

    /// The range that the kubelet gives to this node's pods.
    pub fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        self.0.parts.network.set_pod_cidr(cidr)
    }

    /// The images.
    pub fn images(&self) -> &images::Images {
        &self.0.parts.images
    }

    /// Waits until running operations have ended; what comes after is the caller's to keep away.
    pub async fn drain(&self) {
        self.0.flights.drain().await;
    }

    /// The last call: drains, and where no pod is left gives back the cgroup that held them.
    pub async fn close(&self) -> Result<()> {
        self.drain().await;
        self.0.parts.network.settled().await;
        if !self.0.registry.pods().is_empty() {
            return Ok(());
        }
        let shared = self.0.clone();
        parts::blocking(move || match shared.parts.cgroups.open(&shared.config.cgroup_root)? {
            Some(group) => group.remove(),
            None => Ok(()),
        })
        .await
    }
}
