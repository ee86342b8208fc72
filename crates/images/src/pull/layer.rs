//! One layer: from the registry, or the content store, into a draft of its snapshot. Fetching, hashing,
//! keeping and unpacking go on at the same time; nothing of it counts before length, digest and diff id are
//! what manifest and configuration say.

use super::feed::feed;
use super::queue::queue;
use super::stream::{BlobReader, Problem, Source};
use super::{Job, permit};
use crate::Inner;
use crate::artifact::Part;
use crate::manifest::{self, Descriptor};
use crate::progress::{LayerState, Listeners, Progress};
use content::Ingest;
use layers::Unpacked;
use snapshots::{ChainId, LayerDraft};
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use types::{Digest, Error, ErrorKind, Result};

/// Between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// One layer of the image that is being pulled.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub descriptor: Descriptor,
    /// What its blob becomes.
    pub part: Part,
    /// What it unpacks to, as the image's configuration says; of an artifact nobody says it.
    pub diff_id: Option<Digest>,
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
    get_as(job, layer, job.inner.snapshotter.parallel()).await
}

/// Fetches the blob of a layer that is in place, and only keeps it.
pub(crate) async fn keep(job: &Arc<Job>, layer: &Layer) -> Result<()> {
    get_as(job, layer, false).await.map(drop)
}

/// Unpacks as it comes (`parallel`), or stores the blob only.
async fn get_as(job: &Arc<Job>, layer: &Layer, parallel: bool) -> Result<Ready> {
    let digest = &layer.descriptor.digest;
    if job.inner.content.size(digest) == Some(layer.descriptor.size) {
        if !parallel {
            return Ok(Ready::Stored);
        }
        match unpack_stored(job, layer).await {
            Err(Failure::Blob(problem)) => forget_damaged(job, digest, &problem),
            other => return finish(other, layer),
        }
    }
    let session = job.session().map_err(|error| error.context(format!("cannot get layer {digest}")))?;
    let mut anew = false;
    loop {
        let (send, receive) = queue();
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
        let (fed, done) = tokio::join!(feed(job, session, &layer.descriptor, send), work);
        let done =
            done.map_err(|e| Error::with_source(ErrorKind::Internal, "unpacking a layer failed", e))?;
        match (fed, done) {
            (_, Ok(ready)) => return Ok(ready),
            // The content store or the archive fails on its own account.
            (_, Err(Failure::Other(error))) => return finish(Err(Failure::Other(error)), layer),
            (Err(error), Err(Failure::Blob(_))) => {
                let foreign = match manifest::is_foreign(&layer.descriptor.media_type) {
                    true => ", which may only be at URLs that its image names, and those are never asked",
                    false => "",
                };
                return Err(Error::from(error).context(format!("cannot fetch layer {digest}{foreign}")));
            }
            (Ok(host), Err(Failure::Blob(problem))) => {
                let error = layer_error(layer, &problem, Some(&host.name));
                // Of a piece from each of several hosts nobody can tell which is wrong.
                if host.mixed && !anew {
                    anew = true;
                    tracing::warn!(error = %error.chain(), "it came from several hosts; it is fetched anew");
                    continue;
                }
                if !session.lied(host.index, digest) {
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
    let key = permit::layer_key(job, layer).map_err(Failure::Other)?;
    let unpacked = match key {
        None => {
            let head = reader.head(layer.part.telling());
            unpack_into(job, layer, &head, &mut reader, &draft)
        }
        Some(key) => unpack_encrypted(job, layer, &mut reader, &key, &draft),
    };
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
    if let Some(said) = &layer.diff_id
        && unpacked.diff_id != *said
    {
        return Err(Failure::Other(Error::invalid(format!(
            "its content has the diff id {}, and the image's configuration says {said}; the image is broken",
            unpacked.diff_id
        ))));
    }
    if let Some(ingest) = ingest {
        keep_blob(inner, ingest, &layer.descriptor.digest).map_err(Failure::Other)?;
    }
    Ok(Ready::Draft(Box::new(draft), unpacked))
}

fn unpack_into(
    job: &Job,
    layer: &Layer,
    head: &[u8],
    reader: impl Read + Send,
    draft: &LayerDraft,
) -> Result<Unpacked> {
    let (size, mode) = (layer.descriptor.size, job.inner.snapshotter.whiteouts());
    layer.part.unpack(head, size, reader, draft.dir.as_fd(), mode, &job.limits)
}

/// The digest is that of the encrypted bytes, the diff id that of what they open to.
fn unpack_encrypted(
    job: &Job,
    layer: &Layer,
    reader: &mut BlobReader,
    key: &trust::LayerKey,
    draft: &LayerDraft,
) -> Result<Unpacked> {
    let failed = |error| Error::with_source(ErrorKind::InvalidArgument, "cannot decrypt the layer", error);
    let mut plain = trust::Decrypted::new(reader, key)?;
    let mut magic = Vec::new();
    (&mut plain).take(4).read_to_end(&mut magic).map_err(failed)?;
    let whole = std::io::Cursor::new(&magic).chain(&mut plain);
    let unpacked = unpack_into(job, layer, &magic, whole, draft);
    plain.finish().map_err(failed)?;
    unpacked
}

/// Gives a verified blob its name. It is on the disk when what is recorded with it is synced.
fn keep_blob(inner: &Inner, ingest: Ingest, digest: &Digest) -> Result<()> {
    inner.unsynced.blob(digest);
    inner.content.commit_unsynced(ingest, digest)?;
    inner.unsynced.blob(digest);
    Ok(())
}

/// Only keeps the blob. Blocks.
fn store(job: &Job, layer: &Layer, reader: BlobReader) -> Result<Ready, Failure> {
    match reader.finish(&layer.descriptor.digest) {
        Ok(Some(ingest)) => {
            keep_blob(&job.inner, ingest, &layer.descriptor.digest).map_err(Failure::Other)?;
            Ok(Ready::Stored)
        }
        Ok(None) => Err(Failure::Other(Error::internal("a layer was fetched and not kept"))),
        Err(Problem::Other(error)) => Err(Failure::Other(error)),
        Err(problem) => Err(Failure::Blob(problem)),
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

    pub(super) fn tell(&mut self, done: u64, state: LayerState) {
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
