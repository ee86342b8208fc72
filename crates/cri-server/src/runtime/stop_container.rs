//! StopContainer: asks a container to end, and kills it when its time is up. One that is gone is fine.

use crate::call::concerns;
use crate::check;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Safe to repeat. A timeout of 0 kills at once.
pub async fn call(engine: &Engine, request: v1::StopContainerRequest) -> Result<v1::StopContainerResponse> {
    let id = request.container_id;
    concerns(&id);
    check::id("container_id", &id)?;
    let timeout = check::seconds("timeout", request.timeout)?;
    engine.stop_container(&id, timeout).await?;
    Ok(v1::StopContainerResponse {})
}
