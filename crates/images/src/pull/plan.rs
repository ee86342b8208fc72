//! Which layers an image or an artifact has, before the first of them is fetched. Pure.

use super::layer::Layer;
use super::{Job, Resolved};
use crate::artifact::Part;
use crate::image::{ConfigFile, Contents};
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::progress::Progress;
use types::digest::Algorithm;
use types::{Digest, Error, Result};

/// Pairs the manifest's layers with what the configuration, or the artifact's manifest, says of them.
pub(super) fn plan(
    job: &Job,
    reference: &str,
    resolved: &Resolved,
    contents: &Contents,
) -> Result<Vec<Layer>> {
    let layers = &resolved.layers;
    let parts: Vec<(Part, Option<Digest>)> = match contents {
        Contents::Image(file) => {
            check(job, reference, resolved, file)?;
            file.diff_ids.iter().map(|diff_id| (Part::Tree, Some(diff_id.clone()))).collect()
        }
        Contents::Artifact(artifact) => {
            artifact.check_sizes(layers, job.limits.max_bytes, job.inner.config.max_image_bytes)?;
            artifact.parts.iter().map(|part| (part.clone(), None)).collect()
        }
    };
    let chain = contents.chain_ids(layers);
    let plan = layers.iter().zip(parts).enumerate().map(|(at, (descriptor, (part, diff_id)))| Layer {
        descriptor: descriptor.clone(),
        part,
        diff_id,
        chain: chain[at].clone(),
        below: chain[..at].iter().rev().cloned().collect(),
    });
    let digest = resolved.documents.first().map_or(&resolved.config.digest, |d| &d.digest).clone();
    job.listeners.tell(&Progress::Resolved {
        reference: reference.to_string(),
        digest,
        layers: layers.len(),
        bytes: layers.iter().fold(0, |sum, l| sum.saturating_add(l.size)),
    });
    Ok(plan.collect())
}

/// Whether an image's configuration fits its manifest, and this machine.
fn check(job: &Job, reference: &str, resolved: &Resolved, file: &ConfigFile) -> Result<()> {
    let (layers, diff_ids) = (&resolved.layers, &file.diff_ids);
    if layers.len() != diff_ids.len() {
        return Err(ManifestError::LayerCount { diff_ids: diff_ids.len(), layers: layers.len() }.into());
    }
    // The layers of artifacts have names of another algorithm, which no image can claim.
    if let Some(other) = diff_ids.iter().find(|d| d.algorithm() != Algorithm::Sha256) {
        return Err(Error::invalid(format!(
            "the image names a layer's content by {}; only sha256 can be used there",
            other.algorithm_name()
        )));
    }
    let config = &file.config;
    let own = Platform {
        os: config.os.clone(),
        arch: config.architecture.clone(),
        variant: config.variant.clone(),
    };
    if !own.os.is_empty() && job.inner.config.platform.preference(&own).is_none() {
        tracing::warn!(image = reference, platform = %own, "the image is made for another machine; its programs may not start");
    }
    Ok(())
}
