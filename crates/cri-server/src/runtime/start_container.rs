//! StartContainer: starts the first process of a created container.

use crate::call::concerns;
use crate::check;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Fails with FAILED_PRECONDITION where the container was started before.
pub async fn call(engine: &Engine, request: v1::StartContainerRequest) -> Result<v1::StartContainerResponse> {
    concerns(&request.container_id);
    check::id("container_id", &request.container_id)?;
    engine.start_container(&request.container_id).await?;
    Ok(v1::StartContainerResponse {})
}
