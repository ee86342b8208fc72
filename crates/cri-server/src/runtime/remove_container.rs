//! RemoveContainer: deletes a container, by force if it runs. One that is gone is fine.

use crate::call::concerns;
use crate::check;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Safe to repeat.
pub async fn call(
    engine: &Engine,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse> {
    let id = request.container_id;
    concerns(&id);
    check::id("container_id", &id)?;
    engine.remove_container(&id).await?;
    Ok(v1::RemoveContainerResponse {})
}
