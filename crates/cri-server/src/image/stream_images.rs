//! StreamImages: all images that pass a filter, in as many messages as they need.

use super::list_images;
use crate::chunks::{self, Chunks};
use cri_api::v1;
use engine::Engine;
use types::Result;

/// One view of the images, cut into messages.
pub fn call(engine: &Engine, request: v1::StreamImagesRequest) -> Result<Chunks<v1::StreamImagesResponse>> {
    let items = list_images::items(engine, request.filter)?;
    Ok(chunks::stream(items, |images| v1::StreamImagesResponse { images }))
}
