//! RemovePodSandbox: deletes a pod with its containers, by force if it runs. One that is gone is fine.

use crate::call::concerns;
use crate::check;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Safe to repeat.
pub async fn call(
    engine: &Engine,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse> {
    let id = request.pod_sandbox_id;
    concerns(&id);
    check::id("pod_sandbox_id", &id)?;
    engine.remove_pod(&id).await?;
    Ok(v1::RemovePodSandboxResponse {})
}
