//! Removal of all images that no container uses. Whether one is in use is decided and acted upon in one step, so a
//! container that is being made keeps its image or is told that it is gone; never half of both.

use crate::image::ImageRecord;
use crate::{Images, Inner, blocking};
use std::sync::Arc;
use store::meta::Table;
use types::{Digest, Result};

/// What a prune removed, or would.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// The images.
    pub images: Vec<Arc<ImageRecord>>,
    /// Bytes of the disk that became free; 0 where nothing was removed.
    pub freed_bytes: u64,
}

impl Images {
    /// Removes the images that no container uses and that are not pinned, and what only they needed. With `dry`
    /// it only says which. One that cannot be removed does not keep the others; the first failure is told.
    pub async fn prune(&self, dry: bool) -> Result<Pruned> {
        if dry {
            return Ok(Pruned { images: self.0.index().unused(), freed_bytes: 0 });
        }
        self.0.collector.allowed()?;
        let before = self.used_bytes().await;
        let inner = self.0.clone();
        let images = blocking(move || inner.forget_unused()).await?;
        self.collect().await?;
        let freed_bytes = match (before, self.used_bytes().await) {
            (Some(before), Some(after)) => before.saturating_sub(after),
            _ => 0,
        };
        Ok(Pruned { images, freed_bytes })
    }

    /// Only for telling: what cannot be measured is no reason not to remove.
    async fn used_bytes(&self) -> Option<u64> {
        let inner = self.0.clone();
        // Never an answer of some time ago: the difference of two of these is told.
        blocking(move || crate::space::measure(&inner).map(|info| info.images.bytes)).await.ok()
    }
}

impl Inner {
    fn forget_unused(&self) -> Result<Vec<Arc<ImageRecord>>> {
        let _one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        let mut removed = Vec::new();
        let unused = self.index().unused();
        for image in unused {
            // From here on no container finds it.
            if !self.index().remove_unused(&image.id) {
                continue;
            }
            if let Err(error) = self.meta.delete(Table::Images, image.id.as_str()) {
                self.index().insert(vec![ImageRecord::clone(&image)]);
                return Err(error.context(format!("cannot remove image {}", image.id)));
            }
            removed.push(image);
        }
        Ok(removed)
    }

    /// The containers that hold a layer.
    pub(crate) fn users(&self, layer: &Digest) -> Vec<String> {
        self.index().holders(layer)
    }
}
