//! Export: images as one archive. An OCI layout has every byte as it came, so that digests stay what they are; a
//! docker archive has the layers without compression, as `docker save` writes them.

use super::found::{IMAGE_NAME, REF_NAME};
use super::held::Held;
use super::outgoing::{Files, Outgoing};
use super::tree::{self, Own, Tree};
use crate::image::ImageRecord;
use crate::lease::Lease;
use crate::{Images, Inner, blocking};
use bytes::Bytes;
use layers::UnpackLimits;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use tokio::sync::mpsc::{self, Receiver};
use types::reference::shorten;
use types::{Digest, Error, ErrorKind, Reference, Result};

/// Parts that wait for whoever takes the archive.
const WAITING: usize = 4;
/// Images of one archive.
const IMAGES_MAX: usize = 1000;
/// The marker of a layout (OCI image specification, "oci-layout file").
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI image layout.
    Oci,
    /// What `docker save` writes.
    Docker,
}

/// An archive that is being written.
#[derive(Debug)]
pub struct Exported {
    /// Its bytes, where they are known beforehand.
    pub total: Option<u64>,
    /// Its parts in order. An error is the last; without one the archive is whole when there are no more.
    pub parts: Receiver<Result<Bytes>>,
}

/// An image that goes out.
struct Outbound {
    record: Arc<ImageRecord>,
    /// Names that it has in the archive.
    names: Vec<String>,
    tree: Tree,
    own: Own,
}

impl Images {
    /// Writes images as one archive. What cannot be written is refused before the first byte; what is damaged on the
    /// disk ends the archive with an error.
    pub async fn export(&self, names: &[String], format: ArchiveFormat) -> Result<Exported> {
        if names.is_empty() || names.len() > IMAGES_MAX {
            return Err(Error::invalid(format!("name at least one image, and {IMAGES_MAX} at most")));
        }
        let lease = self.0.lease();
        let mut images: Vec<(Arc<ImageRecord>, Vec<String>, Option<Reference>)> = Vec::new();
        for asked in names {
            let record = self.find(asked).ok_or_else(|| {
                Error::not_found(format!("there is no image {:?} here; pull it first", shorten(asked)))
            })?;
            if format == ArchiveFormat::Docker && record.is_artifact() {
                return Err(Error::invalid(format!(
                    "{:?} is an artifact, which no archive of Docker's form can hold; leave out `--format`, or say oci-archive",
                    shorten(asked)
                )));
            }
            lease.need([], record.blobs.clone()).await;
            let name = named(&record, asked);
            let names = match &name {
                Some(name) => vec![name.tagged().unwrap_or_else(|| name.to_string())],
                None => record.names.clone(),
            };
            images.push((record, names, name));
        }
        let (inner, lease) = (self.0.clone(), Arc::new(lease));
        let work = (inner.clone(), lease.clone());
        let images = blocking(move || {
            let mut held = Held::default();
            let load = |(record, names, name)| outbound(&work.0, record, names, name, &mut held);
            images.into_iter().map(load).collect::<Result<Vec<_>>>()
        })
        .await?;
        let total = (format == ArchiveFormat::Oci).then(|| oci_total(&images));
        let (send, parts) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            let _lease: Arc<Lease> = lease;
            let files = Files::new(Outgoing::new(send.clone()));
            let written = match format {
                ArchiveFormat::Oci => oci(&inner, files, &images),
                ArchiveFormat::Docker => docker(&inner, files, &images),
            };
            if let Err(error) = written {
                // Where nobody listens any more, nobody needs to know.
                let _ = send.blocking_send(Err(error));
            }
        });
        Ok(Exported { total, parts })
    }
}

/// The name of the image that `asked` is; none where it is an id.
pub(super) fn named(record: &ImageRecord, asked: &str) -> Option<Reference> {
    let reference = Reference::parse(asked).ok()?;
    let known = match reference.digest() {
        Some(digest) => record.digests.contains(&format!("{}@{digest}", reference.repository())),
        None => record.names.contains(&reference.tagged()?),
    };
    known.then_some(reference)
}

fn outbound(
    inner: &Inner,
    record: Arc<ImageRecord>,
    names: Vec<String>,
    name: Option<Reference>,
    held: &mut Held,
) -> Result<Outbound> {
    let content = &inner.content;
    let shown = names.first().map_or(record.id.as_str(), String::as_str);
    let own = tree::own(content, &record, held)?;
    tree::whole(content, shown, &own)?;
    let tree = tree::load(content, &tree::root(content, &record, name.as_ref()), held)?;
    Ok(Outbound { record, names, tree, own })
}

