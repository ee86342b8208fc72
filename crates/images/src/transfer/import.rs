//! Import: an archive's blobs go into the content store, each image in it is followed from its descriptor to its
//! layers, and then takes the way of a pull. Names are given last, when it is known what there is.

use super::archive::{self, Incoming};
use super::found::{Archived, Found, found};
use super::held::Held;
use crate::artifact::Artifact;
use crate::lease::Lease;
use crate::manifest::{self, CONFIG_MAX, Descriptor, Document, MANIFEST_MAX, ManifestError};
use crate::platform::Platform;
use crate::progress::{Listeners, ProgressSender};
use crate::pull::{Stored, permit_import, stored};
use crate::{Images, Inner, blocking};
use registry::Fetched;
use std::collections::HashSet;
use std::sync::Arc;
use types::reference::shorten;
use types::{Digest, Error, Reference, Result};

/// Indexes in indexes that are followed.
const NESTING_MAX: usize = 3;
/// Blobs of other platforms that are kept with one image.
const MORE_MAX: usize = 10_000;
/// What Docker wrote into archives for an image without a name.
const NO_NAME: &str = "<none>:<none>";

/// How an archive is taken in.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The name in place of the archive's.
    pub name: Option<Reference>,
    /// Only the image that the archive calls so.
    pub select: Option<String>,
    /// Keep manifests and blobs of other platforms, too.
    pub all_platforms: bool,
}

/// An image that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its id.
    pub id: Digest,
    /// `host/path:tag` each, the names that it got.
    pub names: Vec<String>,
    /// Digest of its index or manifest.
    pub digest: Digest,
}

impl Images {
    /// Takes in the images of an archive: an OCI image layout or what `docker save` writes, plain or compressed. All
    /// of it is read and understood before the first image is recorded.
    pub async fn import(
        &self,
        incoming: Incoming,
        options: ImportOptions,
        progress: Option<ProgressSender>,
    ) -> Result<Vec<Imported>> {
        let inner = self.0.clone();
        let lease = Arc::new(inner.lease());
        let listeners = Arc::new(Listeners::default());
        if let Some(progress) = progress {
            listeners.add(progress);
        }
        let work = (inner.clone(), lease.clone());
        let reading = blocking(move || understand(&work.0, &work.1, incoming, &options));
        let images = inner.reserve.during(reading).await?;
        let mut imported = Vec::new();
        for image in images {
            let (names, digest) = (image.names.clone(), image.documents.first().map(|d| d.digest.clone()));
            let shown = names.first().or(image.digests.first()).cloned();
            // The lease on everything lives until the end; this one is the image's own.
            let record =
                stored(inner.clone(), inner.lease(), listeners.clone(), image).await.map_err(|error| {
                    error.context(format!("cannot import {}", shown.as_deref().unwrap_or("the image")))
                })?;
            let digest = digest.unwrap_or_else(|| record.manifest.clone());
            imported.push(Imported { id: record.id.clone(), names, digest });
        }
        drop(lease);
        Ok(imported)
    }
}

/// Stores the archive's blobs, and finds the images in it. Blocks.
fn understand(
    inner: &Inner,
    lease: &Arc<Lease>,
    incoming: Incoming,
    options: &ImportOptions,
) -> Result<Vec<Stored>> {
    let content = &inner.content;
    let contents = archive::read(incoming, inner, lease)?;
    let mut held = Held::default();
    let (archived, made) = found(&contents, content, &mut held)?;
    for manifest in made {
        keep(inner, lease, &manifest)?;
    }
    let images = match archived {
        Archived::Images(images) => images,
        Archived::Platforms(index, manifests) => {
            let digest = keep(inner, lease, &index)?;
            // Whether one of them fits is told here, by the name of what the user has.
            manifest::choose(&digest, &manifests, &inner.config.platform)?;
            let descriptor = Descriptor::new(manifest::OCI_INDEX, digest, index.len() as u64);
            vec![Found { descriptor, names: Vec::new(), aliases: Vec::new() }]
        }
    };
    let chosen = choose(images, options)?;
    let alone = chosen.len() == 1;
    let mut understood = Vec::new();
    for image in chosen {
        let names = names(&image, options)?;
        // Signatures and other artifacts lie in layouts beside the images that they are about.
        let beside = |artifact: &Artifact| !alone && (names.is_empty() || artifact.has_subject);
        if names.is_empty() && inner.config.policy.is_some() {
            return Err(Error::precondition(
                "an image policy is configured, which goes by names, and the image has none: give it one with --name",
            ));
        }
        permit_import(inner, &names)?;
        match follow(inner, lease, &mut held, &image.descriptor, options.all_platforms, beside) {
            Ok(mut stored) => {
                name(&mut stored, &image, names)?;
                understood.push(stored);
            }
            Err(Refused::NoImage(error)) if !alone => {
                tracing::info!(digest = %image.descriptor.digest, why = %error.chain(), "passed over in the archive");
            }
            Err(Refused::NoImage(error) | Refused::Broken(error)) => return Err(error),
        }
    }
    if understood.is_empty() {
        return Err(Error::invalid("the archive holds no container image"));
    }
    Ok(understood)
}

