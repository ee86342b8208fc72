//! ContainerStatus: describes one container.

use crate::call::concerns;
use crate::check;
use crate::convert::container_status;
use cri_api::v1;
use engine::Engine;
use std::collections::HashMap;
use types::Result;

/// NOT_FOUND where there is none.
pub fn call(engine: &Engine, request: &v1::ContainerStatusRequest) -> Result<v1::ContainerStatusResponse> {
    concerns(&request.container_id);
    check::id("container_id", &request.container_id)?;
    // The OCI specification is on disk; only a verbose answer needs it.
    let container = if request.verbose {
        engine.container_details(&request.container_id)?
    } else {
        engine.container_status(&request.container_id)?
    };
    let image = super::image_of(engine, &container);
    Ok(v1::ContainerStatusResponse {
        status: Some(container_status::status(&container, image.as_deref())),
        info: if request.verbose { container_status::info(&container) } else { HashMap::new() },
    })
}
