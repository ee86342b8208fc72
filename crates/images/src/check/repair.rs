//! The part of a repair that fetches: what is damaged and not here whole comes by an ordinary pull of the image's
//! recorded digest, which brings exactly what is not there.

use super::{CheckReport, Damage, Damaged, shown};
use crate::image::ImageRecord;
use crate::index::LayerRecord;
use crate::{Images, Inner, blocking};
use content::Hasher;
use registry::Auth;
use snapshots::{ChainId, LayerDraft};
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use store::meta::Table;
use types::{Digest, Error, Reference, Result};

/// Fetches what the damages that are left need, and says in them what came of it.
pub(super) async fn fetch(images: &Images, report: &mut CheckReport, auth: Option<&Auth>) -> Result<()> {
    let damaged = |image: &ImageRecord, damages: &[Damage]| {
        damages.iter().any(|damage| !damage.repaired && damage.images.contains(&shown(image)))
    };
    let bad: Vec<Digest> = report
        .damages
        .iter()
        .filter(|damage| !damage.repaired && damage.part == Damaged::Blob)
        .map(|damage| damage.digest.clone())
        .collect();
    let inner = images.0.clone();
    // Whatever has its name is whole: a damaged blob gives way before a whole one comes.
    blocking(move || bad.iter().try_for_each(|blob| inner.content.remove(blob))).await?;
    let mut failures: Vec<(String, String)> = Vec::new();
    for checked in &report.images {
        if damaged(&checked.image, &report.damages)
            && let Err(error) = again(images, &checked.image, auth).await
        {
            failures.push((shown(&checked.image), error.chain()));
        }
    }
    for damage in report.damages.iter_mut().filter(|damage| !damage.repaired) {
        let (inner, digest, part) = (images.0.clone(), damage.digest.clone(), damage.part);
        damage.repaired = blocking(move || Ok(is_whole(&inner, part, &digest))).await?;
        if damage.repaired {
            damage.why_not = None;
        } else {
            let why = failures.iter().find(|(image, _)| damage.images.contains(image));
            let none =
                || "the registry's image does not need it; remove the image and pull it again".to_owned();
            damage.why_not = Some(why.map_or_else(none, |(_, why)| why.clone()));
        }
    }
    Ok(())
}

/// Refuses credentials that name no server where more than one would get them.
pub(super) fn one_registry(images: &[Arc<ImageRecord>], auth: &Auth) -> Result<()> {
    if auth.server_address.as_ref().is_some_and(|address| !address.is_empty()) {
        return Ok(());
    }
    let names = images.iter().flat_map(|image| &image.digests);
    let hosts: BTreeSet<String> =
        names.filter_map(|name| Reference::parse(name).ok()).map(|r| r.host().to_owned()).collect();
    if hosts.len() < 2 {
        return Ok(());
    }
    let some: Vec<String> = hosts.into_iter().take(3).collect();
    Err(Error::invalid(format!(
        "the credentials do not say which server they are for, and the images are of several registries ({}): name \
         images of one registry only, or give the credentials a server address",
        some.join(", ")
    )))
}

/// Pulls the image by the first of its recorded digests that a registry still has.
async fn again(images: &Images, image: &ImageRecord, auth: Option<&Auth>) -> Result<()> {
    let mut first = None;
    for name in &image.digests {
        let pulled = match Reference::parse(name) {
            Ok(reference) => images.pull(&reference, auth.cloned(), None).await,
            Err(error) => Err(error),
        };
        match pulled {
            Ok(_) => return Ok(()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| {
        Error::precondition("the image came from no registry; import it again, or remove it")
    }))
}

fn is_whole(inner: &Inner, part: Damaged, digest: &Digest) -> bool {
    match part {
        Damaged::Layer => inner.is_whole(digest),
        Damaged::Blob => is_whole_blob(inner, digest),
    }
}

/// Whether a blob is there and what its digest says. Reads all of it.
pub(crate) fn is_whole_blob(inner: &Inner, digest: &Digest) -> bool {
    let Ok(Some(mut file)) = inner.content.open_blob(digest) else { return false };
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hasher.finish() == *digest,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

impl Inner {
    /// Whether a layer is in place, and no check found it damaged.
    pub(crate) fn is_whole(&self, layer: &ChainId) -> bool {
        !self.index().layers.get(layer).is_some_and(|record| record.damaged)
            && self.snapshotter.has_layer(layer)
    }

    /// Puts a layer in place: beside one that was found damaged, where there is one.
    pub(crate) fn place(
        &self,
        draft: LayerDraft,
        layer: &ChainId,
        below: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        let damaged = self.index().layers.get(layer).is_some_and(|record| record.damaged);
        if !damaged {
            self.unsynced.layer(layer);
            self.snapshotter.commit_layer_unsynced(draft, layer, below, unpacked)?;
            self.unsynced.layer(layer);
            return Ok(());
        }
        self.replace(draft, layer, below, unpacked)
    }

    /// Puts a layer in place of a damaged one, which stays for the containers that run on it.
    pub(crate) fn replace(
        &self,
        draft: LayerDraft,
        layer: &ChainId,
        below: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        // A collection in between would go by the list of before the exchange.
        let collecting = self.collecting.lock().unwrap_or_else(|e| e.into_inner());
        self.snapshotter.replace_layer(draft, layer, below, unpacked, &|| self.users(layer))?;
        drop(collecting);
        self.fingerprints.replaced();
        self.note_layer(layer, self.snapshotter.layer_usage(layer)?.into())?;
        self.fingerprints.wake();
        Ok(())
    }

    /// Whether a blob that is recorded is not there any more: it is fetched again, even where its layer is in place.
    pub(crate) fn is_lost(&self, blob: &Digest) -> bool {
        self.index().blobs.contains_key(blob) && self.content.size(blob).is_none()
    }

    /// Whether all of an image that was recorded is still there and not known to be damaged.
    pub(crate) fn is_intact(&self, image: &ImageRecord) -> bool {
        image.chain.iter().all(|layer| self.is_whole(layer))
            && !image.blobs.iter().any(|blob| self.is_lost(blob))
    }

    /// Writes what is known of a layer.
    pub(crate) fn note_layer(&self, layer: &ChainId, record: LayerRecord) -> Result<()> {
        let _one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        self.meta.put(Table::Layers, layer.as_str(), &record)?;
        self.index().layers.insert(layer.clone(), record);
        Ok(())
    }
}
