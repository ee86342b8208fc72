//! What an image that is here consists of, from the index or manifest that its name means down to its layers, and
//! which of it is kept. Documents are read as they lie in the content store, verified; nothing is changed.

use super::held::Held;
use crate::image::ImageRecord;
use crate::manifest::{
    CONFIG_MAX, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, MANIFEST_MAX, OCI_INDEX, OCI_MANIFEST,
};
use content::Content;
use serde::Deserialize;
use std::collections::HashSet;
use types::{Digest, Error, ErrorKind, Reference, Result};

/// Documents and blobs below one name.
const PARTS_MAX: usize = 10_000;
/// Indexes in indexes.
const NESTING_MAX: usize = 4;

/// A manifest or an index that is here.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// An image, or an index of them, as far as it is here.
#[derive(Debug)]
pub(super) struct Tree {
    /// What the name means. Documents that lead to others come after them; this one is the last.
    pub documents: Vec<Document>,
    /// Configurations and layers that are here, each once.
    pub blobs: Vec<Descriptor>,
    /// What is not here.
    pub missing: Vec<Descriptor>,
}

impl Tree {
    /// The index or manifest that the name means.
    pub fn root(&self) -> Option<&Document> {
        self.documents.last()
    }
}

/// The parts of any document; those of an index and of an image never meet, which was checked when it came in.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// The digest that a name of the image means: what the registry, or the archive, had under it. The newest is first
/// in the record; one that is not here any more leaves the manifest for this machine.
pub(super) fn root(content: &Content, record: &ImageRecord, name: Option<&Reference>) -> Digest {
    let of_name = |full: &&String| {
        let Some((repository, _)) = full.rsplit_once('@') else { return false };
        name.is_none_or(|name| name.repository() == repository)
    };
    if let Some(digest) = name.and_then(Reference::digest) {
        return digest.clone();
    }
    let digests =
        record.digests.iter().filter(of_name).filter_map(|full| Digest::parse(full.rsplit_once('@')?.1).ok());
    digests
        .into_iter()
        .find(|digest| content.size(digest).is_some())
        .unwrap_or_else(|| record.manifest.clone())
}

/// Everything below `root`. Blocks.
pub(super) fn load(content: &Content, root: &Digest, held: &mut Held) -> Result<Tree> {
    let size = content.size(root).ok_or_else(|| gone(root))?;
    let top = Descriptor::new("", root.clone(), size);
    let mut tree = Tree { documents: Vec::new(), blobs: Vec::new(), missing: Vec::new() };
    let mut seen = HashSet::new();
    descend(content, &mut tree, &mut seen, held, top, NESTING_MAX)?;
    Ok(tree)
}

fn descend(
    content: &Content,
    tree: &mut Tree,
    seen: &mut HashSet<Digest>,
    held: &mut Held,
    mut descriptor: Descriptor,
    depth: usize,
) -> Result<()> {
    if !seen.insert(descriptor.digest.clone()) {
        return Ok(());
    }
    if seen.len() > PARTS_MAX {
        let what = format!("the image has more than {PARTS_MAX} parts; it cannot be handed on");
        return Err(Error::new(ErrorKind::ResourceExhausted, what));
    }
    let Some(bytes) = content.read(&descriptor.digest, MANIFEST_MAX)? else {
        tree.missing.push(descriptor);
        return Ok(());
    };
    held.add(bytes.len() as u64)?;
    let parts: Parts = serde_json::from_slice(&bytes).map_err(|cause| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            format!("{} is neither a manifest nor an index", descriptor.digest),
            cause,
        )
    })?;
    let docker = parts.config.as_ref().is_some_and(|c| c.media_type.contains(".docker."));
    descriptor.media_type = match parts.media_type.filter(|kind| !kind.is_empty()) {
        Some(own) => own,
        None if !descriptor.media_type.is_empty() => descriptor.media_type,
        None if parts.manifests.is_some() => OCI_INDEX.to_owned(),
        None if docker => DOCKER_MANIFEST.to_owned(),
        None => OCI_MANIFEST.to_owned(),
    };
    for child in parts.manifests.unwrap_or_default() {
        if depth > 0 && is_document(&child) {
            descend(content, tree, seen, held, child, depth - 1)?;
        } else {
            blob(content, tree, seen, child);
        }
    }
    for part in parts.config.into_iter().chain(parts.layers.unwrap_or_default()) {
        blob(content, tree, seen, part);
    }
    tree.documents.push(Document { descriptor, bytes });
    Ok(())
}

fn is_document(d: &Descriptor) -> bool {
    matches!(d.media_type.as_str(), "" | OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST)
}

fn blob(content: &Content, tree: &mut Tree, seen: &mut HashSet<Digest>, d: Descriptor) {
    if seen.insert(d.digest.clone()) {
        let here = content.size(&d.digest) == Some(d.size);
        if here { &mut tree.blobs } else { &mut tree.missing }.push(d);
    }
}

/// The configuration and the layers of one image.
#[derive(Debug)]
pub(super) struct Own {
    pub manifest: Document,
    pub config: Descriptor,
    pub config_bytes: Vec<u8>,
    pub layers: Vec<Descriptor>,
}

/// The image for this machine. Whether its layers are kept is not looked at. Blocks.
pub(super) fn own(content: &Content, record: &ImageRecord, held: &mut Held) -> Result<Own> {
    let digest = &record.manifest;
    let bytes = content.read(digest, MANIFEST_MAX)?.ok_or_else(|| gone(digest))?;
    let damaged = || {
        Error::internal(format!("the manifest {digest} cannot be read; run `corten images check --repair`"))
    };
    let parts: Parts = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    let config = parts.config.ok_or_else(damaged)?;
    let config_bytes = content.read(&config.digest, CONFIG_MAX)?.ok_or_else(|| gone(&config.digest))?;
    held.add((bytes.len() + config_bytes.len()) as u64)?;
    let docker = config.media_type.contains(".docker.");
    let media_type = parts.media_type.filter(|kind| !kind.is_empty());
    let media_type = media_type.as_deref().unwrap_or(if docker { DOCKER_MANIFEST } else { OCI_MANIFEST });
    let descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
    Ok(Own {
        manifest: Document { descriptor, bytes },
        config,
        config_bytes,
        layers: parts.layers.unwrap_or_default(),
    })
}

fn gone(digest: &Digest) -> Error {
    Error::internal(format!("{digest} is not in the content store; run `corten images check --repair`"))
}

/// Refuses to hand on an image whose layers are not kept as they came.
pub(super) fn whole(content: &Content, name: &str, own: &Own) -> Result<()> {
    let kept = |d: &&Descriptor| content.size(&d.digest) != Some(d.size);
    let Some(missing) = own.layers.iter().find(kept) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::FailedPrecondition,
        format!(
            "the layer {} of {name} is here only unpacked, which cannot be turned back into the same bytes: set \
             `discard_unpacked = false` under [images], and fetch it again with `corten images check --repair {name}`",
            missing.digest
        ),
    ))
}
