//! ListImages: all images that pass a filter, in one message.

use crate::call::within_limit;
use crate::check;
use crate::convert::image;
use cri_api::v1;
use engine::Engine;
use types::Result;

/// The images, for this RPC and the streamed one. A filter names an image, or a repository with all its tags.
pub fn items(engine: &Engine, wire: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>> {
    let asked = wire.and_then(|filter| filter.image).unwrap_or_default().image;
    check::word("filter.image.image", &asked, image::NAME_MAX)?;
    let images = engine.images();
    if asked.is_empty() {
        return Ok(images.list().iter().map(|record| image::to_wire(record)).collect());
    }
    let exact = images.find(&asked).map(|record| record.id.clone());
    Ok(images
        .list()
        .iter()
        .filter(|record| exact.as_ref() == Some(&record.id) || image::is_of_repository(&asked, record))
        .map(|record| image::to_wire(record))
        .collect())
}

/// Answers from memory.
pub fn call(engine: &Engine, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
    let images = items(engine, request.filter)?;
    within_limit(v1::ListImagesResponse { images }, "ask StreamImages, or narrow the filter")
}
