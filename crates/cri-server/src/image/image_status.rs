//! ImageStatus: describes one image. The answer is empty, and no error, where there is none.

use crate::call::concerns;
use crate::convert::image;
use cri_api::v1;
use engine::Engine;
use std::collections::HashMap;
use types::Result;

/// Takes a name, a digest or an id.
pub fn call(engine: &Engine, request: v1::ImageStatusRequest) -> Result<v1::ImageStatusResponse> {
    let name = image::name("image", request.image)?;
    concerns(&name);
    let Some(record) = engine.images().find(&name) else { return Ok(v1::ImageStatusResponse::default()) };
    Ok(v1::ImageStatusResponse {
        image: Some(image::to_wire(&record)),
        info: if request.verbose { image::info(&record) } else { HashMap::new() },
    })
}
