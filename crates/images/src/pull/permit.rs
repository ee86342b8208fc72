//! What stands between an image and its use: the policy file, the signatures that it asks for, and the keys of
//! encrypted layers. The judging is the `trust` crate's; this fetches what it judges.

use super::Job;
use super::layer::Layer;
use crate::evidence::Evidence;
use crate::manifest::Descriptor;
use crate::{Inner, blocking};
use registry::{RegistryError, Session};
use std::sync::Arc;
use trust::{LayerKey, Policy, PrivateKeys, Signature};
use types::{Digest, Error, Reference, Result};

/// Whether the policy takes the image that `digests` lead to, outermost first. Signatures are fetched only where
/// the policy asks for them. What it was shown is given back, to be recorded with the image.
pub(crate) async fn permit(
    inner: &Arc<Inner>,
    session: &Session,
    reference: &Reference,
    digests: Vec<Digest>,
) -> Result<Evidence> {
    let Some(path) = inner.config.policy.clone() else { return Ok(Evidence::default()) };
    let policy = Arc::new(blocking(move || Policy::read(&path)).await?);
    let signatures = match policy.rule(reference).needs_signatures() {
        true => signatures(session, &digests).await?,
        false => Vec::new(),
    };
    let reference = reference.clone();
    // Keys are read from the disk.
    blocking(move || {
        let rule = policy.rule(&reference);
        rule.check(&reference, &digests, &signatures)?;
        Ok(Evidence::of(&rule, &reference, digests, signatures))
    })
    .await
}

/// Whether the policy takes an image that comes from a file under these names: no registry is asked, so a name
/// whose images have to be signed cannot be given to it. Blocks.
pub(crate) fn permit_import(inner: &Inner, names: &[Reference]) -> Result<()> {
    let Some(path) = &inner.config.policy else { return Ok(()) };
    let policy = Policy::read(path)?;
    names.iter().try_for_each(|name| policy.rule(name).check(name, &[], &[]))
}

/// The signatures of any of these documents. One that has none is fine; a registry that cannot be asked is not.
async fn signatures(session: &Session, digests: &[Digest]) -> Result<Vec<Signature>> {
    let mut all = Vec::new();
    for digest in digests {
        let manifest = match session.manifest(&trust::signature_tag(digest)).await {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == types::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(digest, error)),
        };
        for layer in trust::signature_layers(&manifest.bytes)? {
            let payload = session
                .small_blob(&layer.digest, layer.size, "a signed text")
                .await
                .map_err(|error| failed(digest, error))?;
            all.push(Signature { payload, signature: layer.signature });
        }
        if all.len() > trust::SIGNATURES_MAX {
            let what = format!("the image has more than {} signatures", trust::SIGNATURES_MAX);
            return Err(Error::new(types::ErrorKind::PermissionDenied, what));
        }
    }
    Ok(all)
}

fn failed(digest: &Digest, error: RegistryError) -> Error {
    Error::from(error)
        .context(format!("cannot fetch the signatures of {digest}, which the image policy asks for"))
}

/// What opens a layer; `None` where it is not encrypted. Blocks.
pub(crate) fn layer_key(job: &Job, layer: &Layer) -> Result<Option<LayerKey>> {
    key_of(&job.inner, &layer.descriptor)
}

/// The same of a layer that nobody pulls. Blocks.
pub(crate) fn key_of(inner: &Inner, descriptor: &Descriptor) -> Result<Option<LayerKey>> {
    if !trust::is_encrypted(&descriptor.media_type) {
        return Ok(None);
    }
    let folder = inner.config.decryption_keys.as_ref().ok_or_else(|| {
        Error::precondition(format!(
            "the layer {} is encrypted, and no folder of decryption keys is configured",
            descriptor.digest
        ))
    })?;
    LayerKey::open(&descriptor.digest, &descriptor.annotations, &PrivateKeys::read(folder)?).map(Some)
}
