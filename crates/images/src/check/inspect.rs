//! The part of a check that reads: blobs against their digests, layers against their archives. It blocks.
//!
//! It also puts whole layers in place of damaged ones where it has unpacked them anyway; it fetches nothing.

use super::{CheckEvent, CheckReport, Checked, Damage, Damaged, shown};
use crate::Inner;
use crate::artifact::Part;
use crate::image::{Contents, ImageRecord};
use crate::index::LayerRecord;
use crate::lease::Lease;
use crate::manifest::{self, CONFIG_MAX, Descriptor, Document, MANIFEST_MAX};
use content::Hasher;
use layers::Unpacked;
use snapshots::{ChainId, LayerDraft};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use trust::{Decrypted, LayerKey};
use types::{Digest, Error, ErrorKind, Result};

/// Between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const PART: usize = 256 << 10;

/// One check.
pub(super) struct Inspection {
    inner: Arc<Inner>,
    _lease: Arc<Lease>,
    images: Vec<Arc<ImageRecord>>,
    repair: bool,
    progress: Progress,
    report: CheckReport,
    /// What was found of each blob and layer: where its damage stands in the report, or that it is whole.
    blobs: HashMap<Digest, Option<usize>>,
    layers: HashMap<ChainId, Option<usize>>,
}

struct Progress {
    events: Option<UnboundedSender<CheckEvent>>,
    stop: Arc<AtomicBool>,
    total: u64,
    done: u64,
    told: Instant,
}

impl Progress {
    fn read(&mut self, bytes: usize) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for the check any more"));
        }
        self.done += bytes as u64;
        if self.told.elapsed() >= REPORT_EVERY {
            self.told = Instant::now();
            if let Some(events) = &self.events {
                let (total, done) = (self.total.max(self.done), self.done);
                let _ = events.send(CheckEvent::Progress { total, done });
            }
        }
        Ok(())
    }
}

/// A blob on its way from the disk, hashed as it passes.
struct Hashed<'a> {
    file: File,
    hasher: Hasher,
    count: u64,
    failed: Option<io::Error>,
    progress: &'a mut Progress,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer).and_then(|length| self.progress.read(length).map(|()| length));
        match length {
            Ok(length) => {
                self.hasher.update(&buffer[..length]);
                self.count += length as u64;
                Ok(length)
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => Err(cause),
            Err(cause) => {
                let kind = cause.kind();
                self.failed.get_or_insert(cause);
                Err(kind.into())
            }
        }
    }
}

impl Hashed<'_> {
    /// Reads the rest, and says what is wrong with the blob.
    fn finish(mut self, digest: &Digest) -> Option<String> {
        let mut buffer = vec![0; PART];
        while self.failed.is_none() {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if let Some(cause) = self.failed {
            return Some(format!("it cannot be read at byte {} ({cause})", self.count));
        }
        let found = self.hasher.finish();
        (found != *digest).then(|| format!("it has {} bytes of the digest {found}", self.count))
    }
}

/// Unpacks a blob once more, decrypted where it has a key.
fn unpack(
    source: &Source,
    reader: &mut Hashed<'_>,
    key: Option<&LayerKey>,
    draft: &LayerDraft,
    mode: layers::WhiteoutMode,
    limits: &layers::UnpackLimits,
) -> Result<Unpacked> {
    let (part, size) = (&source.part, source.blob.size);
    // What is shorter than that is no archive, which unpacking says.
    let begin = |from: &mut dyn Read| {
        let mut head = Vec::new();
        let _ = from.take(part.telling() as u64).read_to_end(&mut head);
        head
    };
    let dir = draft.dir.as_fd();
    let Some(key) = key else {
        let head = begin(&mut *reader);
        return part.unpack(&head, size, io::Cursor::new(&head).chain(reader), dir, mode, limits);
    };
    let mut plain = Decrypted::new(reader, key)?;
    let head = begin(&mut plain);
    let unpacked = part.unpack(&head, size, io::Cursor::new(&head).chain(&mut plain), dir, mode, limits);
    plain
        .finish()
        .map_err(|cause| Error::with_source(ErrorKind::InvalidArgument, "it cannot be decrypted", cause))?;
    unpacked
}

