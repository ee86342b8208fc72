//! Push: an image that is here goes to a registry, byte for byte. Blobs that the registry has are not sent, others are
//! taken over from another of its repositories where that is possible; the manifest comes when all else is there, and
//! what the tag means comes last.

use super::export::named;
use super::found::lost;
use super::held::Held;
use super::tree::{self, Document};
use crate::lease::Lease;
use crate::manifest::{DOCKER_LIST, Descriptor, OCI_INDEX};
use crate::{Images, Inner, blocking};
use content::Hasher;
use registry::{Auth, BlobReader, Session};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use types::reference::shorten;
use types::{Digest, Error, ErrorKind, Reference, Result};

/// Repositories that a blob is looked for in.
const SOURCES_MAX: usize = 3;

/// Where progress is sent.
pub type PushSender = mpsc::UnboundedSender<PushProgress>;

/// How far one blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushProgress {
    /// The blob.
    pub digest: Digest,
    /// Its bytes.
    pub total: u64,
    /// Bytes that were sent.
    pub done: u64,
    /// What is being done with it.
    pub state: PushState,
}

/// What is being done with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushState {
    /// It waits for its turn.
    Waiting,
    /// It is being sent.
    Sending,
    /// The registry has it now.
    Done,
    /// The registry had it.
    Present,
    /// The registry took it from another repository of its own.
    Mounted,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name as it was pushed.
    pub reference: Reference,
    /// What the name means there now.
    pub digest: Digest,
    /// Why only one platform was pushed, where the image came as an index.
    pub note: Option<String>,
}

/// What is sent.
struct Cargo {
    blobs: Vec<Descriptor>,
    /// What others lead to comes before them; the last one gets the tag.
    documents: Vec<Document>,
    note: Option<String>,
}

/// What all parts of one push share.
struct Job {
    inner: Arc<Inner>,
    session: Session,
    _lease: Lease,
    /// Repositories of the same registry that may have the blobs.
    sources: Vec<String>,
    progress: Option<PushSender>,
}

impl Images {
    /// Sends the image that `image` means to a registry, under `destination` or under its own name.
    pub async fn push(
        &self,
        image: &str,
        destination: Option<Reference>,
        auth: Option<Auth>,
        progress: Option<PushSender>,
    ) -> Result<Pushed> {
        let record = self.find(image).ok_or_else(|| {
            Error::not_found(format!("there is no image {:?} here; pull it first", shorten(image)))
        })?;
        let name = named(&record, image);
        let reference =
            destination.or_else(|| name.clone().filter(|name| name.digest().is_none())).ok_or_else(|| {
                Error::invalid(format!(
                    "{:?} does not say where to push to; name the destination",
                    shorten(image)
                ))
            })?;
        if reference.digest().is_some() {
            return Err(Error::invalid(format!("{reference} has a digest; an image is pushed under a tag")));
        }
        let lease = self.0.lease();
        lease.need([], record.blobs.clone()).await;
        let (inner, target) = (self.0.clone(), reference.clone());
        let (cargo, session) = blocking(move || {
            let root = tree::root(&inner.content, &record, name.as_ref());
            let cargo = cargo(&inner, &record, &root)?;
            let config_path = inner.config.registry_config_path.clone();
            let session = Session::open_push(inner.transport.clone(), config_path, &target, auth.as_ref())?;
            let sources = sources(&record.digests, &target);
            Ok((cargo, (session, sources)))
        })
        .await?;
        let (session, sources) = session;
        let job = Arc::new(Job { inner: self.0.clone(), session, _lease: lease, sources, progress });
        let digest = send(&job, &cargo, &reference)
            .await
            .map_err(|error| error.context(format!("cannot push {reference}")))?;
        Ok(Pushed { reference, digest, note: cargo.note })
    }
}

/// Other repositories of the registry that the image is known to come from.
fn sources(digests: &[String], target: &Reference) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    for known in digests.iter().filter_map(|full| Reference::parse(full).ok()) {
        let path = known.path().to_owned();
        if known.host() == target.host() && known.path() != target.path() && !sources.contains(&path) {
            sources.push(path);
        }
    }
    sources.truncate(SOURCES_MAX);
    sources
}

