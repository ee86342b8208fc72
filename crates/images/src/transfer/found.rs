//! Which images an archive holds, and how it calls them: by the index of an OCI layout, or by the `manifest.json` of
//! `docker save`, for which manifests are made here. Names are only read; which of them count is decided elsewhere.

use super::archive::{Contents, Stored};
use super::held::Held;
use crate::manifest::{self, CONFIG_MAX, Descriptor, Document, LAYERS_MAX};
use content::{Content, Hasher};
use layers::Compression;
use serde::Deserialize;
use std::io::Read;
use types::digest::Algorithm;
use types::reference::shorten;
use types::{Digest, Error, ErrorKind, Result};

/// Images of one archive.
const IMAGES_MAX: usize = 1000;
/// Where containerd keeps the whole name (containerd `core/images/annotations.go`).
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The tag, and with many tools the whole name (OCI image specification, "Pre-Defined Annotation Keys").
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image, or an index of images, that the archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// The names that the archive has for it: whole ones, and bare tags.
    pub names: Vec<String>,
    /// More words that mean it in the archive. umoci gives a new one and leaves the old name beside it.
    pub aliases: Vec<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) enum Archived {
    /// Each stands for itself.
    Images(Vec<Found>),
    /// None has a name: they are one image for several platforms, by this index.
    Platforms(Vec<u8>, Vec<Descriptor>),
}

/// What the archive holds; manifests that are made here are in `made`. Blocks.
pub(super) fn found(
    contents: &Contents,
    content: &Content,
    held: &mut Held,
) -> Result<(Archived, Vec<Vec<u8>>)> {
    if let Some(index) = contents.document("index.json") {
        layout(contents.document("oci-layout"))?;
        return Ok((of_index(index)?, Vec::new()));
    }
    if let Some(json) = contents.document("manifest.json") {
        let (images, made) = of_docker(json, contents, content, held)?;
        return Ok((Archived::Images(images), made));
    }
    Err(Error::invalid(
        "the archive has neither index.json nor manifest.json: it is no OCI image layout and nothing that \
         `docker save` writes (since Docker 1.10)",
    ))
}

/// The marker of a layout. Docker's archives may have an index without it.
fn layout(marker: Option<&[u8]>) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let Some(marker) = marker else { return Ok(()) };
    let layout: Layout = json("oci-layout", marker)?;
    // The specification has one version; a newer one of the same number promises to be readable.
    if layout.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    let version = shorten(&layout.image_layout_version);
    Err(Error::invalid(format!(
        "the archive is an OCI image layout of version {version:?}; only 1.0.0 can be read"
    )))
}

fn json<'a, T: Deserialize<'a>>(name: &str, text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|cause| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            format!("{name} of the archive is not what its specification describes"),
            cause,
        )
    })
}

fn of_index(index: &[u8]) -> Result<Archived> {
    let digest = Hasher::of(Algorithm::Sha256, index);
    let Document::Index(entries) = manifest::parse(&digest, None, index)? else {
        return Err(Error::invalid("index.json of the archive is an image, not an index"));
    };
    limited(entries.len())?;
    let mut images: Vec<Found> = Vec::new();
    for entry in entries {
        let full = entry.annotations.get(IMAGE_NAME).cloned();
        let alias = entry.annotations.get(REF_NAME).cloned();
        let name = full.or(alias.clone());
        let known = images.iter().position(|image| image.descriptor.digest == entry.digest);
        let at = known.unwrap_or_else(|| {
            images.push(Found { descriptor: entry, names: Vec::new(), aliases: Vec::new() });
            images.len() - 1
        });
        images[at].names.extend(name);
        images[at].aliases.extend(alias);
    }
    if images.len() > 1 && images.iter().all(|image| image.names.is_empty()) {
        let all = images.into_iter().map(|image| image.descriptor).collect();
        return Ok(Archived::Platforms(index.to_vec(), all));
    }
    Ok(Archived::Images(images))
}

