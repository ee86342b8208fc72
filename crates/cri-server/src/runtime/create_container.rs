//! CreateContainer: prepares a container in a pod.

use crate::call::concerns;
use crate::check;
use crate::convert::container;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// The pod's configuration in the request is not read: the engine has it from RunPodSandbox, and one truth
/// is enough.
pub async fn call(
    engine: &Engine,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse> {
    let pod = request.pod_sandbox_id;
    concerns(&pod);
    check::id("pod_sandbox_id", &pod)?;
    let config = container::config("config", request.config)?;
    concerns(&format!("{} attempt {} in {pod}", config.metadata.name, config.metadata.attempt));
    let id = engine.create_container(&pod, config).await?;
    concerns(id.as_str());
    Ok(v1::CreateContainerResponse { container_id: id.into() })
}