/// A layer of an image, as far as its documents say what it is made of.
struct Source {
    blob: Descriptor,
    part: Part,
    /// Of an image.
    diff_id: Option<Digest>,
}

/// What a layer was compared with.
enum Compared {
    Whole,
    Differs(String, Option<Box<(LayerDraft, Unpacked)>>),
    /// It could not be compared.
    Not(Error),
}

impl Inspection {
    pub fn new(
        inner: Arc<Inner>,
        lease: Arc<Lease>,
        images: Vec<Arc<ImageRecord>>,
        repair: bool,
        events: Option<UnboundedSender<CheckEvent>>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let progress = Progress { events, stop, total: 0, done: 0, told: Instant::now() };
        let (blobs, layers) = (HashMap::new(), HashMap::new());
        let report = CheckReport::default();
        Self { inner, _lease: lease, images, repair, progress, report, blobs, layers }
    }

    pub fn run(mut self) -> Result<CheckReport> {
        let images = self.images.clone();
        let all: std::collections::HashSet<&Digest> = images.iter().flat_map(|i| &i.blobs).collect();
        self.progress.total = all.iter().filter_map(|blob| self.inner.content.size(blob)).sum();
        for image in &images {
            self.image(image)?;
        }
        self.report.images =
            images.into_iter().map(|image| Checked { image, damaged: 0, repaired: 0 }).collect();
        self.report.bytes = self.progress.done;
        Ok(self.report)
    }

    fn image(&mut self, image: &ImageRecord) -> Result<()> {
        let sources = self.sources(image)?;
        for (at, chain) in image.chain.iter().enumerate() {
            let below: Vec<ChainId> = image.chain[..at].iter().rev().cloned().collect();
            self.layer(image, chain, &below, sources.as_ref().map(|all| &all[at]))?;
        }
        // What is left: blobs of layers that were compared with another blob, other documents.
        for blob in &image.blobs {
            if self.inner.index().blobs.contains_key(blob) || self.inner.content.size(blob).is_some() {
                self.blob(image, blob)?;
            }
        }
        Ok(())
    }

    /// What each layer is made of; `None` where the image's own documents are damaged, or do not fit its record.
    fn sources(&mut self, image: &ImageRecord) -> Result<Option<Vec<Source>>> {
        if !self.blob(image, &image.manifest)? {
            return Ok(None);
        }
        let Some(manifest) = self.inner.content.read(&image.manifest, MANIFEST_MAX)? else { return Ok(None) };
        let (config, layers, artifact) = match manifest::parse(&image.manifest, None, &manifest)? {
            Document::Image { config, layers } => (config, layers, None),
            Document::Artifact { config, layers, artifact } => (config, layers, Some(artifact)),
            Document::Index(_) => return Ok(None),
        };
        if !self.blob(image, &config.digest)? {
            return Ok(None);
        }
        let Some(json) = self.inner.content.read(&config.digest, CONFIG_MAX)? else { return Ok(None) };
        let contents = Contents::read(&image.manifest, artifact, &config, &json, &layers)?;
        if layers.len() != image.chain.len() || contents.chain_ids(&layers) != image.chain {
            return Ok(None);
        }
        let parts: Vec<(Part, Option<Digest>)> = match contents {
            Contents::Image(file) => file.diff_ids.into_iter().map(|id| (Part::Tree, Some(id))).collect(),
            Contents::Artifact(artifact) => artifact.parts.into_iter().map(|part| (part, None)).collect(),
        };
        let pairs = layers.into_iter().zip(parts);
        Ok(Some(pairs.map(|(blob, (part, diff_id))| Source { blob, part, diff_id }).collect()))
    }

    /// Checks a blob, once for all images that have it. True where it is whole.
    fn blob(&mut self, image: &ImageRecord, digest: &Digest) -> Result<bool> {
        if let Some(known) = self.blobs.get(digest) {
            return Ok(self.also(*known, image));
        }
        let what = match self.open(digest)? {
            None => Some("it is not there".to_owned()),
            Some(file) => self.hashed(file, digest).finish(digest),
        };
        self.found(image, Damaged::Blob, digest, what)
    }

