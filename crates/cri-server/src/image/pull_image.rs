//! PullImage: fetches an image with the credentials given. The answer is the image's id, by which the kubelet
//! creates containers from then on.

use crate::call::concerns;
use crate::check;
use crate::convert::image;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// The pod that the image is for is not read: nothing about a pull depends on it.
pub async fn call(engine: &Engine, request: v1::PullImageRequest) -> Result<v1::PullImageResponse> {
    let handler = request.image.as_ref().map(|image| image.runtime_handler.clone()).unwrap_or_default();
    let name = image::name("image", request.image)?;
    concerns(&name);
    known_handler(engine, &handler)?;
    let auth = image::auth("auth", request.auth)?;
    let record = engine.images().pull_named(&name, auth, None).await?;
    Ok(v1::PullImageResponse { image_ref: record.id.to_string() })
}

/// The CRI wants a pull for a handler that is not known refused.
fn known_handler(engine: &Engine, handler: &str) -> Result<()> {
    check::word("image.runtime_handler", handler, 253)?;
    if handler.is_empty() || engine.node_status().handlers.iter().any(|known| known.name == handler) {
        return Ok(());
    }
    check::refuse("image.runtime_handler", format_args!("{handler:?} is not configured on this node"))
}
