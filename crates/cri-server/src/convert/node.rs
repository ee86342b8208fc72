//! What the node says of itself, for the wire.

use cri_api::v1;
use engine::api::NodeStatus;
use std::collections::HashMap;

/// An answer to Status.
pub fn status(node: &NodeStatus, verbose: bool) -> v1::StatusResponse {
    v1::StatusResponse {
        status: Some(v1::RuntimeStatus {
            conditions: node
                .conditions
                .iter()
                .map(|condition| v1::RuntimeCondition {
                    r#type: condition.kind.to_owned(),
                    status: condition.status,
                    reason: condition.reason.clone(),
                    message: condition.message.clone(),
                })
                .collect(),
        }),
        info: if verbose { info(node) } else { HashMap::new() },
        runtime_handlers: node
            .handlers
            .iter()
            .map(|handler| v1::RuntimeHandler {
                name: handler.name.clone(),
                features: Some(v1::RuntimeHandlerFeatures {
                    recursive_read_only_mounts: handler.recursive_read_only,
                    user_namespaces: handler.user_namespaces,
                }),
            })
            .collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
            mount_options: false,
        }),
    }
}

/// What `crictl info` shows beyond the conditions.
fn info(node: &NodeStatus) -> HashMap<String, String> {
    HashMap::from([
        ("facts".to_owned(), node.facts.to_string()),
        ("version".to_owned(), serde_json::Value::from(env!("CARGO_PKG_VERSION")).to_string()),
    ])
}

/// An answer to RuntimeConfig.
pub fn config(node: &NodeStatus) -> v1::RuntimeConfigResponse {
    let driver = if node.systemd_cgroups { v1::CgroupDriver::Systemd } else { v1::CgroupDriver::Cgroupfs };
    v1::RuntimeConfigResponse { linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: driver.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::api::{Condition, Handler};
    use serde_json::json;

    fn node() -> NodeStatus {
        NodeStatus {
            conditions: vec![
                Condition {
                    kind: "RuntimeReady",
                    status: true,
                    reason: String::new(),
                    message: String::new(),
                },
                Condition {
                    kind: "NetworkReady",
                    status: false,
                    reason: "NoConfig".into(),
                    message: "no network configuration in /etc/cni/net.d".into(),
                },
            ],
            facts: json!({"kernel": "6.18"}),
            handlers: vec![Handler {
                name: String::new(),
                recursive_read_only: true,
                user_namespaces: false,
            }],
            systemd_cgroups: false,
        }
    }

    #[test]
    fn conditions_and_handlers_are_told() {
        let answer = status(&node(), false);
        let conditions = answer.status.expect("always there").conditions;
        assert_eq!((conditions[0].r#type.as_str(), conditions[0].status), ("RuntimeReady", true));
        assert_eq!((conditions[1].reason.as_str(), conditions[1].status), ("NoConfig", false));
        let features = answer.runtime_handlers[0].features.expect("always there");
        assert!(features.recursive_read_only_mounts && !features.user_namespaces);
        assert!(answer.info.is_empty());
    }

    #[test]
    fn verbose_facts_are_json() {
        let info = status(&node(), true).info;
        for value in info.values() {
            serde_json::from_str::<serde_json::Value>(value).expect("JSON");
        }
        assert!(info["facts"].contains("6.18"));
    }

    #[test]
    fn the_cgroup_driver_is_told() {
        let driver = |systemd_cgroups| {
            config(&NodeStatus { systemd_cgroups, ..node() }).linux.expect("always there").cgroup_driver
        };
        assert_eq!(driver(true), v1::CgroupDriver::Systemd as i32);
        assert_eq!(driver(false), v1::CgroupDriver::Cgroupfs as i32);
    }
}
