//! Layers that the snapshotter gets by itself: they are asked for before anything is downloaded. What they hold is the
//! snapshotter's to verify, for nobody unpacks it; which layer is meant, the image's verified manifest says.

use super::layer::{Layer, Report};
use super::{Job, Resolved};
use crate::blocking;
use crate::progress::LayerState;
use snapshots::RemoteLayer;
use std::sync::Arc;
use types::{Digest, Reference, Result};

/// Asks for the layers, bottom up, until the snapshotter leaves one to us.
pub(super) async fn lazily(
    job: &Arc<Job>,
    reference: &Reference,
    resolved: &Resolved,
    plan: &[Layer],
) -> Result<()> {
    if !job.inner.snapshotter.fetches_layers() {
        return Ok(());
    }
    let digests: Arc<Vec<Digest>> =
        Arc::new(plan.iter().map(|layer| layer.descriptor.digest.clone()).collect());
    let manifest = resolved.documents.last().map_or(&resolved.config.digest, |d| &d.digest).clone();
    for (at, layer) in plan.iter().enumerate() {
        let (work, layer, digests) = (job.clone(), layer.clone(), digests.clone());
        let (name, manifest, descriptor) =
            (reference.to_string(), manifest.clone(), layer.descriptor.clone());
        let there = blocking(move || {
            if work.inner.is_whole(&layer.chain) {
                return Ok(true);
            }
            let asked = work.inner.snapshotter.remote_layer(&RemoteLayer {
                chain: &layer.chain,
                parent: layer.below.first(),
                reference: &name,
                digest: &layer.descriptor.digest,
                size: layer.descriptor.size,
                above: &digests[at..],
                manifest: &manifest,
                annotations: &layer.descriptor.annotations,
            });
            Ok(asked.unwrap_or_else(|error| {
                tracing::warn!(layer = %layer.descriptor.digest, error = %error.chain(), "the snapshotter does not get this layer by itself; it is downloaded");
                false
            }))
        })
        .await?;
        if !there {
            break;
        }
        Report::new(&job.listeners, &descriptor).now(descriptor.size, LayerState::Present);
    }
    Ok(())
}
