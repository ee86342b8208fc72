//! PodSandboxStatus: describes one pod.

use crate::call::concerns;
use crate::check;
use crate::convert::{container_status, pod_status};
use cri_api::v1;
use engine::Engine;
use engine::api::ContainerFilter;
use std::collections::HashMap;
use types::Result;

/// The containers and the time are for kubelets with evented PLEG, which take them from the same answer.
pub fn call(engine: &Engine, request: &v1::PodSandboxStatusRequest) -> Result<v1::PodSandboxStatusResponse> {
    concerns(&request.pod_sandbox_id);
    check::id("pod_sandbox_id", &request.pod_sandbox_id)?;
    let timestamp = types::time::now_nanos();
    let pod = engine.pod_status(&request.pod_sandbox_id)?;
    let containers = ContainerFilter { pod: pod.id.to_string(), ..ContainerFilter::default() };
    Ok(v1::PodSandboxStatusResponse {
        status: Some(pod_status::status(&pod)),
        info: if request.verbose { pod_status::info(&pod) } else { HashMap::new() },
        containers_statuses: engine
            .list_containers(&containers)
            .iter()
            .map(|c| container_status::status(c, super::image_of(engine, c).as_deref()))
            .collect(),
        timestamp,
    })
}
