//! A pull, step by step: resolve, plan, fetch and unpack side by side, commit bottom up, record.
//!
//! The image is recorded last, in one transaction, when everything it needs is on the disk. A pull that
//! fails or is dropped leaves whole, verified layers and blobs, which the next attempt uses and
//! [`crate::Images::collect`] removes; half ones remove themselves.

mod feed;
pub(crate) mod flight;
mod keeper;
mod layer;
mod lazy;
pub(crate) mod permit;
mod plan;
mod queue;
mod stored;
mod stream;
mod turns;

pub(crate) use permit::{key_of, permit_import};
pub(crate) use stored::{Stored, stored};

use crate::artifact::Artifact;
use crate::image::{Contents, ImageConfig, ImageRecord};
use crate::index::LayerRecord;
use crate::lease::Lease;
use crate::manifest::{self, Descriptor, Document, MANIFEST_MAX, ManifestError};
use crate::progress::{LayerState, Listeners, Progress};
use crate::{Inner, Stop, blocking};
use layer::{Layer, Ready, Report};
use plan::plan;
use registry::Auth;
use registry::{Fetched, Session};
use snapshots::ChainId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use types::{Digest, Error, ErrorKind, Reference, Result};

/// Indexes in indexes that are followed.
const NESTING_MAX: usize = 3;
/// How long a pull waits for another one that is at the same layer. A registry that feeds that one a byte
/// now and then must not hold up this one, which may have another registry or other credentials.
const TURN_MAX: Duration = Duration::from_secs(60);

/// Layers that are unpacked at once by all pulls of the node: what they hold in memory is bounded by that.
static UNPACKING: Semaphore = Semaphore::const_new(6);

/// What all parts of one pull share. Blocking work holds it too, so that what a pull needs stays leased
/// until the last of its work has ended.
pub(crate) struct Job {
    pub inner: Arc<Inner>,
    /// None where everything comes from the content store.
    pub session: Option<Session>,
    pub listeners: Arc<Listeners>,
    /// What the layers may unpack to, each and together.
    pub limits: layers::UnpackLimits,
    lease: Lease,
}

/// What a reference resolved to.
struct Resolved {
    /// Indexes from the outside in, then the manifest.
    documents: Vec<Fetched>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    /// Where the manifest is an artifact's.
    artifact: Option<Artifact>,
}

impl Resolved {
    /// The digest of the manifest for this machine.
    fn manifest(&self) -> &Digest {
        self.documents.last().map_or(&self.config.digest, |d| &d.digest)
    }

    /// What the configuration, and an artifact's manifest, say.
    fn contents(&self, config: &[u8]) -> Result<Contents> {
        Contents::read(self.manifest(), self.artifact.clone(), &self.config, config, &self.layers)
    }
}

/// Pulls a reference.
pub(crate) async fn run(
    inner: Arc<Inner>,
    reference: Reference,
    auth: Option<Auth>,
    listeners: Arc<Listeners>,
) -> Result<Arc<ImageRecord>> {
    let name = reference.to_string();
    // Without parallel unpacking the blobs had to be stored; nothing refers to them now.
    let discards = !inner.config.keeps_layers() && !inner.snapshotter.parallel();
    let record = pull(inner.clone(), reference, auth, listeners.clone())
        .await
        .map_err(|error| error.context(format!("cannot pull {name}")))?;
    if discards && let Err(error) = crate::collect::run(inner).await {
        tracing::warn!(error = %error.chain(), "the unpacked layers could not be discarded");
    }
    listeners.tell(&Progress::Done);
    Ok(record)
}