    fn open(&self, digest: &Digest) -> Result<Option<File>> {
        let file = self.inner.content.open_blob(digest)?;
        if let Some(file) = &file {
            // Memory may be right where the disk is not. Only a hint (posix_fadvise(2)).
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        }
        Ok(file)
    }

    fn hashed(&mut self, file: File, digest: &Digest) -> Hashed<'_> {
        let hasher = Hasher::new(digest.algorithm());
        Hashed { file, hasher, count: 0, failed: None, progress: &mut self.progress }
    }

    /// Takes note of what was found of a blob or layer.
    fn found(
        &mut self,
        image: &ImageRecord,
        part: Damaged,
        digest: &Digest,
        what: Option<String>,
    ) -> Result<bool> {
        if self.progress.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the check was given up"));
        }
        let whole = what.is_none();
        let known = what.map(|what| {
            let (images, containers) = (vec![shown(image)], Vec::new());
            let (digest, why_not) = (digest.clone(), None);
            self.report.damages.push(Damage {
                part,
                digest,
                images,
                what,
                repaired: false,
                why_not,
                containers,
            });
            self.report.damages.len() - 1
        });
        match part {
            Damaged::Blob => {
                self.report.blobs += 1;
                self.blobs.insert(digest.clone(), known);
            }
            Damaged::Layer => {
                self.layers.insert(digest.clone(), known);
            }
        }
        Ok(whole)
    }

    /// The damage `known` concerns this image too.
    fn also(&mut self, known: Option<usize>, image: &ImageRecord) -> bool {
        if let Some(damage) = known.and_then(|at| self.report.damages.get_mut(at)) {
            let name = shown(image);
            if !damage.images.contains(&name) {
                damage.images.push(name);
            }
        }
        known.is_none()
    }

    fn layer(
        &mut self,
        image: &ImageRecord,
        chain: &ChainId,
        below: &[ChainId],
        source: Option<&Source>,
    ) -> Result<()> {
        if let Some(known) = self.layers.get(chain) {
            self.also(*known, image);
            return Ok(());
        }
        let compared = match source {
            Some(source) => self.compare(image, chain, below, source)?,
            None => Compared::Not(Error::precondition("the image's documents are damaged")),
        };
        let (what, fresh) = match compared {
            Compared::Whole => (None, None),
            Compared::Differs(what, fresh) => (Some(what), fresh),
            Compared::Not(why) => {
                tracing::debug!(layer = %chain, why = why.chain(), "a layer is not compared with its archive");
                (self.measure(chain)?, None)
            }
        };
        let damaged = what.is_some();
        self.found(image, Damaged::Layer, chain, what)?;
        if !damaged {
            return self.mark(chain, false);
        }
        let outcome = match fresh {
            Some(fresh) if self.repair => {
                let (draft, unpacked) = *fresh;
                Some(self.inner.replace(draft, chain, below, &unpacked))
            }
            _ => None,
        };
        if !matches!(outcome, Some(Ok(()))) {
            self.mark(chain, true)?;
        }
        if let Some(damage) = self.report.damages.last_mut() {
            damage.containers = self.inner.users(chain);
            match outcome {
                Some(Ok(())) => damage.repaired = true,
                Some(Err(error)) => damage.why_not = Some(error.chain()),
                None => {}
            }
        }
        Ok(())
    }

    /// Unpacks a layer's blob once more, and compares.
    fn compare(
        &mut self,
        image: &ImageRecord,
        chain: &ChainId,
        below: &[ChainId],
        source: &Source,
    ) -> Result<Compared> {
        let digest = &source.blob.digest;
        let kept = self.inner.index().blobs.contains_key(digest);
        let file = match self.open(digest)? {
            Some(file) if !matches!(self.blobs.get(digest), Some(Some(_))) => file,
            _ if kept => {
                self.blob(image, digest)?;
                return Ok(Compared::Not(Error::precondition("its blob is damaged")));
            }
            _ => return Ok(Compared::Not(Error::precondition("its blob is not kept"))),
        };
        // Without its key a layer cannot be opened; its blob is read all the same, by the caller.
        let key = match crate::pull::key_of(&self.inner, &source.blob) {
            Ok(key) => key,
            Err(error) => return Ok(Compared::Not(error)),
        };
        let snapshotter = self.inner.snapshotter.clone();
        let draft = match snapshotter.begin_layer(chain, below.first()) {
            Ok(draft) => draft,
            Err(error) => return Ok(Compared::Not(error)),
        };
        let (mode, limits) = (snapshotter.whiteouts(), self.inner.config.unpack_limits(snapshotter.as_ref()));
        let mut reader = self.hashed(file, digest);
        let unpacked = unpack(source, &mut reader, key.as_ref(), &draft, mode, &limits);
        let what = reader.finish(digest);
        if !self.blobs.contains_key(digest) {
            self.found(image, Damaged::Blob, digest, what)?;
        }
        if matches!(self.blobs.get(digest), Some(Some(_))) {
            return Ok(Compared::Not(Error::precondition("its blob is damaged")));
        }
        let unpacked = match unpacked {
            Ok(unpacked) if source.diff_id.as_ref().is_none_or(|said| *said == unpacked.diff_id) => unpacked,
            Ok(_) => return Ok(Compared::Not(Error::precondition("its blob has another diff id"))),
            Err(error) => return Ok(Compared::Not(error)),
        };
        self.report.layers += 1;
        if !snapshotter.has_layer(chain) {
            return Ok(Compared::Differs("it is not there".into(), Some(Box::new((draft, unpacked)))));
        }
        match snapshotter.verify_layer(&draft, chain, below, &unpacked) {
            Ok(None) => Ok(Compared::Whole),
            Ok(Some(what)) => {
                // It was settled for the comparison.
                let settled = Unpacked { pending: layers::Pending::default(), ..unpacked };
                Ok(Compared::Differs(what, Some(Box::new((draft, settled)))))
            }
            Err(error) => {
                self.report.layers -= 1;
                Ok(Compared::Not(error))
            }
        }
    }

    /// Whether a layer is what it was when it was unpacked, as far as that is known: all of it by its fingerprint, else
    /// its size.
    fn measure(&mut self, chain: &ChainId) -> Result<Option<String>> {
        if !self.inner.snapshotter.has_layer(chain) {
            self.report.measured += 1;
            return Ok(Some("it is not there".into()));
        }
        let taken = self.inner.index().layers.get(chain).and_then(|record| record.fingerprint);
        let found = match taken {
            Some(_) => self.inner.snapshotter.fingerprint_layer(chain, true).unwrap_or_else(|error| {
                tracing::debug!(layer = %chain, error = error.chain(), "a layer cannot be read");
                // Of what cannot be read nobody can say that it is whole.
                Some([0; 32])
            }),
            None => None,
        };
        let counted = if found.is_some() { &mut self.report.layers } else { &mut self.report.measured };
        *counted += 1;
        if found.is_some() {
            // Every byte was looked at: what the file system makes of them in blocks may change.
            if found == taken {
                let damaged = self.inner.index().layers.get(chain).is_some_and(|record| record.damaged);
                return Ok(damaged.then(|| "an earlier check found it damaged".to_owned()));
            }
            // The size says more, where it tells.
            let size = self.measured(chain)?;
            return Ok(size.or_else(|| Some("its files are not what was unpacked".to_owned())));
        }
        self.measured(chain)
    }

    /// Whether a layer is as large as it was.
    fn measured(&self, chain: &ChainId) -> Result<Option<String>> {
        let known = self.inner.index().layers.get(chain).copied();
        let (Some(known), now) = (known, self.inner.snapshotter.measure_layer(chain)?) else {
            return Ok(None);
        };
        if (known.inodes, known.bytes) == (now.inodes, now.bytes) {
            // An earlier check saw more than this one can.
            return Ok(known.damaged.then(|| "an earlier check found it damaged".to_owned()));
        }
        Ok(Some(format!(
            "it has {} entries in {} bytes of the disk in place of {} in {}",
            now.inodes, now.bytes, known.inodes, known.bytes
        )))
    }

    fn mark(&self, chain: &ChainId, damaged: bool) -> Result<()> {
        let known = self.inner.index().layers.get(chain).copied();
        match known {
            Some(record) if record.damaged != damaged => {
                self.inner.note_layer(chain, LayerRecord { damaged, ..record })
            }
            _ => Ok(()),
        }
    }
}
