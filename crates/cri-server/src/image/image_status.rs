//! ImageStatus: describes one image. The answer is empty, and no error, where there is none.

use crate::call::concerns;
use crate::convert::image;
use cri_api::v1;
use engine::Engine;
use std::collections::HashMap;
use types::Result;

/// Takes a name, a digest or an id. Only a verbose answer reads the disk, and what it cannot read it leaves out.
pub async fn call(engine: &Engine, request: v1::ImageStatusRequest) -> Result<v1::ImageStatusResponse> {
    let name = image::name("image", request.image)?;
    concerns(&name);
    let Some(record) = engine.images().find(&name) else { return Ok(v1::ImageStatusResponse::default()) };
    let info = if request.verbose {
        let details = engine.images().details(&record).await.inspect_err(|error| {
            tracing::warn!(image = %record.id, error = %error.chain(), "not all of an image can be shown");
        });
        image::info(&record, details.ok().as_ref())
    } else {
        HashMap::new()
    };
    Ok(v1::ImageStatusResponse { image: Some(image::to_wire(&record)), info })
}
