//! Status: whether pods can run on this node, and what it can do.

use crate::convert::node;
use cri_api::v1;
use engine::Engine;

/// Asks the engine anew each time, so that a network that arrives is seen at once.
pub fn call(engine: &Engine, request: &v1::StatusRequest) -> v1::StatusResponse {
    node::status(&engine.node_status(), request.verbose)
}
