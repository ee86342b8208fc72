//! RemoveImage: removes an image with all its names. One that is gone is fine.

use crate::call::concerns;
use crate::convert::image;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// Safe to repeat. Layers that a container still uses stay until it is removed.
pub async fn call(engine: &Engine, request: v1::RemoveImageRequest) -> Result<v1::RemoveImageResponse> {
    let name = image::name("image", request.image)?;
    concerns(&name);
    engine.images().remove(&name).await?;
    Ok(v1::RemoveImageResponse {})
}
