//! ReopenContainerLog: opens a container's log file anew after the kubelet rotated it.

use crate::call::concerns;
use crate::check;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Fails with FAILED_PRECONDITION unless the container runs.
pub async fn call(
    engine: &Engine,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse> {
    concerns(&request.container_id);
    check::id("container_id", &request.container_id)?;
    engine.reopen_log(&request.container_id).await?;
    Ok(v1::ReopenContainerLogResponse {})
}
