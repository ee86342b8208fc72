//! RemovePodSandbox.

use super::sandbox::Sandbox;
use super::stop::stop_pod;
use crate::container;
use crate::parts::Shared;
use std::sync::Arc;
use types::{ErrorKind, Result};

pub(crate) async fn remove(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let pod = match shared.registry.pod(id) {
        Ok(pod) => pod,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let shared = shared.clone();
    let flights = &shared.clone().flights;
    let key = format!("remove pod/{}", pod.id);
    flights
        .join(key, move || async move {
            stop_pod(&shared, &pod).await?;
            for container in shared.registry.containers_of(&pod) {
                container::remove::remove_container(&shared, &container).await?;
            }
            Sandbox::new(shared.clone(), pod).forget().await
        })
        .await
}
