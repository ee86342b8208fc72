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
    // What is no layer of an image it does not know.
    if !job.inner.snapshotter.fetches_layers() || plan.iter().any(|layer| layer.diff_id.is_none()) {
        return Ok(());
    }
    let digests: Arc<Vec<Digest>> =
        Arc::new(plan.iter().map(|layer| layer.descriptor.digest.clone()).collect());
    let manifest = resolved.manifest().clone();
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
            let digest = &layer.descriptor.digest;
            Ok(match asked {
                // Its word alone is not enough: those above would be asked for on top of nothing.
                Ok(true) if work.inner.is_whole(&layer.chain) => true,
                Ok(true) => {
                    tracing::warn!(layer = %digest, "the snapshotter says that it has this layer, and has it not; it is downloaded");
                    false
                }
                Ok(false) => false,
                Err(error) => {
                    tracing::warn!(layer = %digest, error = %error.chain(), "the snapshotter does not get this layer by itself; it is downloaded");
                    false
                }
            })
        })
        .await?;
        if !there {
            break;
        }
        Report::new(&job.listeners, &descriptor).now(descriptor.size, LayerState::Present);
    }
    Ok(())
}
