//! Removal of layers and blobs that no image, no container and no running pull needs.

use crate::{Inner, blocking};
use std::sync::Arc;
use store::meta::Table;
use types::{Error, Result};

/// Collects. What one removal fails on does not keep the others; the first failure is told.
pub(crate) async fn run(inner: Arc<Inner>) -> Result<()> {
    // Owned, so that it lasts until the work ends even where the caller does not wait for it.
    let one_at_a_time = inner.collecting.clone().lock_owned().await;
    blocking(move || {
        let result = sweep(&inner);
        drop(one_at_a_time);
        result
    })
    .await
}

fn sweep(inner: &Inner) -> Result<()> {
    let needed = inner.index().needed();
    let mut failed: Vec<Error> = Vec::new();
    let mut layers = Vec::new();
    for layer in inner.snapshotter.layers()? {
        // Asked again at the last moment: a container may have taken hold of it. After a no, only a pull can
        // start to need it, and pulls wait until the collection is over.
        if !needed.layers.contains(&layer) && !inner.index().needs_layer(&layer) {
            match inner.snapshotter.remove_layer(&layer) {
                Ok(()) => layers.push(layer),
                Err(error) => failed.push(error.context(format!("cannot remove layer {layer}"))),
            }
        }
    }
    let mut blobs = Vec::new();
    for (blob, _) in inner.content.blobs()? {
        if !needed.blobs.contains(&blob) {
            match inner.content.remove(&blob) {
                Ok(()) => blobs.push(blob),
                Err(error) => failed.push(error),
            }
        }
    }
    if !layers.is_empty() || !blobs.is_empty() {
        tracing::info!(layers = layers.len(), blobs = blobs.len(), "collected what nothing refers to");
        inner.meta.batch(|tx| {
            layers.iter().try_for_each(|layer| tx.delete(Table::Layers, layer.as_str()))?;
            blobs.iter().try_for_each(|blob| tx.delete(Table::Blobs, blob.as_str()))
        })?;
        let mut index = inner.index();
        index.layers.retain(|layer, _| !layers.contains(layer));
        index.blobs.retain(|blob, _| !blobs.contains(blob));
    }
    for error in failed.iter().skip(1) {
        tracing::warn!(error = %error.chain(), "collecting failed");
    }
    failed.into_iter().next().map_or(Ok(()), Err)
}