/// Stores a document, and gives its digest.
fn keep(inner: &Inner, lease: &Arc<Lease>, document: &[u8]) -> Result<Digest> {
    inner.shelve_document(document, |digest| {
        tokio::runtime::Handle::current().block_on(lease.blobs([digest.clone()]));
    })
}

/// The images that are asked for.
fn choose(images: Vec<Found>, options: &ImportOptions) -> Result<Vec<Found>> {
    let Some(select) = &options.select else {
        if options.name.is_some() && images.len() > 1 {
            return Err(Error::invalid(format!(
                "the archive holds {} images ({}), and one name cannot be for all: choose one with --select, or \
                 leave the name out",
                images.len(),
                offered(&images)
            )));
        }
        return Ok(images);
    };
    let wanted = Reference::parse(select).ok();
    let is = |name: &String| name == select || wanted.is_some() && Reference::parse(name).ok() == wanted;
    let all = offered(&images);
    let found: Vec<Found> = images
        .into_iter()
        .filter(|image| {
            let mut names = image.names.iter().chain(&image.aliases);
            names.any(is) || image.descriptor.digest.as_str() == select
        })
        .collect();
    if found.is_empty() {
        return Err(Error::not_found(format!(
            "the archive has no image {:?}; it has {all}",
            shorten(select)
        )));
    }
    Ok(found)
}

fn offered(images: &[Found]) -> String {
    let names = images
        .iter()
        .map(|image| image.names.first().map_or(image.descriptor.digest.as_str(), String::as_str));
    let mut all: Vec<String> = names.take(12).map(shorten).collect();
    if images.len() > all.len() {
        all.push("…".to_owned());
    }
    all.join(", ")
}

/// The names that an image gets.
fn names(image: &Found, options: &ImportOptions) -> Result<Vec<Reference>> {
    if let Some(name) = &options.name {
        return Ok(vec![name.clone()]);
    }
    let mut names: Vec<Reference> = Vec::new();
    for name in &image.names {
        // A bare tag is of no repository: containerd makes one up (`import-DATE`), which nobody could use
        // (containerd `cmd/ctr/commands/images/import.go`).
        if name == NO_NAME || !name.contains(['/', ':', '@']) {
            continue;
        }
        let name = Reference::parse(name).map_err(|error| {
            error.context("the archive has a name that cannot be used; give one with --name")
        })?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Gives an image its names.
fn name(stored: &mut Stored, image: &Found, names: Vec<Reference>) -> Result<()> {
    for name in names {
        let digest = &image.descriptor.digest;
        match name.digest() {
            Some(wanted) if wanted != digest => {
                return Err(Error::invalid(format!(
                    "{name} names other content than the archive has, which is {digest}"
                )));
            }
            Some(_) => {}
            None => stored.names.extend(name.tagged()),
        }
        let full = format!("{}@{digest}", name.repository());
        if !stored.digests.contains(&full) {
            stored.digests.push(full);
        }
    }
    Ok(())
}

/// Why an entry of the archive becomes no image.
enum Refused {
    /// It is something else.
    NoImage(Error),
    /// It is broken, or not whole.
    Broken(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Broken(error)
    }
}

impl From<ManifestError> for Refused {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::NotAnImage { .. }
            | ManifestError::EmptyArtifact { .. }
            | ManifestError::Blob { .. } => Refused::NoImage(error.into()),
            _ => Refused::Broken(error.into()),
        }
    }
}

