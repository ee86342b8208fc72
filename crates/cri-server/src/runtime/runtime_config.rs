//! RuntimeConfig: tells the kubelet the cgroup driver.

use crate::convert::node;
use cri_api::v1;
use engine::Engine;

/// Answers from the engine's configuration.
pub fn call(engine: &Engine) -> v1::RuntimeConfigResponse {
    node::config(&engine.node_status())
}
