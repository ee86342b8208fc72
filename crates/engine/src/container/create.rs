//! CreateContainer: the root is prepared and everything is decided; nothing runs yet.

use super::Container;
use super::prepare::Prepare;
use crate::parts::Shared;
use crate::pod::Pod;
use crate::pod::sandbox::random_id;
use crate::record::{ContainerPhase, ContainerRecord};
use crate::steps::{self, Step, step};
use images::ImageRecord;
use std::sync::Arc;
use types::reference::shorten;
use types::time::now_nanos;
use types::{ContainerConfig, ContainerId, Error, ErrorKind, Result};

/// What happens, in order.
const STEPS: &[Step<Prepare>] = &[
    step!("record", Prepare::record, Prepare::forget),
    step!("snapshot", Prepare::make_root, Prepare::remove_root),
    step!("plan", Prepare::plan, Prepare::remove_plan),
];

pub(crate) async fn create(shared: &Arc<Shared>, pod: &str, config: ContainerConfig) -> Result<ContainerId> {
    let pod = shared.registry.pod(pod)?;
    let key = format!("container/{}/{}/{}", pod.id, config.metadata.name, config.metadata.attempt);
    let shared = shared.clone();
    let flights = &shared.clone().flights;
    flights.join(key, move || create_once(shared, pod, config)).await
}

async fn create_once(shared: Arc<Shared>, pod: Arc<Pod>, config: ContainerConfig) -> Result<ContainerId> {
    if !pod.is_ready() {
        return Err(Error::precondition(format!(
            "pod {} is not ready; a container cannot be created in it",
            pod.id
        )));
    }
    let same = |c: &Arc<Container>| c.record().config.metadata == config.metadata;
    if let Some(there) = shared.registry.containers_of(&pod).into_iter().find(same) {
        if there.phase() == ContainerPhase::Created {
            return Ok(there.id.clone());
        }
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!(
                "container {} attempt {} is there and was started ({}); raise the attempt",
                config.metadata.name, config.metadata.attempt, there.id
            ),
        ));
    }
    let image = shared.parts.images.find(&config.image).ok_or_else(|| {
        Error::not_found(format!("image {:?} is not on this node; pull it first", shorten(&config.image)))
    })?;
    if image.is_artifact() {
        return Err(Error::invalid(format!(
            "{:?} is an artifact, not a container image: there is no program in it to run; mount it into a container, as a \
             volume of the type image",
            shorten(&config.image)
        )));
    }
    let id = ContainerId::from_random(random_id()?);
    let record = new_record(id.clone(), config, &image);
    let container = Arc::new(Container::new(pod, record, shared.parts.snapshotter.name()));
    // A removal of the pod meanwhile waits for this to end, and takes the container with it.
    let _operation = container.operation.lock().await;
    let mut prepare = Prepare::new(shared, container.clone(), image);
    let times = steps::run("CreateContainer", STEPS, &mut prepare).await?;
    container.update(|record| {
        record.phase = ContainerPhase::Created;
        record.steps = Arc::new(times);
    })?;
    Ok(id)
}

fn new_record(id: ContainerId, config: ContainerConfig, image: &ImageRecord) -> ContainerRecord {
    ContainerRecord {
        id,
        resources: config.resources.clone(),
        config: Arc::new(config),
        phase: ContainerPhase::Creating,
        created_at: now_nanos(),
        started_at: 0,
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        image_id: image.id.clone(),
        image_ref: image.digests.first().cloned().unwrap_or_else(|| image.id.to_string()),
        chain: image.chain.clone(),
        mounted: Vec::new(),
        device_rules: Vec::new(),
        user: None,
        stop_signal: 15,
        pid: 0,
        steps: Arc::default(),
    }
}
