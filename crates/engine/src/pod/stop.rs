//! StopPodSandbox: everything that the pod holds of the node is given back; its records stay.

use super::Pod;
use super::sandbox::{Sandbox, kill_monitor};
use crate::container;
use crate::parts::Shared;
use crate::record::PodPhase;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

pub(crate) async fn stop(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let pod = match shared.registry.pod(id) {
        Ok(pod) => pod,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let shared = shared.clone();
    let flights = &shared.clone().flights;
    flights.join(format!("stop pod/{}", pod.id), move || async move { stop_pod(&shared, &pod).await }).await
}

/// Ends the pod. Each part is given back even where another fails; the errors come together, and a retry
/// does what is left.
pub(crate) async fn stop_pod(shared: &Arc<Shared>, pod: &Arc<Pod>) -> Result<()> {
    let _operation = pod.operation.lock().await;
    if pod.record().phase == PodPhase::Stopped {
        return Ok(());
    }
    if shared.registry.pod(pod.id.as_str()).is_err() {
        // Its start failed meanwhile, and nothing of it is left.
        return Ok(());
    }
    if let Err(error) = pod.update(|record| record.phase = PodPhase::Stopping) {
        // A full disk must not keep a pod running; what is given back is given back.
        tracing::warn!(pod = %pod.id, error = %error.chain(), "the stop is not recorded");
    }
    let containers = shared.registry.containers_of(pod);
    let stops = containers.iter().map(|c| container::stop::stop_container(shared, c, Duration::ZERO));
    let mut failed: Vec<String> =
        join_all(stops).await.into_iter().filter_map(Result::err).map(|e| e.chain()).collect();
    let mut sandbox = Sandbox::new(shared.clone(), pod.clone());
    let mut note = |result: Result<()>| failed.extend(result.err().map(|e| e.chain()));
    note(sandbox.detach_network().await);
    if pod.monitor().is_none() {
        kill_monitor(pod);
    }
    note(sandbox.stop_monitor().await);
    note(sandbox.unpin_namespaces().await);
    note(sandbox.remove_files().await);
    note(sandbox.remove_cgroup().await);
    match failed.is_empty() {
        true => pod.update(|record| record.phase = PodPhase::Stopped),
        false => Err(Error::internal(format!(
            "pod {} is not stopped in every part: {}",
            pod.id,
            failed.join("; ")
        ))),
    }
}
