//! RunPodSandbox: makes a pod sandbox and brings it to ready.

use crate::call::concerns;
use crate::check;
use crate::convert::pod;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// A second call with the same metadata joins the first in the engine.
pub async fn call(engine: &Engine, request: v1::RunPodSandboxRequest) -> Result<v1::RunPodSandboxResponse> {
    let config = pod::config("config", request.config)?;
    check::word("runtime_handler", &request.runtime_handler, 253)?;
    let who = &config.metadata;
    concerns(&format!("{}/{} {} attempt {}", who.namespace, who.name, who.uid, who.attempt));
    let id = engine.run_pod(config, &request.runtime_handler).await?;
    concerns(id.as_str());
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id.into() })
}
