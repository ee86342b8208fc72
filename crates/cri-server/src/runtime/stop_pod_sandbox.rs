//! StopPodSandbox: ends every process of a pod and gives its network back. One that is gone is fine.

use crate::call::concerns;
use crate::check;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Safe to repeat.
pub async fn call(engine: &Engine, request: v1::StopPodSandboxRequest) -> Result<v1::StopPodSandboxResponse> {
    let id = request.pod_sandbox_id;
    concerns(&id);
    check::id("pod_sandbox_id", &id)?;
    engine.stop_pod(&id).await?;
    Ok(v1::StopPodSandboxResponse {})
}
