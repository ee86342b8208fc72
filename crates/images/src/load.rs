//! What is recorded, read at the start and compared with what is there. It removes what no record has; it never
//! invents a record.

use crate::image::ImageRecord;
use crate::index::{Index, LayerRecord};
use content::Content;
use snapshots::{ChainId, Snapshotter};
use std::collections::HashSet;
use store::meta::{Meta, Table};
use types::{Digest, Error, Result};

/// Reads the records, and makes them agree with the disk.
pub(crate) fn load(meta: &Meta, content: &Content, snapshotter: &dyn Snapshotter) -> Result<Index> {
    let mut index = Index::default();
    let (mut layers, unreadable_layers) = meta.scan_readable::<LayerRecord>(Table::Layers)?;
    let recorded: HashSet<&str> = layers
        .iter()
        .map(|(k, _)| k.as_str())
        .chain(unreadable_layers.iter().map(|(k, _)| k.as_str()))
        .collect();
    let mut there: HashSet<ChainId> = HashSet::new();
    for layer in snapshotter.layers()? {
        if recorded.contains(layer.as_str()) {
            there.insert(layer);
        } else if let Err(error) = snapshotter.remove_layer(&layer) {
            // The pull that made it did not end, or the machine stopped before it was synced.
            tracing::warn!(%layer, error = %error.chain(), "an unrecorded layer could not be removed; the next collection tries again");
            if snapshotter.has_layer(&layer) {
                // Nobody is to take what is left of it for a whole one.
                let usage = snapshotter.layer_usage(&layer).unwrap_or_default();
                index.layers.insert(layer, LayerRecord { damaged: true, ..usage.into() });
            }
        }
    }
    drop(recorded);
    let (mut broken, mut gone) = (Vec::new(), Vec::new());
    let (images, unreadable) = meta.scan_readable::<ImageRecord>(Table::Images)?;
    warn_unreadable(&unreadable, "it has to be pulled again");
    broken.extend(unreadable.into_iter().map(|(key, _)| key));
    for (key, record) in images {
        match record.chain.iter().find(|layer| !there.contains(*layer)) {
            None => index.insert(vec![record]),
            Some(layer) => {
                tracing::warn!(image = %record.id, names = ?record.names, %layer, snapshotter = snapshotter.name(), "a layer of this image is not there; it has to be pulled again");
                broken.push(key);
            }
        }
    }
    // What these two tables say can be measured again, where the thing itself is there.
    warn_unreadable(&unreadable_layers, "the layer is measured again");
    let mut measured: Vec<(String, LayerRecord)> = Vec::new();
    for (key, _) in unreadable_layers {
        let found = there.iter().find(|layer| layer.as_str() == key);
        match found.and_then(|layer| snapshotter.layer_usage(layer).ok()) {
            Some(usage) => measured.push((key, usage.into())),
            None => gone.push(key),
        }
    }
    let (blobs, unreadable) = meta.scan_readable::<u64>(Table::Blobs)?;
    warn_unreadable(&unreadable, "the blob is measured again");
    let unreadable: HashSet<String> = unreadable.into_iter().map(|(key, _)| key).collect();
    let mut recorded: HashSet<String> = blobs.into_iter().map(|(k, _)| k).collect();
    recorded.extend(unreadable.iter().cloned());
    let mut weighed: Vec<(Digest, u64)> = Vec::new();
    for (blob, bytes) in content.blobs()? {
        if recorded.remove(blob.as_str()) {
            if unreadable.contains(blob.as_str()) {
                weighed.push((blob.clone(), bytes));
            }
            index.blobs.insert(blob, bytes);
        } else {
            // The pull that fetched it did not end.
            content.remove(&blob)?;
        }
    }
    // A blob that an image has and the disk lost stays recorded: a check names it, and the next pull brings it.
    recorded.retain(|key| match Digest::parse(key) {
        Ok(blob) if index.needs_blob(&blob) => {
            tracing::warn!(%blob, "a recorded blob is not there; `corten images check --repair` fetches it again");
            index.blobs.insert(blob, 0);
            false
        }
        _ => true,
    });
    let names: HashSet<&str> = there.iter().map(Digest::as_str).collect();
    gone.extend(layers.iter().map(|(k, _)| k.clone()).filter(|k| !names.contains(k.as_str())));
    let nothing_gone = broken.is_empty() && recorded.is_empty() && gone.is_empty();
    if !(nothing_gone && measured.is_empty() && weighed.is_empty()) {
        meta.batch(|tx| {
            measured.iter().try_for_each(|(key, usage)| tx.put(Table::Layers, key, usage))?;
            weighed.iter().try_for_each(|(blob, bytes)| tx.put(Table::Blobs, blob.as_str(), bytes))?;
            broken.iter().try_for_each(|key| tx.delete(Table::Images, key))?;
            recorded.iter().try_for_each(|key| tx.delete(Table::Blobs, key))?;
            gone.iter().try_for_each(|key| tx.delete(Table::Layers, key))
        })?;
    }
    layers.extend(measured);
    for (key, usage) in layers {
        if let Ok(layer) = Digest::parse(&key)
            && there.contains(&layer)
        {
            index.layers.insert(layer, usage);
        }
    }
    Ok(index)
}

/// One row that cannot be read is no reason to have none of the images.
fn warn_unreadable(rows: &[(String, Error)], what_now: &str) {
    for (_, error) in rows {
        tracing::warn!(error = %error.chain(), what_now, "a record is damaged and is dropped");
    }
}