async fn pull(
    inner: Arc<Inner>,
    reference: Reference,
    auth: Option<Auth>,
    listeners: Arc<Listeners>,
) -> Result<Arc<ImageRecord>> {
    let session = blocking({
        let (inner, reference) = (inner.clone(), reference.clone());
        move || {
            let config_path = inner.config.registry_config_path.clone();
            Session::open(inner.transport.clone(), config_path, &reference, auth.as_ref())
        }
    })
    .await?;
    let lease = inner.lease();
    let limits = inner.config.unpack_limits(inner.snapshotter.as_ref());
    let job = Arc::new(Job { inner, session: Some(session), listeners, limits, lease });
    if let Some(known) = unchanged(&job, &reference).await? {
        return Ok(known);
    }
    let resolved = resolve(&job, &reference).await?;
    let digests = resolved.documents.iter().map(|d| d.digest.clone()).collect();
    let evidence = permit::permit(&job.inner, job.session()?, &reference, digests).await?;
    let config_bytes = config(&job, &resolved.config).await?;
    let contents = resolved.contents(&config_bytes)?;
    let plan = plan(&job, &reference.to_string(), &resolved, &contents)?;
    let documents = resolved.documents.iter().map(|d| &d.digest).chain([&resolved.config.digest]);
    let blobs: Vec<Digest> = documents.chain(resolved.layers.iter().map(|l| &l.digest)).cloned().collect();
    job.need(plan.iter().map(|l| l.chain.clone()).collect::<Vec<_>>(), blobs).await;
    lazy::lazily(&job, &reference, &resolved, &plan).await?;
    let committed = fetch(&job, &plan).await?;
    let mut record = describe(&job.inner, &reference, &resolved, contents, &plan);
    record.evidence = evidence;
    let id = record.id.clone();
    let work = job.clone();
    let stop = Stop::default();
    let given_up = stop.0.clone();
    blocking(move || {
        work.keep_documents(&resolved, &config_bytes, &record)?;
        if work.inner.snapshotter.fetches_layers() {
            // Of a layer that it got by itself there is no blob to keep.
            record.blobs.retain(|blob| work.inner.content.size(blob).is_some());
        }
        work.inner.record_unless(&given_up, record, &committed)
    })
    .await?;
    drop(stop);
    job.inner.index().by_id(&id).ok_or_else(|| {
        Error::new(ErrorKind::Cancelled, format!("image {id} was removed while its pull ended"))
    })
}

