//! ReopenContainerLog.

use crate::parts::Shared;
use crate::record::ContainerPhase;
use std::sync::Arc;
use types::{Error, Result};

pub(crate) async fn reopen(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let container = shared.registry.container(id)?;
    if container.phase() != ContainerPhase::Running {
        return Err(Error::precondition(format!(
            "container {} does not run; its log is not open",
            container.id
        )));
    }
    match container.pod.monitor() {
        Some(monitor) => monitor.reopen(container.id.as_str()).await,
        None => Err(Error::precondition("the pod's monitor is gone")),
    }
}