fn limited(images: usize) -> Result<()> {
    match images {
        0 => Err(Error::invalid("the archive holds no image")),
        n if n > IMAGES_MAX => Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("the archive names {n} images; {IMAGES_MAX} are the most that is taken"),
        )),
        _ => Ok(()),
    }
}

/// What `docker save` says of one image (moby `image/tarexport/load.go`). Fields that are not here say nothing that
/// is needed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn of_docker(
    text: &[u8],
    contents: &Contents,
    content: &Content,
    held: &mut Held,
) -> Result<(Vec<Found>, Vec<Vec<u8>>)> {
    let saved: Vec<Saved> = json("manifest.json", text)?;
    limited(saved.len())?;
    let (mut images, mut made): (Vec<Found>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    for image in saved {
        let manifest = manifest_of(&image, contents, content)?;
        let digest = Hasher::of(Algorithm::Sha256, &manifest);
        let descriptor = Descriptor::new(manifest::DOCKER_MANIFEST, digest, manifest.len() as u64);
        let names = image.repo_tags.unwrap_or_default();
        match images.iter_mut().find(|image| image.descriptor == descriptor) {
            Some(image) => image.names.extend(names),
            None => {
                held.add(descriptor.size)?;
                images.push(Found { descriptor, names, aliases: Vec::new() });
                made.push(manifest);
            }
        }
    }
    Ok((images, made))
}

/// The manifest that the image would have in a registry, were its layers pushed as they lie in the archive.
fn manifest_of(image: &Saved, contents: &Contents, content: &Content) -> Result<Vec<u8>> {
    let file = |what: &str, name: &str| {
        contents.file(name).cloned().ok_or_else(|| {
            Error::invalid(format!(
                "the archive has no {what} {:?}, which its manifest.json names",
                shorten(name)
            ))
        })
    };
    let layers = image.layers.as_deref().unwrap_or_default();
    if layers.len() > LAYERS_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!(
                "an image of the archive has {} layers; {LAYERS_MAX} are the most that is taken",
                layers.len()
            ),
        ));
    }
    let config = file("configuration", &image.config)?;
    if config.size > CONFIG_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!(
                "an image's configuration has {} bytes; {CONFIG_MAX} are the most that is taken",
                config.size
            ),
        ));
    }
    let mut list = Vec::new();
    for name in layers {
        let layer = file("layer", name)?;
        let kind = match compression(&layer, content)? {
            Compression::None => "application/vnd.docker.image.rootfs.diff.tar",
            Compression::Gzip => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Compression::Zstd => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        };
        list.push(descriptor(kind, &layer));
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": manifest::DOCKER_MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", &config),
        "layers": list,
    });
    // Keys are in the order of their names: the same archive gives the same manifest.
    serde_json::to_vec(&manifest)
        .map_err(|cause| Error::with_source(ErrorKind::Internal, "cannot write a manifest", cause))
}

fn descriptor(media_type: &str, file: &Stored) -> serde_json::Value {
    serde_json::json!({ "mediaType": media_type, "digest": file.digest, "size": file.size })
}

fn compression(layer: &Stored, content: &Content) -> Result<Compression> {
    let mut magic = [0; 4];
    let mut file = content.open_blob(&layer.digest)?.ok_or_else(|| lost(&layer.digest))?;
    let mut known = 0;
    while known < magic.len() {
        let wrong = |cause| Error::with_source(ErrorKind::Internal, "cannot read a stored layer", cause);
        match file.read(&mut magic[known..]).map_err(wrong)? {
            0 => break,
            count => known += count,
        }
    }
    Ok(layers::detect(&magic[..known]))
}

/// A blob that was stored a moment ago and is not there.
pub(super) fn lost(digest: &Digest) -> Error {
    Error::internal(format!("{digest} vanished from the content store; import the archive again"))
}