/// The whole index where all of it is here, else the image for this machine. Blocks.
fn cargo(inner: &Inner, record: &crate::ImageRecord, root: &Digest) -> Result<Cargo> {
    let content = &inner.content;
    let mut held = Held::default();
    let tree = tree::load(content, root, &mut held)?;
    let is_index = |d: &Document| matches!(d.descriptor.media_type.as_str(), OCI_INDEX | DOCKER_LIST);
    if tree.missing.is_empty() && !tree.documents.is_empty() {
        return Ok(Cargo { blobs: tree.blobs, documents: tree.documents, note: None });
    }
    let own = tree::own(content, record, &mut held)?;
    tree::whole(content, record.names.first().map_or(record.id.as_str(), String::as_str), &own)?;
    let note = tree.root().filter(|root| is_index(root)).map(|root| {
        format!(
            "{} is an index whose images for other platforms are not here: only the image for {} was pushed",
            root.descriptor.digest, inner.config.platform
        )
    });
    let mut blobs = vec![own.config];
    for layer in own.layers {
        if !blobs.iter().any(|blob| blob.digest == layer.digest) {
            blobs.push(layer);
        }
    }
    Ok(Cargo { blobs, documents: vec![own.manifest], note })
}

async fn send(job: &Arc<Job>, cargo: &Cargo, reference: &Reference) -> Result<Digest> {
    let turns = Arc::new(Semaphore::new(job.inner.config.max_concurrent_downloads.max(1)));
    // Dropping the set, as an error does, ends the uploads that still run.
    let mut uploads = JoinSet::new();
    for blob in cargo.blobs.iter().cloned() {
        job.tell(&blob, 0, PushState::Waiting);
        let (job, turns) = (job.clone(), turns.clone());
        uploads.spawn(async move {
            let _turn = turns.acquire().await;
            upload(&job, &blob).await.map_err(|error| error.context(format!("blob {}", blob.digest)))
        });
    }
    while let Some(done) = uploads.join_next().await {
        done.map_err(|cause| Error::with_source(ErrorKind::Internal, "an upload failed", cause))??;
    }
    let tag = reference.tag().unwrap_or("latest");
    let Some((top, below)) = cargo.documents.split_last() else {
        return Err(Error::internal("there is nothing to push"));
    };
    for document in below {
        put(job, document.descriptor.digest.as_str(), document).await?;
    }
    put(job, tag, top).await?;
    Ok(top.descriptor.digest.clone())
}

async fn put(job: &Job, target: &str, document: &Document) -> Result<()> {
    let bytes = document.bytes.clone().into();
    job.session.put_manifest(target, &document.descriptor.media_type, bytes).await?;
    Ok(())
}

async fn upload(job: &Arc<Job>, blob: &Descriptor) -> Result<()> {
    let digest = &blob.digest;
    if job.session.blob_exists(digest).await? {
        job.tell(blob, blob.size, PushState::Present);
        return Ok(());
    }
    for source in &job.sources {
        if job.session.mount(digest, source).await? {
            job.tell(blob, blob.size, PushState::Mounted);
            return Ok(());
        }
    }
    let open = |offset: u64| -> io::Result<BlobReader> {
        let file = job.inner.content.open_blob(digest).and_then(|file| file.ok_or_else(|| lost(digest)));
        let mut file = file.map_err(|error| io::Error::other(error.chain()))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(tokio::fs::File::from_std(file)))
    };
    let progress = |sent: u64| job.tell(blob, sent.min(blob.size), PushState::Sending);
    if let Err(error) = job.session.push_blob(digest, blob.size, &open, &progress).await {
        // A registry refuses what is not what it is called; whose fault that is, is known here.
        let (work, damaged) = (job.clone(), blob.clone());
        if blocking(move || intact(&work.inner, &damaged)).await? {
            return Err(error.into());
        }
        return Err(Error::internal("it is damaged here; run `corten images check --repair` and push again"));
    }
    job.tell(blob, blob.size, PushState::Done);
    Ok(())
}

/// Whether a blob is what its digest says. Blocks.
fn intact(inner: &Inner, blob: &Descriptor) -> Result<bool> {
    let Some(mut file) = inner.content.open_blob(&blob.digest)? else { return Ok(false) };
    let mut hasher = Hasher::new(blob.digest.algorithm());
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish() == blob.digest),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(_) => return Ok(false),
        }
    }
}

impl Job {
    fn tell(&self, blob: &Descriptor, done: u64, state: PushState) {
        if let Some(progress) = &self.progress {
            // A listener that has gone away is no reason to stop.
            let _ =
                progress.send(PushProgress { digest: blob.digest.clone(), total: blob.size, done, state });
        }
    }
}
