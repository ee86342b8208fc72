//! StreamPodSandboxes: all pods that pass a filter, in as many messages as they need.

use super::list_pod_sandbox;
use crate::chunks::{self, Chunks};
use cri_api::v1;
use engine::Engine;
use types::Result;

/// One view of the pods, cut into messages.
pub fn call(
    engine: &Engine,
    request: v1::StreamPodSandboxesRequest,
) -> Result<Chunks<v1::StreamPodSandboxesResponse>> {
    let items = list_pod_sandbox::items(engine, request.filter)?;
    Ok(chunks::stream(items, |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes }))
}
