//! StreamContainers: all containers that pass a filter, in as many messages as they need.

use super::list_containers;
use crate::chunks::{self, Chunks};
use cri_api::v1;
use engine::Engine;
use types::Result;

/// One view of the containers, cut into messages.
pub fn call(
    engine: &Engine,
    request: v1::StreamContainersRequest,
) -> Result<Chunks<v1::StreamContainersResponse>> {
    let items = list_containers::items(engine, request.filter)?;
    Ok(chunks::stream(items, |containers| v1::StreamContainersResponse { containers }))
}
