//! Stopping a pod in the kubelet's order, and removing what the run made.

use super::workdir::remove_tree;
use super::{Control, Manager, Running, Stop};
use crate::translate::{self, Role};
use crate::{Error, Result};
use std::time::{Duration, Instant};

impl Manager {
    /// Stops the containers, then the sandbox. Main containers go together, then sidecars in the reverse of
    /// their order, all within the pod's grace period. A request to stop [`Stop::Now`] kills what is left.
    /// Stopping what is stopped succeeds.
    pub async fn stop(&self, running: &Running, grace: Option<Duration>, control: &Control) -> Result<()> {
        if running.pod_id.is_empty() {
            return Ok(());
        }
        let spec = running.pod.spec.clone().unwrap_or_default();
        let grace = if control.asked() == Stop::Now {
            Duration::ZERO
        } else {
            grace.unwrap_or(translate::grace(&spec))
        };
        let end = Instant::now() + grace;
        let mut failed: Option<Error> = None;
        let orderly = async {
            let others = running.containers.iter().filter(|c| c.role != Role::Sidecar && !c.id.is_empty());
            let all = futures_util::future::join_all(others.map(|c| self.client.stop(&c.id, grace))).await;
            let mut first = all.into_iter().find_map(Result::err);
            for sidecar in
                running.containers.iter().rev().filter(|c| c.role == Role::Sidecar && !c.id.is_empty())
            {
                // The kubelet gives sidecars what is left, and 2 s when nothing is.
                let left =
                    end.saturating_duration_since(Instant::now()).max(grace.min(Duration::from_secs(2)));
                first = first.or(self.client.stop(&sidecar.id, left).await.err());
            }
            first
        };
        tokio::select! {
            first = orderly => failed = first,
            // StopPodSandbox kills what still runs.
            () = control.stopped(Stop::Now) => {}
        }
        match self.client.stop_pod(&running.pod_id).await {
            // What the sandbox' stop has killed needs no error about a container.
            Ok(()) => Ok(()),
            Err(error) => Err(failed.unwrap_or(error)),
        }
    }

    /// Removes containers, sandbox, volumes and logs. Removing what is gone succeeds; a failure does not
    /// keep the rest from being removed, and the first one is returned.
    pub async fn remove(&self, running: &Running) -> Result<()> {
        let mut failed = None;
        if !running.pod_id.is_empty() {
            for container in running.containers.iter().rev().filter(|c| !c.id.is_empty()) {
                failed = failed.or(self.client.remove(&container.id).await.err());
            }
            // Removing the sandbox removes what is left in it, and so makes good what failed before.
            match self.client.remove_pod(&running.pod_id).await {
                Ok(()) => failed = None,
                // The volumes may be mounted in a pod that could not be removed.
                Err(error) => return Err(failed.unwrap_or(error)),
            }
        }
        failed = failed.or(running.work.remove().err());
        failed = failed.or(remove_tree(&running.log_dir).err());
        failed.map_or(Ok(()), Err)
    }
}
