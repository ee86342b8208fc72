//! Prune: removes the images that no container uses and that are not pinned.

use crate::call::change;
use cri_api::corten_v1::{ImportedImage, PruneRequest, PruneResponse};
use engine::Engine;
use tonic::{Response, Status};

/// What was removed. Safe to repeat.
pub async fn call(engine: &Engine, request: PruneRequest) -> Result<Response<PruneResponse>, Status> {
    change("Prune", async {
        let pruned = engine.images().prune(request.dry_run).await?;
        let images = pruned.images.iter().map(|image| ImportedImage {
            image_ref: image.id.to_string(),
            names: if image.names.is_empty() { image.digests.clone() } else { image.names.clone() },
            digest: image.manifest.to_string(),
        });
        Ok(PruneResponse { images: images.collect(), freed_bytes: pruned.freed_bytes })
    })
    .await
}
