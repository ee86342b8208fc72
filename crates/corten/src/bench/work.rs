//! The work itself: one pod with one container that sleeps, from its start to its removal, timed.

use super::Error;
use super::target::{Measure, Target};
use cri_api::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};
use runtime_manager::Client;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The label by which pods of the benchmark are known.
pub const LABEL: (&str, &str) = ("corten.bench", "1");

/// What is the same for every pod.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The container's image.
    pub image: String,
    /// Where the pod's cgroup goes.
    pub cgroup_parent: String,
    /// The runtime handler.
    pub handler: String,
    /// Below it each pod has a folder for its logs.
    pub logs: PathBuf,
}

/// A pod that runs.
#[derive(Debug)]
pub struct Pod {
    /// The sandbox.
    pub id: String,
    /// Its container.
    pub container: String,
    logs: PathBuf,
}

/// How long each call of a start took.
#[derive(Debug, Clone, Copy)]
pub struct StartTimes {
    run: Duration,
    create: Duration,
    start: Duration,
}

impl StartTimes {
    /// All three together.
    pub fn total(self) -> Duration {
        self.run + self.create + self.start
    }

    /// Remembers each of them and their sum.
    pub fn add_to(self, target: &mut Target) {
        target.add(Measure::RunPod, self.run);
        target.add(Measure::Create, self.create);
        target.add(Measure::Start, self.start);
        target.add(Measure::PodStart, self.total());
    }
}

/// RunPodSandbox, CreateContainer, StartContainer, one after the other.
pub async fn start(client: &Client, recipe: &Recipe) -> runtime_manager::Result<(Pod, StartTimes)> {
    let sandbox = sandbox(recipe);
    let logs = PathBuf::from(&sandbox.log_directory);
    // Before the clock starts: the kubelet makes this folder as well.
    std::fs::create_dir_all(&logs).map_err(|source| runtime_manager::Error::File {
        action: "create",
        path: logs.clone(),
        source,
    })?;
    let (id, run) = timed(client.run_pod(sandbox.clone(), &recipe.handler)).await?;
    let (container, create) = timed(client.create(&id, container(recipe), &sandbox)).await?;
    let ((), start) = timed(client.start(&container, "sleep")).await?;
    Ok((Pod { id, container, logs }, StartTimes { run, create, start }))
}

/// StopPodSandbox and RemovePodSandbox, as the kubelet ends a pod whose grace period is over.
pub async fn end(client: &Client, pod: &Pod) -> runtime_manager::Result<(Duration, Duration)> {
    let ((), stop) = timed(client.stop_pod(&pod.id)).await?;
    let ((), remove) = timed(client.remove_pod(&pod.id)).await?;
    let _ = std::fs::remove_dir_all(&pod.logs);
    Ok((stop, remove))
}

/// How long a call took, with its answer.
pub async fn timed<T, E>(call: impl Future<Output = Result<T, E>>) -> Result<(T, Duration), E> {
    let begin = Instant::now();
    let answer = call.await?;
    Ok((answer, begin.elapsed()))
}

fn sandbox(recipe: &Recipe) -> PodSandboxConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let uid = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let name = format!("bench-{uid}");
    PodSandboxConfig {
        log_directory: recipe.logs.join(&name).display().to_string(),
        hostname: name.clone(),
        metadata: Some(PodSandboxMetadata { name, uid, namespace: "corten-bench".to_owned(), attempt: 0 }),
        labels: labels(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: recipe.cgroup_parent.clone(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container(recipe: &Recipe) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "sleep".to_owned(), attempt: 0 }),
        image: Some(image(&recipe.image)),
        command: ["sleep", "2147483647"].map(str::to_owned).to_vec(),
        labels: labels(),
        log_path: "sleep.log".to_owned(),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources { cpu_shares: 102, ..Default::default() }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// The kubelet's default: network and IPC of the pod, processes of the container.
fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

fn labels() -> std::collections::HashMap<String, String> {
    [(LABEL.0.to_owned(), LABEL.1.to_owned())].into()
}

/// An image by its reference.
pub fn image(reference: &str) -> ImageSpec {
    ImageSpec { image: reference.to_owned(), ..Default::default() }
}

/// The folder of all logs, removed in the end.
#[derive(Debug)]
pub struct Logs(PathBuf);

impl Logs {
    /// A new one.
    pub fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("corten-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|source| Error::File {
            action: "make",
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