/// The image that is here already, where the registry says that the reference still means it. Asking
/// first saves the transfer, and a registry's pull quota, and still checks the credentials.
async fn unchanged(job: &Arc<Job>, reference: &Reference) -> Result<Option<Arc<ImageRecord>>> {
    let Some(before) = job.inner.index().by_reference(reference) else { return Ok(None) };
    let digest = match job.session()?.head(&target(reference)).await {
        Ok(Some(digest)) => digest,
        // Not every registry answers HEAD well; GET decides.
        Ok(None) => return Ok(None),
        Err(error) if error.condemns_host() => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    // What content is meant, the digest that was asked for decides, and no header does. GET verifies.
    if reference.digest().is_some_and(|wanted| *wanted != digest) {
        return Ok(None);
    }
    let name = format!("{}@{digest}", reference.repository());
    let Some(known) = job.inner.index().by_name(&name) else { return Ok(None) };
    // The policy may have become stricter since it was pulled.
    let digests = vec![digest, known.manifest.clone()];
    let evidence = permit::permit(&job.inner, job.session()?, reference, digests).await?;
    job.need(known.chain.clone(), known.blobs.clone()).await;
    let tag = if reference.digest().is_none() { reference.tagged() } else { None };
    let work = job.clone();
    blocking(move || {
        // What was lost, or was found damaged by a check, is got again.
        if !work.inner.is_intact(&known) {
            return Ok(None);
        }
        work.inner.add_evidence(&known.id, evidence)?;
        match tag {
            Some(tag) => work.inner.add_tag(&known.id, &tag, &before.id),
            None => Ok(work.inner.index().by_id(&known.id)),
        }
    })
    .await
}

fn target(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// Follows a reference through indexes to the manifest for this machine.
async fn resolve(job: &Arc<Job>, reference: &Reference) -> Result<Resolved> {
    let platform = &job.inner.config.platform;
    let mut documents = Vec::new();
    let mut current = job.session()?.manifest(&target(reference)).await?;
    let mut announced = current.media_type.clone();
    loop {
        match manifest::parse(&current.digest, announced.as_deref(), &current.bytes)? {
            Document::Image { config, layers } => {
                documents.push(current);
                return Ok(Resolved { documents, config, layers, artifact: None });
            }
            Document::Artifact { config, layers, artifact } => {
                documents.push(current);
                return Ok(Resolved { documents, config, layers, artifact: Some(artifact) });
            }
            Document::Index(manifests) => {
                let chosen = manifest::choose(&current.digest, &manifests, platform)?.clone();
                documents.push(current);
                if documents.len() > NESTING_MAX {
                    return Err(ManifestError::TooDeep(NESTING_MAX).into());
                }
                current = child(job, &chosen).await?;
                announced = Some(chosen.media_type).filter(|t| !t.is_empty()).or(current.media_type.clone());
            }
        }
    }
}

/// The document that an index points to, from the content store or the registry.
async fn child(job: &Arc<Job>, chosen: &Descriptor) -> Result<Fetched> {
    if chosen.size > MANIFEST_MAX {
        let (what, limit) = (format!("the manifest {}", chosen.digest), MANIFEST_MAX);
        return Err(ManifestError::TooLarge { what, size: chosen.size, limit }.into());
    }
    let (work, digest) = (job.clone(), chosen.digest.clone());
    // A damaged copy is no reason to fail: the registry has it whole.
    let stored = blocking(move || Ok(work.inner.content.read(&digest, MANIFEST_MAX).ok().flatten())).await?;
    let fetched = match stored {
        Some(bytes) => Fetched { bytes, media_type: None, digest: chosen.digest.clone() },
        None => job.session()?.manifest(chosen.digest.as_str()).await?,
    };
    // Both the index and the registry say what it is; they must agree (CVE-2021-41190).
    if let Some(header) = &fetched.media_type
        && !chosen.media_type.is_empty()
    {
        manifest::parse(&fetched.digest, Some(header), &fetched.bytes)?;
    }
    if fetched.bytes.len() as u64 != chosen.size {
        return Err(Error::invalid(format!(
            "the manifest {} has {} bytes, and its index says {}",
            chosen.digest,
            fetched.bytes.len(),
            chosen.size
        )));
    }
    Ok(fetched)
}

/// The configuration's bytes, verified.
async fn config(job: &Arc<Job>, d: &Descriptor) -> Result<Vec<u8>> {
    let (work, digest) = (job.clone(), d.digest.clone());
    let stored =
        blocking(move || Ok(work.inner.content.read(&digest, manifest::CONFIG_MAX).ok().flatten())).await?;
    match stored {
        Some(bytes) => Ok(bytes),
        None => Ok(job.session()?.small_blob(&d.digest, d.size, "the image's configuration").await?),
    }
}

impl Job {
    /// Stores the documents of an image. Synced, unless its layers are not either: the record then says so of all.
    fn keep_documents(&self, resolved: &Resolved, config: &[u8], record: &ImageRecord) -> Result<()> {
        let Inner { content, unsynced, .. } = &*self.inner;
        let later = unsynced.has_layer_of(&record.chain);
        let documents = resolved.documents.iter().map(|d| (&d.digest, &d.bytes[..]));
        for (digest, bytes) in documents.chain([(&resolved.config.digest, config)]) {
            if !later {
                content.write(digest, bytes)?;
            } else if !content.holds(digest, bytes) {
                unsynced.blob(digest);
                content.write_unsynced(digest, bytes)?;
                unsynced.blob(digest);
            }
        }
        Ok(())
    }

    /// Who is asked for what is not here.
    pub(crate) fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or_else(|| Error::not_found("it is not in the archive"))
    }

    /// Protects what this pull will use, before it is looked whether it is there.
    async fn need(
        &self,
        layers: impl IntoIterator<Item = ChainId> + Send,
        blobs: impl IntoIterator<Item = Digest> + Send,
    ) {
        self.lease.need(layers, blobs).await;
    }
}

/// Gets all layers in place, unless the disk would be too full then.
async fn fetch(job: &Arc<Job>, plan: &[Layer]) -> Result<Vec<(ChainId, LayerRecord)>> {
    let (work, layers) = (job.clone(), plan.to_vec());
    blocking(move || {
        // A layer is at least as large unpacked as compressed.
        let copies = if work.inner.config.keeps_layers() { 2 } else { 1 };
        let missing = layers.iter().filter(|layer| !work.inner.is_whole(&layer.chain));
        let bytes = missing.fold(0_u64, |sum, layer| sum.saturating_add(layer.descriptor.size));
        if bytes == 0 { Ok(()) } else { work.inner.reserve.check(bytes.saturating_mul(copies)) }
    })
    .await?;
    job.inner.reserve.during(fetch_all(job, plan)).await
}

/// Gets all layers ready side by side, and commits them bottom up as soon as it is their turn.
async fn fetch_all(job: &Arc<Job>, plan: &[Layer]) -> Result<Vec<(ChainId, LayerRecord)>> {
    let own = Arc::new(Semaphore::new(job.inner.config.max_concurrent_downloads.max(1)));
    // Dropping the set, as every error below does, ends the tasks that still run.
    let mut tasks = JoinSet::new();
    for (at, layer) in plan.iter().cloned().enumerate() {
        let (job, own) = (job.clone(), own.clone());
        tasks.spawn(async move {
            let mut report = Report::new(&job.listeners, &layer.descriptor);
            report.now(0, LayerState::Waiting);
            // Two pulls that share a layer get it once: the second one waits, and finds it present. No
            // deadlock: a holder waits only for layers further down.
            let turn = job.inner.layer_turn(&layer.chain).lock_owned();
            // After that long both fetch it. The one that commits later finds it in place, which is fine.
            let turn = tokio::time::timeout(TURN_MAX, turn).await.ok();
            let (work, same) = (job.clone(), layer.clone());
            let there = move || {
                let lost = work.session.is_some() && work.inner.is_lost(&same.descriptor.digest);
                Ok((work.inner.is_whole(&same.chain), lost))
            };
            let (whole, lost) = blocking(there).await?;
            if whole && !lost {
                report.now(layer.descriptor.size, LayerState::Present);
                return Ok::<_, Error>((at, None, turn));
            }
            // The same blob may be wanted on other layers, by this image or another: whoever comes second finds it
            // stored. Its holder waits for nobody but the places below, whose holders wait for nobody.
            let fetching = job.inner.layer_turn(&layer.descriptor.digest).lock_owned();
            let _fetching = match layer.descriptor.digest == layer.chain {
                // The bottom layer of a plain tar: this is the turn that is held already.
                true => None,
                false => tokio::time::timeout(TURN_MAX, fetching).await.ok(),
            };
            // A place in this pull, so that one image leaves some to others, then one of the node's.
            let _own = own.acquire().await;
            let _place = job.inner.transport.download_turn().await;
            let _unpacking = UNPACKING.acquire().await;
            if whole {
                // A check found its blob missing or damaged, or the disk lost it.
                layer::keep(&job, &layer).await?;
                report.now(layer.descriptor.size, LayerState::Present);
                return Ok((at, None, turn));
            }
            let ready = layer::get(&job, &layer).await?;
            report.now(layer.descriptor.size, LayerState::Unpacked);
            Ok((at, Some(ready), turn))
        });
    }
    let mut waiting: Vec<_> = plan.iter().map(|_| None).collect();
    let mut committed = Vec::with_capacity(plan.len());
    while let Some(done) = tasks.join_next().await {
        let (at, ready, turn) =
            done.map_err(|e| Error::with_source(ErrorKind::Internal, "fetching a layer failed", e))??;
        waiting[at] = Some((ready, turn));
        while let Some((ready, turn)) = waiting.get_mut(committed.len()).and_then(Option::take) {
            let layer = plan[committed.len()].clone();
            let (work, report) = (job.clone(), layer.descriptor.clone());
            let fresh = ready.is_some();
            let _unpacking = match ready {
                Some(Ready::Stored) => UNPACKING.acquire().await.ok(),
                _ => None,
            };
            let usage = blocking(move || {
                let usage = commit(&work, &layer, ready);
                drop(turn);
                usage
            })
            .await?;
            if fresh {
                Report::new(&job.listeners, &report).now(report.size, LayerState::Done);
            }
            committed.push(usage);
        }
    }
    Ok(committed)
}

/// Puts a layer in place; those below are there. Blocks.
fn commit(job: &Job, layer: &Layer, ready: Option<Ready>) -> Result<(ChainId, LayerRecord)> {
    let snapshotter = &job.inner.snapshotter;
    let (draft, unpacked) = match ready {
        Some(Ready::Draft(draft, unpacked)) => (draft, unpacked),
        Some(Ready::Stored) => layer::unpack_after_parents(job, layer)?,
        None => {
            let known = job.inner.index().layers.get(&layer.chain).copied();
            let usage = match known {
                Some(known) => known,
                None => snapshotter.layer_usage(&layer.chain)?.into(),
            };
            return Ok((layer.chain.clone(), usage));
        }
    };
    job.inner
        .place(*draft, &layer.chain, &layer.below, &unpacked)
        .map_err(|e| e.context(format!("cannot put layer {} in place", layer.descriptor.digest)))?;
    Ok((layer.chain.clone(), snapshotter.layer_usage(&layer.chain)?.into()))
}

/// The record of the pulled image.
fn describe(
    inner: &Inner,
    reference: &Reference,
    resolved: &Resolved,
    contents: Contents,
    plan: &[Layer],
) -> ImageRecord {
    // A reference with a digest names that content; its tag, if any, promises nothing.
    let tag = if reference.digest().is_none() { reference.tagged() } else { None };
    let outer = resolved.documents.first().map_or(&resolved.config.digest, |d| &d.digest);
    let digests = vec![format!("{}@{outer}", reference.repository())];
    describe_as(inner, tag.into_iter().collect(), digests, resolved, contents, plan)
}

/// The record of an image with these names and repository digests.
fn describe_as(
    inner: &Inner,
    names: Vec<String>,
    digests: Vec<String>,
    resolved: &Resolved,
    contents: Contents,
    plan: &[Layer],
) -> ImageRecord {
    let documents = resolved.documents.iter().map(|d| d.digest.clone());
    let mut blobs: Vec<Digest> = documents.chain([resolved.config.digest.clone()]).collect();
    if inner.config.keeps_layers() {
        blobs.extend(resolved.layers.iter().map(|l| l.digest.clone()));
    }
    let manifest = resolved.manifest();
    let (id, config, created) = match contents {
        Contents::Image(file) => (&resolved.config.digest, file.config, file.created),
        Contents::Artifact(artifact) => (manifest, ImageConfig::default(), artifact.created),
    };
    ImageRecord {
        id: id.clone(),
        names,
        digests,
        manifest: manifest.clone(),
        config,
        chain: plan.iter().map(|l| l.chain.clone()).collect(),
        size: resolved.layers.iter().fold(resolved.config.size, |sum, l| sum.saturating_add(l.size)),
        created,
        pulled_at: types::time::now_nanos(),
        blobs,
        pinned: false,
        evidence: Default::default(),
    }
}
