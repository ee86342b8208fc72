//! One layer: from the registry, or the content store, into a draft of its snapshot. Fetching, hashing,
//! keeping and unpacking go on at the same time; nothing of it counts before length, digest and diff id are
//! what manifest and configuration say.

use super::Job;
use super::stream::{BlobReader, PART_MAX, PARTS_WAITING, Problem, Source};
use crate::manifest::Descriptor;
use crate::progress::{LayerState, Listeners, Progress};
use bytes::Bytes;
use layers::{UnpackLimits, Unpacked};
use registry::RegistryError;
use registry::retry_wait;
use snapshots::{ChainId, LayerDraft};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use types::{Digest, Error, ErrorKind, Result};

/// Times in a row that a broken transfer is taken up again without one byte more.
const STALLS_MAX: u32 = 3;
/// Times that a broken transfer is taken up again at all.
const RESUMES_MAX: u32 = 50;
/// Between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// One layer of the image that is being pulled.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub descriptor: Descriptor,
    pub diff_id: Digest,
    pub chain: ChainId,
    /// The layers below, topmost first.
    pub below: Vec<ChainId>,
}

/// A layer that waits for the layers below.
pub(crate) enum Ready {
    /// Unpacked into a draft.
    Draft(Box<LayerDraft>, Unpacked),
    /// In the content store, for a snapshotter that unpacks one layer upon the other.
    Stored,
}

/// Gets a layer ready. Hosts that give wrong content are passed over while there are others.
pub(crate) async fn get(job: &Arc<Job>, layer: &Layer) -> Result<Ready> {
    let digest = &layer.descriptor.digest;
    let parallel = job.inner.snapshotter.parallel();
    if job.inner.content.size(digest) == Some(layer.descriptor.size) {
        if !parallel {
            return Ok(Ready::Stored);
        }
        match unpack_stored(job, layer).await {
            Err(Failure::Blob(problem)) => forget_damaged(job, digest, &problem),
            other => return finish(other, layer),
        }
    }
    loop {
        let (send, receive) = mpsc::channel(PARTS_WAITING);
        let work = tokio::task::spawn_blocking({
            let (job, layer) = (job.clone(), layer.clone());
            move || {
                let keep = !parallel || job.inner.config.keeps_layers();
                let ingest = keep.then(|| job.inner.content.ingest()).transpose().map_err(Failure::Other)?;
                let d = &layer.descriptor;
                let reader = BlobReader::new(Source::Network(receive), &d.digest, d.size, ingest);
                if parallel { unpack(&job, &layer, reader) } else { store(&job, &layer, reader) }
            }
        });
        let (fed, done) = tokio::join!(feed(job, &layer.descriptor, send), work);
        let done =
            done.map_err(|e| Error::with_source(ErrorKind::Internal, "unpacking a layer failed", e))?;
        match (fed, done) {
            (_, Ok(ready)) => return Ok(ready),
            // The content store or the archive fails on its own account.
            (_, Err(Failure::Other(error))) => return finish(Err(Failure::Other(error)), layer),
            (Err(error), Err(Failure::Blob(_))) => {
                return Err(Error::from(error).context(format!("cannot fetch layer {digest}")));
            }
            (Ok(host), Err(Failure::Blob(problem))) => {
                let error = layer_error(layer, &problem, Some(&host.name));
                if !job.session.lied(host.index, digest) {
                    return Err(error);
                }
                tracing::warn!(error = %error.chain(), "trying the next host");
            }
        }
    }
}

/// Unpacks a layer that lies in the content store; the layers below are committed. Blocks.
pub(crate) fn unpack_after_parents(job: &Job, layer: &Layer) -> Result<(Box<LayerDraft>, Unpacked)> {
    let digest = &layer.descriptor.digest;
    let file = job.inner.content.open_blob(digest)?.ok_or_else(|| {
        Error::internal(format!("layer {digest} vanished from the content store; pull the image again"))
    })?;
    let reader = BlobReader::new(Source::Stored(file), digest, layer.descriptor.size, None);
    match unpack(job, layer, reader) {
        Ok(Ready::Draft(draft, unpacked)) => Ok((draft, unpacked)),
        Ok(Ready::Stored) => Err(Error::internal("a layer was stored in place of being unpacked")),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Blob(problem)) => {
            forget_damaged(job, digest, &problem);
            Err(layer_error(layer, &problem, None))
        }
    }
}