/// The files of a layout besides its blobs, and the blobs, each once.
fn oci_parts(images: &[Outbound]) -> (Vec<u8>, BTreeMap<Digest, u64>) {
    let mut blobs = BTreeMap::new();
    let mut entries = Vec::new();
    let mut seen = HashSet::new();
    // Two images of one tag are told apart by their whole names.
    let tags: Vec<_> = images.iter().flat_map(|image| &image.names).filter_map(|name| tag(name)).collect();
    for image in images {
        let documents = image.tree.documents.iter().map(|document| &document.descriptor);
        for part in documents.chain(&image.tree.blobs) {
            blobs.insert(part.digest.clone(), part.size);
        }
        // A layout need not have all that it points to (OCI image specification, "Image Layout", "Blobs").
        let Some(root) = image.tree.root() else { continue };
        let d = &root.descriptor;
        let mut entry = |annotations: serde_json::Value| {
            let mut entry = json!({ "mediaType": d.media_type, "digest": d.digest, "size": d.size });
            if annotations.as_object().is_some_and(|map| !map.is_empty()) {
                entry["annotations"] = annotations;
            }
            if seen.insert(entry.to_string()) {
                entries.push(entry);
            }
        };
        for name in &image.names {
            let mut annotations = json!({ IMAGE_NAME: name });
            if let Some(tag) = tag(name) {
                let alone = tags.iter().filter(|other| **other == tag).count() == 1;
                annotations[REF_NAME] = json!(if alone { &tag } else { name });
            }
            entry(annotations);
        }
        if image.names.is_empty() {
            entry(json!({}));
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": crate::manifest::OCI_INDEX, "manifests": entries });
    (index.to_string().into_bytes(), blobs)
}

fn tag(name: &str) -> Option<String> {
    Reference::parse(name).ok().filter(|name| name.digest().is_none())?.tag().map(str::to_owned)
}

/// Bytes of the archive: a header and padding for each file, and two blocks at the end.
fn oci_total(images: &[Outbound]) -> u64 {
    let (index, blobs) = oci_parts(images);
    let padded = |size: u64| 512 + size.div_ceil(512) * 512;
    let files = padded(LAYOUT.len() as u64) + padded(index.len() as u64);
    files + blobs.values().map(|size| padded(*size)).sum::<u64>() + 1024
}

fn oci(inner: &Inner, mut files: Files, images: &[Outbound]) -> Result<()> {
    let (index, blobs) = oci_parts(images);
    files.text("oci-layout", LAYOUT)?;
    files.text("index.json", &index)?;
    for (digest, size) in &blobs {
        let name = format!("blobs/{}/{}", digest.algorithm_name(), digest.hex());
        files.blob(&name, &inner.content, digest, *size)?;
    }
    files.finish()
}

fn docker(inner: &Inner, mut files: Files, images: &[Outbound]) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Config {
        rootfs: Rootfs,
    }
    #[derive(serde::Deserialize)]
    struct Rootfs {
        diff_ids: Option<Vec<Digest>>,
    }
    let mut manifest: Vec<serde_json::Value> = Vec::new();
    let mut written = HashSet::new();
    for image in images {
        let id = &image.record.id;
        let config: Config = serde_json::from_slice(&image.own.config_bytes).map_err(|cause| {
            Error::with_source(ErrorKind::Internal, format!("the configuration {id} cannot be read"), cause)
        })?;
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        let names: Vec<String> = diff_ids.iter().map(|diff_id| format!("{}.tar", diff_id.hex())).collect();
        for ((layer, diff_id), name) in image.own.layers.iter().zip(&diff_ids).zip(&names) {
            if written.insert(diff_id.clone()) {
                plain(inner, &mut files, name, &layer.digest, diff_id)?;
            }
        }
        let file = format!("{}.json", id.hex());
        if written.insert(id.clone()) {
            files.text(&file, &image.own.config_bytes)?;
        }
        let tags: Vec<&String> = image.names.iter().filter(|name| tag(name).is_some()).collect();
        manifest.push(json!({ "Config": file, "RepoTags": tags, "Layers": names }));
    }
    files.text("manifest.json", json!(manifest).to_string().as_bytes())?;
    files.finish()
}

/// A layer without its compression. A tar says how long a file is before the file, so it is inflated twice: once to
/// be measured and verified, once to be written.
fn plain(inner: &Inner, files: &mut Files, name: &str, digest: &Digest, diff_id: &Digest) -> Result<()> {
    let open = || -> Result<std::fs::File> {
        inner.content.open_blob(digest)?.ok_or_else(|| super::found::lost(digest))
    };
    let damaged = |what: String| {
        Error::internal(format!(
            "the layer {digest} is damaged ({what}); run `corten images check --repair` and export again"
        ))
    };
    let mut magic = Vec::new();
    open()?.take(4).read_to_end(&mut magic).map_err(|cause| damaged(cause.to_string()))?;
    let compression = layers::detect(&magic);
    let decoder = || layers::decoder(open()?, compression);
    let mut hasher = content::Hasher::new(diff_id.algorithm());
    let mut size = 0u64;
    let mut inflated = decoder()?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match inflated.read(&mut buffer).map_err(|cause| damaged(cause.to_string()))? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
                if size > UnpackLimits::default().max_bytes {
                    return Err(damaged("it never ends".to_owned()));
                }
            }
        }
    }
    let found = hasher.finish();
    if found != *diff_id {
        return Err(damaged(format!("its content is {found}, not {diff_id}")));
    }
    // A large zstd window is the only one of its kind: the second decoder would wait for the first for ever.
    drop(inflated);
    files.file(name, size, decoder()?)
}
