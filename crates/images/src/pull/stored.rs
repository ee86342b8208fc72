//! An image whose blobs lie in the content store, as an import leaves them: the way of a pull from its plan on, with
//! nobody to ask for what is missing.

use super::{Job, Resolved, describe_as, fetch, plan};
use crate::artifact::Artifact;
use crate::image::ImageRecord;
use crate::lease::Lease;
use crate::manifest::Descriptor;
use crate::progress::Listeners;
use crate::{Inner, Stop, blocking};
use registry::Fetched;
use std::sync::Arc;
use types::{Digest, Error, ErrorKind, Result};

/// What is to be unpacked and recorded. The caller has verified the documents and the configuration.
pub(crate) struct Stored {
    /// Indexes from the outside in, then the manifest.
    pub documents: Vec<Fetched>,
    /// Where the manifest says that the configuration is.
    pub config: Descriptor,
    /// The configuration.
    pub config_bytes: Vec<u8>,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Where the manifest is an artifact's.
    pub artifact: Option<Artifact>,
    /// `host/path:tag` each.
    pub names: Vec<String>,
    /// `host/path@digest` each.
    pub digests: Vec<String>,
    /// Blobs that are kept with the image though this machine does not need them.
    pub more_blobs: Vec<Digest>,
}

/// Unpacks and records it. `lease` keeps what the caller has stored for it.
pub(crate) async fn stored(
    inner: Arc<Inner>,
    lease: Lease,
    listeners: Arc<Listeners>,
    image: Stored,
) -> Result<Arc<ImageRecord>> {
    let discards = !inner.config.keeps_layers();
    let limits = inner.config.unpack_limits(inner.snapshotter.as_ref());
    let job = Arc::new(Job { inner: inner.clone(), session: None, listeners, limits, lease });
    let Stored { documents, config, layers, artifact, .. } = image;
    let resolved = Resolved { documents, config, layers, artifact };
    let contents = resolved.contents(&image.config_bytes)?;
    let shown = image.names.first().map_or(resolved.config.digest.as_str(), String::as_str);
    let plan = plan(&job, shown, &resolved, &contents)?;
    let documents = resolved.documents.iter().map(|d| &d.digest).chain([&resolved.config.digest]);
    let blobs = documents.chain(resolved.layers.iter().map(|l| &l.digest)).chain(&image.more_blobs);
    let blobs: Vec<Digest> = blobs.cloned().collect();
    job.need(plan.iter().map(|l| l.chain.clone()).collect::<Vec<_>>(), blobs).await;
    let committed = fetch(&job, &plan).await?;
    let mut record = describe_as(&inner, image.names, image.digests, &resolved, contents, &plan);
    record.blobs.extend(image.more_blobs);
    let id = record.id.clone();
    let work = job.clone();
    let stop = Stop::default();
    let given_up = stop.0.clone();
    blocking(move || {
        work.keep_documents(&resolved, &image.config_bytes, &record)?;
        // A layer that was unpacked already need not be in the archive.
        record.blobs.retain(|blob| work.inner.content.size(blob).is_some());
        work.inner.record_unless(&given_up, record, &committed)
    })
    .await?;
    drop(stop);
    let recorded = inner.index().by_id(&id);
    drop(job);
    if discards && let Err(error) = crate::collect::run(inner).await {
        tracing::warn!(error = %error.chain(), "the unpacked layers could not be discarded");
    }
    recorded.ok_or_else(|| {
        Error::new(ErrorKind::Cancelled, format!("image {id} was removed while its import ended"))
    })
}
