//! RunPodSandbox.

use super::Pod;
use super::sandbox::{self, Sandbox};
use crate::parts::Shared;
use crate::record::{PodPhase, PodRecord};
use crate::steps::{self, Step, nothing, step};
use std::sync::Arc;
use types::pod::{NamespaceMode, PodConfig};
use types::time::now_nanos;
use types::{Error, ErrorKind, PodId, Result};

/// What happens, in order. Everything that outlives the daemon is recorded by the first step.
const STEPS: &[Step<Sandbox>] = &[
    step!("record", Sandbox::record, Sandbox::forget),
    step!("monitor", Sandbox::start_monitor, Sandbox::stop_monitor),
    step!("cgroup", Sandbox::make_cgroup, Sandbox::remove_cgroup),
    step!("files", Sandbox::make_files, Sandbox::remove_files),
    step!("namespaces", Sandbox::make_namespaces, Sandbox::unpin_namespaces),
    step!("network", Sandbox::attach_network, Sandbox::detach_network),
    step!("hosts", Sandbox::write_hosts, nothing),
];

pub(crate) async fn run(shared: &Arc<Shared>, config: PodConfig, handler: &str) -> Result<PodId> {
    if !handler.is_empty() {
        return Err(Error::not_found(format!(
            "runtime handler {handler:?} is not configured; this node has the default one only"
        )));
    }
    check(&config)?;
    let m = &config.metadata;
    let key = format!("pod/{}/{}/{}/{}", m.namespace, m.name, m.uid, m.attempt);
    let shared = shared.clone();
    let flights = &shared.clone().flights;
    flights.join(key, move || run_once(shared, config)).await
}

fn check(config: &PodConfig) -> Result<()> {
    let user = &config.security.namespaces.user;
    if user.as_ref().is_some_and(|user| user.mode == NamespaceMode::Pod) {
        return Err(Error::new(
            ErrorKind::Unimplemented,
            "user namespaces for pods are not built yet (hostUsers: false)",
        ));
    }
    Ok(())
}

async fn run_once(shared: Arc<Shared>, config: PodConfig) -> Result<PodId> {
    if let Some(there) = same_metadata(&shared, &config) {
        if there.is_ready() {
            return Ok(there.id.clone());
        }
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!(
                "pod {}/{} attempt {} is there, stopped ({}); remove it or raise the attempt",
                config.metadata.namespace, config.metadata.name, config.metadata.attempt, there.id
            ),
        ));
    }
    let id = PodId::from_random(sandbox::random_id()?);
    let pod = Arc::new(Pod::new(shared.pod_path(&id), new_record(&shared, id.clone(), config)?)?);
    // A stop or removal of a pod that is being made waits for this to end.
    let _operation = pod.operation.lock().await;
    let mut sandbox = Sandbox::new(shared.clone(), pod.clone());
    let mut times = steps::run("RunPodSandbox", STEPS, &mut sandbox).await?;
    let ready = pod.update(|record| {
        record.phase = PodPhase::Ready;
        record.steps = Arc::new(std::mem::take(&mut times));
    });
    if let Err(error) = ready {
        steps::undo("RunPodSandbox", STEPS, &mut sandbox).await;
        return Err(error);
    }
    // The monitor may have died in between; then its end was not taken for a loss.
    if pod.monitor().is_none() {
        super::lost(&shared, &pod);
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the pod's monitor ended at once; shim.log in its state folder may say why",
        ));
    }
    Ok(id)
}

fn same_metadata(shared: &Shared, config: &PodConfig) -> Option<Arc<Pod>> {
    shared.registry.pods().into_iter().find(|pod| pod.record().config.metadata == config.metadata)
}

fn new_record(shared: &Shared, id: PodId, config: PodConfig) -> Result<PodRecord> {
    let own_cgroup = config.cgroup_parent.is_empty();
    let cgroup =
        if own_cgroup { format!("{}/{id}", shared.config.cgroup_root) } else { config.cgroup_parent.clone() };
    if cgroup.ends_with(".slice") {
        return Err(Error::invalid(format!(
            "cgroup parent {cgroup:?} is a systemd slice, but this node's cgroup driver is cgroupfs; set the kubelet's cgroupDriver to cgroupfs"
        )));
    }
    Ok(PodRecord {
        own_network: config.security.namespaces.network != NamespaceMode::Node,
        id,
        config: Arc::new(config),
        runtime_handler: String::new(),
        phase: PodPhase::Starting,
        created_at: now_nanos(),
        ips: Vec::new(),
        network_result: None,
        monitor_pid: 0,
        cgroup,
        own_cgroup,
        steps: Arc::default(),
    })
}
