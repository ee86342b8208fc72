//! How the node is: the conditions that the kubelet asks for, and facts for people.

use crate::api::{Condition, Handler, NodeStatus};
use crate::parts::Shared;
use serde_json::json;

/// The node's status.
pub(crate) fn status(shared: &Shared) -> NodeStatus {
    let network = shared.parts.network.status();
    let facts = &shared.facts;
    NodeStatus {
        conditions: vec![
            Condition { kind: "RuntimeReady", status: true, reason: String::new(), message: String::new() },
            Condition {
                kind: "NetworkReady",
                status: network.ready,
                reason: network.reason,
                message: network.message,
            },
        ],
        facts: json!({
            "cgroups": {
                "mode": format!("{:?}", shared.parts.cgroups.mode()).to_lowercase(),
                "driver": "cgroupfs",
                "controllers": shared.parts.cgroups.controllers(),
                "notes": shared.parts.cgroups.notes(),
            },
            "snapshotter": shared.parts.snapshotter.name(),
            "shim": shared.parts.shim.origin(),
            "security": {
                "seccomp": facts.has_seccomp,
                "apparmor": facts.has_apparmor,
                "selinux": facts.has_selinux,
                "boundingCapabilities": spec::capability_names(facts.bounding_capabilities),
            },
            "oomScore": { "own": facts.own_oom_score_adj, "canLower": facts.can_lower_oom },
            "recursiveReadOnlyMounts": facts.rro,
        }),
        handlers: vec![Handler {
            name: String::new(),
            recursive_read_only: facts.rro,
            user_namespaces: false,
        }],
        systemd_cgroups: false,
    }
}
