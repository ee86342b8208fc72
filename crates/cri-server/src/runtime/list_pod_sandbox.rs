//! ListPodSandbox: all pods that pass a filter, in one message.

use crate::call::within_limit;
use crate::convert::{filter, pod_status};
use cri_api::v1;
use engine::Engine;
use types::Result;

/// The pods, for this RPC and the streamed one.
pub fn items(engine: &Engine, wire: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>> {
    let filter = filter::pods("filter", wire)?;
    Ok(engine.list_pods(&filter).iter().map(pod_status::item).collect())
}

/// Answers from memory.
pub fn call(engine: &Engine, request: v1::ListPodSandboxRequest) -> Result<v1::ListPodSandboxResponse> {
    let items = items(engine, request.filter)?;
    within_limit(v1::ListPodSandboxResponse { items }, "ask StreamPodSandboxes, or narrow the filter")
}