/// Why a layer is not ready.
enum Failure {
    /// The blob is not what its descriptor says.
    Blob(Problem),
    /// The archive is refused, or something of our own failed.
    Other(Error),
}

fn finish(result: Result<Ready, Failure>, layer: &Layer) -> Result<Ready> {
    result.map_err(|failure| match failure {
        Failure::Blob(problem) => layer_error(layer, &problem, None),
        Failure::Other(error) => error.context(format!("cannot unpack layer {}", layer.descriptor.digest)),
    })
}

fn layer_error(layer: &Layer, problem: &Problem, host: Option<&str>) -> Error {
    let what = match problem {
        Problem::Ended => {
            format!("it is shorter than the {} bytes that its manifest says", layer.descriptor.size)
        }
        Problem::WrongContent(what) => what.clone(),
        Problem::Other(error) => error.chain(),
    };
    let from = host.map_or_else(|| "in the content store".to_owned(), |host| format!("from {host}"));
    let kind = match problem {
        Problem::Other(error) => error.kind(),
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("layer {} {from} is not what was announced: {what}", layer.descriptor.digest))
}

fn forget_damaged(job: &Job, digest: &Digest, problem: &Problem) {
    tracing::warn!(%digest, ?problem, "a stored layer is damaged; it is fetched again");
    if let Err(error) = job.inner.content.remove(digest) {
        tracing::warn!(%digest, error = %error.chain(), "the damaged layer could not be removed");
    }
}

async fn unpack_stored(job: &Arc<Job>, layer: &Layer) -> Result<Ready, Failure> {
    let (job, layer) = (job.clone(), layer.clone());
    let work = tokio::task::spawn_blocking(move || {
        let digest = &layer.descriptor.digest;
        let file = job.inner.content.open_blob(digest).map_err(Failure::Other)?;
        let file = file.ok_or(Failure::Blob(Problem::Ended))?;
        let reader = BlobReader::new(Source::Stored(file), digest, layer.descriptor.size, None);
        unpack(&job, &layer, reader)
    });
    work.await.unwrap_or_else(|e| {
        Err(Failure::Other(Error::with_source(ErrorKind::Internal, "unpacking a layer failed", e)))
    })
}

/// Unpacks what `reader` gives into a draft, and keeps the blob where it has an ingest. Blocks.
fn unpack(job: &Job, layer: &Layer, mut reader: BlobReader) -> Result<Ready, Failure> {
    let inner = &job.inner;
    let parent = layer.below.first();
    let draft = inner.snapshotter.begin_layer(&layer.chain, parent).map_err(Failure::Other)?;
    let compression = layers::detect(&reader.magic());
    let limits = UnpackLimits::default();
    let unpacked =
        layers::unpack(&mut reader, compression, draft.dir.as_fd(), inner.snapshotter.whiteouts(), &limits);
    if let Err(error) = unpacked.as_ref().map_err(Error::kind)
        && error == ErrorKind::ResourceExhausted
    {
        // A full disk or a bomb: no reason to read on.
        return unpacked.map(|_| Ready::Stored).map_err(Failure::Other);
    }
    // Whether the blob is what was announced comes first: an archive that broke on its way is no hostile one.
    let ingest = match reader.finish(&layer.descriptor.digest) {
        Ok(ingest) => ingest,
        Err(Problem::Other(error)) => return Err(Failure::Other(error)),
        Err(problem) => return Err(Failure::Blob(problem)),
    };
    let unpacked = unpacked.map_err(Failure::Other)?;
    if unpacked.diff_id != layer.diff_id {
        return Err(Failure::Other(Error::invalid(format!(
            "its content has the diff id {}, and the image's configuration says {}; the image is broken",
            unpacked.diff_id, layer.diff_id
        ))));
    }
    if let Some(ingest) = ingest {
        inner.content.commit(ingest, &layer.descriptor.digest).map_err(Failure::Other)?;
    }
    Ok(Ready::Draft(Box::new(draft), unpacked))
}

