//! Containers for the wire: list entries, statuses, and what `inspect` shows beyond them.

use super::{map, mount, resources, signal};
use crate::convert::pod_status::RUNTIME_TYPE;
use cri_api::v1;
use engine::api::{ContainerState, ContainerStatus};
use images::ImageRecord;
use serde_json::json;
use std::collections::HashMap;
use types::Reference;
use types::container::{ContainerConfig, ContainerMetadata};

/// A state for the wire.
pub fn state(state: ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running => v1::ContainerState::ContainerRunning,
        ContainerState::Exited => v1::ContainerState::ContainerExited,
        ContainerState::Unknown => v1::ContainerState::ContainerUnknown,
    }
}

fn metadata(metadata: &ContainerMetadata) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: metadata.name.clone(), attempt: metadata.attempt }
}

fn image(config: &ContainerConfig) -> v1::ImageSpec {
    v1::ImageSpec {
        image: config.image.clone(),
        user_specified_image: config.user_specified_image.clone(),
        ..Default::default()
    }
}

/// An entry of a list.
pub fn item(container: &ContainerStatus) -> v1::Container {
    v1::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod.to_string(),
        metadata: Some(metadata(&container.config.metadata)),
        image: Some(image(&container.config)),
        image_ref: container.image_ref.clone(),
        state: state(container.state).into(),
        created_at: container.created_at,
        labels: map(&container.config.labels),
        annotations: map(&container.config.annotations),
        image_id: container.image_id.to_string(),
    }
}

/// A status. `record` is the container's image, where it is still stored: the kubelet asks for containers
/// by image id, and shows people the name that the status gives back.
pub fn status(container: &ContainerStatus, record: Option<&ImageRecord>) -> v1::ContainerStatus {
    let config = &container.config;
    let started = container.state != ContainerState::Created;
    let ended = matches!(container.state, ContainerState::Exited | ContainerState::Unknown);
    let mut spec = image(config);
    if let Some(name) = record.and_then(|record| name(config, record)) {
        spec.image = name;
    }
    v1::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(metadata(&config.metadata)),
        state: state(container.state).into(),
        created_at: container.created_at,
        started_at: if started { container.started_at } else { 0 },
        finished_at: if ended { container.finished_at } else { 0 },
        exit_code: container.exit_code,
        image: Some(spec),
        image_ref: container.image_ref.clone(),
        reason: container.reason.clone(),
        message: container.message.clone(),
        labels: map(&config.labels),
        annotations: map(&config.annotations),
        mounts: config.mounts.iter().map(mount::to_wire).collect(),
        log_path: container.log_path.clone(),
        resources: Some(v1::ContainerResources {
            linux: Some(resources::to_wire(&container.resources)),
            windows: None,
        }),
        image_id: container.image_id.to_string(),
        user: container.user.as_ref().map(|user| v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: user.groups.iter().map(|group| i64::from(*group)).collect(),
            }),
        }),
        stop_signal: signal::from_number(container.stop_signal).into(),
    }
}

/// The name to show: of the image's names the one that was asked for, else the first. containerd always
/// takes the first, which shows a name that nobody asked for where an image has several.
fn name(config: &ContainerConfig, record: &ImageRecord) -> Option<String> {
    [&config.user_specified_image, &config.image]
        .into_iter()
        .filter_map(|asked| Reference::parse(asked).ok()?.tagged())
        .find(|tagged| record.names.contains(tagged))
        .or_else(|| record.names.first().cloned())
}

/// Verbose facts under the key and the names that crictl's users know from containerd
/// (containerd `internal/cri/server/container_status.go`, `ContainerInfo`); ours are added.
pub fn info(container: &ContainerStatus) -> HashMap<String, String> {
    let mut config = json!(container.config);
    // Values are bytes on the wire; people want to read them.
    config["envs"] = container
        .config
        .envs
        .iter()
        .map(|(key, value)| json!({"key": key, "value": String::from_utf8_lossy(value)}))
        .collect();
    let facts = json!({
        "sandboxID": container.pod,
        "pid": container.pid,
        "removing": false,
        "snapshotKey": container.id,
        "snapshotter": container.snapshotter,
        "runtimeType": RUNTIME_TYPE,
        "runtimeOptions": null,
        "config": config,
        "runtimeSpec": container.spec,
        "steps": container.steps,
    });
    HashMap::from([("info".to_owned(), facts.to_string())])
}

#[cfg(test)]
mod tests;
