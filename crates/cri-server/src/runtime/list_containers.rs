//! ListContainers: all containers that pass a filter, in one message.

use crate::call::within_limit;
use crate::convert::{container_status, filter};
use cri_api::v1;
use engine::Engine;
use types::Result;

/// The containers, for this RPC and the streamed one.
pub fn items(engine: &Engine, wire: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>> {
    let filter = filter::containers("filter", wire)?;
    Ok(engine.list_containers(&filter).iter().map(container_status::item).collect())
}

/// Answers from memory.
pub fn call(engine: &Engine, request: v1::ListContainersRequest) -> Result<v1::ListContainersResponse> {
    let containers = items(engine, request.filter)?;
    within_limit(v1::ListContainersResponse { containers }, "ask StreamContainers, or narrow the filter")
}