/// Only keeps the blob. Blocks.
fn store(job: &Job, layer: &Layer, reader: BlobReader) -> Result<Ready, Failure> {
    match reader.finish(&layer.descriptor.digest) {
        Ok(Some(ingest)) => {
            job.inner.content.commit(ingest, &layer.descriptor.digest).map_err(Failure::Other)?;
            Ok(Ready::Stored)
        }
        Ok(None) => Err(Failure::Other(Error::internal("a layer was fetched and not kept"))),
        Err(Problem::Other(error)) => Err(Failure::Other(error)),
        Err(problem) => Err(Failure::Blob(problem)),
    }
}

/// Who sent the last part.
struct Sender {
    index: usize,
    name: String,
}

/// Fetches a blob into `send`. A transfer that breaks is taken up where it broke.
async fn feed(job: &Job, d: &Descriptor, send: mpsc::Sender<Bytes>) -> Result<Sender, RegistryError> {
    let mut report = Report::new(&job.listeners, d);
    let (mut sent, mut stalls, mut resumes) = (0u64, 0, 0);
    loop {
        let mut arriving = match job.session.blob(&d.digest, sent).await {
            Ok(arriving) => arriving,
            // Asked for what comes after the end: the blob is shorter than its manifest says.
            Err(RegistryError::Status { status, .. }) if sent > 0 && status.as_u16() == 416 => {
                let (host, digest) = (job.session.name(), d.digest.clone());
                return Err(RegistryError::Size { host, digest, expected: d.size, found: sent });
            }
            Err(error) => return Err(error),
        };
        let sender = Sender { index: arriving.index, name: arriving.host.clone() };
        let start = sent;
        let broke = loop {
            match arriving.next().await {
                Ok(Some(mut data)) => {
                    while !data.is_empty() {
                        let part = data.split_to(data.len().min(PART_MAX));
                        sent += part.len() as u64;
                        if send.send(part).await.is_err() || sent > d.size {
                            // The reader has given up, or is about to: it knows why.
                            return Ok(sender);
                        }
                    }
                    report.tell(sent, LayerState::Fetching);
                }
                Ok(None) if sent >= d.size => {
                    report.now(sent, LayerState::Fetching);
                    return Ok(sender);
                }
                Ok(None) => {
                    let (host, digest) = (sender.name.clone(), d.digest.clone());
                    break RegistryError::Size { host, digest, expected: d.size, found: sent };
                }
                Err(error) => break error,
            }
        };
        stalls = if sent > start { 1 } else { stalls + 1 };
        resumes += 1;
        if stalls >= STALLS_MAX || resumes > RESUMES_MAX {
            return Err(broke);
        }
        tracing::info!(digest = %d.digest, at = sent, error = %types::error::chain(&broke), "the transfer broke off and is taken up again");
        tokio::time::sleep(retry_wait(stalls)).await;
    }
}

/// Tells progress, and not too often.
pub(crate) struct Report<'a> {
    listeners: &'a Listeners,
    digest: Digest,
    total: u64,
    last: Option<Instant>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(listeners: &'a Listeners, descriptor: &Descriptor) -> Report<'a> {
        Report { listeners, digest: descriptor.digest.clone(), total: descriptor.size, last: None }
    }

    fn tell(&mut self, done: u64, state: LayerState) {
        if self.last.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            self.now(done, state);
        }
    }

    pub(crate) fn now(&mut self, done: u64, state: LayerState) {
        self.last = Some(Instant::now());
        let (digest, total) = (self.digest.clone(), self.total);
        self.listeners.tell(&Progress::Layer { digest, total, done, state });
    }
}