/// Follows a descriptor through indexes to the manifest for this machine and its configuration. Of an artifact `beside`
/// says whether it is passed over. Blocks.
fn follow(
    inner: &Inner,
    lease: &Arc<Lease>,
    held: &mut Held,
    top: &Descriptor,
    all_platforms: bool,
    beside: impl Fn(&Artifact) -> bool,
) -> Result<Stored, Refused> {
    let platform: &Platform = &inner.config.platform;
    let mut documents = Vec::new();
    let mut descriptor = top.clone();
    let (config, layers, artifact) = loop {
        held.add(descriptor.size.min(MANIFEST_MAX))?;
        let bytes = read(inner, lease, &descriptor, "manifest", MANIFEST_MAX)?;
        let announced = Some(descriptor.media_type.as_str()).filter(|kind| !kind.is_empty());
        let document = manifest::parse(&descriptor.digest, announced, &bytes)?;
        let media_type = announced.map(str::to_owned);
        documents.push(Fetched { bytes, media_type, digest: descriptor.digest.clone() });
        match document {
            Document::Image { config, layers } => break (config, layers, None),
            Document::Artifact { artifact, .. } if beside(&artifact) => {
                let what = "an artifact beside an image, which has no name or is about something else";
                return Err(Refused::NoImage(Error::invalid(what)));
            }
            Document::Artifact { config, layers, artifact } => break (config, layers, Some(artifact)),
            Document::Index(manifests) => {
                if documents.len() > NESTING_MAX {
                    return Err(ManifestError::TooDeep(NESTING_MAX).into());
                }
                descriptor = manifest::choose(&descriptor.digest, &manifests, platform)?.clone();
            }
        }
    };
    held.add(config.size.min(CONFIG_MAX))?;
    let config_bytes = read(inner, lease, &config, "configuration", CONFIG_MAX)?;
    let more_blobs = if all_platforms { others(inner, lease, &documents)? } else { Vec::new() };
    let (names, digests) = (Vec::new(), Vec::new());
    Ok(Stored { documents, config, config_bytes, layers, artifact, names, digests, more_blobs })
}

/// A small blob that the archive must have, or the content store.
fn read(inner: &Inner, lease: &Arc<Lease>, d: &Descriptor, what: &str, limit: u64) -> Result<Vec<u8>> {
    if d.size > limit {
        return Err(ManifestError::TooLarge {
            what: format!("the {what} {}", d.digest),
            size: d.size,
            limit,
        }
        .into());
    }
    tokio::runtime::Handle::current().block_on(lease.blobs([d.digest.clone()]));
    let bytes = inner.content.read(&d.digest, limit)?.ok_or_else(|| {
        Error::not_found(format!("the archive has no {what} {}, which it names; it is not whole", d.digest))
    })?;
    if bytes.len() as u64 != d.size {
        return Err(Error::invalid(format!(
            "the {what} {} has {} bytes, and the archive says {}",
            d.digest,
            bytes.len(),
            d.size
        )));
    }
    Ok(bytes)
}

/// What the indexes lead to for other platforms, as far as it is there.
fn others(inner: &Inner, lease: &Arc<Lease>, documents: &[Fetched]) -> Result<Vec<Digest>> {
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut kept = Vec::new();
    // Only what tells where a document is: what it says is read when its turn comes.
    let bare = |d: &Descriptor| Descriptor::new("", d.digest.clone(), d.size);
    let mut queue: Vec<(Descriptor, usize)> = documents
        .first()
        .map(|top| (Descriptor::new("", top.digest.clone(), top.bytes.len() as u64), 0))
        .into_iter()
        .collect();
    let there = |d: &Descriptor| inner.content.size(&d.digest) == Some(d.size);
    while let Some((document, depth)) = queue.pop() {
        let bytes = read(inner, lease, &document, "manifest", MANIFEST_MAX)?;
        // What is no image is kept as it is, without what it points to.
        let next = match manifest::parse(&document.digest, None, &bytes) {
            Ok(Document::Index(manifests)) if depth <= NESTING_MAX => manifests,
            Ok(Document::Image { config, layers } | Document::Artifact { config, layers, .. }) => {
                let blobs =
                    [config].into_iter().chain(layers).filter(|d| there(d) && seen.insert(d.digest.clone()));
                kept.extend(blobs.map(|d| d.digest));
                Vec::new()
            }
            _ => Vec::new(),
        };
        for d in next {
            if d.size <= MANIFEST_MAX && there(&d) && seen.insert(d.digest.clone()) {
                tokio::runtime::Handle::current().block_on(lease.blobs([d.digest.clone()]));
                queue.push((bare(&d), depth + 1));
                kept.push(d.digest);
            }
            if kept.len() > MORE_MAX {
                break;
            }
        }
        if kept.len() > MORE_MAX {
            return Err(Error::invalid(format!(
                "an index of the archive leads to more than {MORE_MAX} blobs"
            )));
        }
    }
    tokio::runtime::Handle::current().block_on(lease.blobs(kept.clone()));
    Ok(kept)
}
