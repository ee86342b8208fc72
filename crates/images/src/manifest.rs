//! Manifests and indexes, OCI and Docker schema 2: read, checked, and the one for this machine chosen.
//! Pure: bytes in, descriptors out. A document that could be read as two things is refused
//! (CVE-2021-41190).

use crate::artifact::Artifact;
use crate::platform::Platform;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use types::reference::shorten;
use types::{Digest, Error, ErrorKind};

/// The largest manifest or index that is read, in bytes.
pub(crate) use registry::MANIFEST_MAX;
/// The largest configuration blob that is read, in bytes.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;
/// The most layers of an image.
pub(crate) const LAYERS_MAX: usize = 256;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest {digest} is not JSON as the OCI image specification describes it")]
    Json {
        digest: Digest,
        #[source]
        cause: serde_json::Error,
    },
    #[error(
        "the manifest {digest} is of Docker's schema 1, which can no longer be verified safely: \
         push the image again with a current tool"
    )]
    Schema1 { digest: Digest },
    #[error(
        "the manifest {digest} could be read as an image and as an index (CVE-2021-41190); it is refused"
    )]
    Ambiguous { digest: Digest },
    #[error(
        "the manifest {digest} is announced as {announced:?} and says of itself that it is {own:?}; it is refused"
    )]
    TypeMismatch { digest: Digest, announced: String, own: String },
    #[error("{digest} is of type {media_type:?}, which is no container image")]
    NotAnImage { digest: Digest, media_type: String },
    #[error("the image {digest} has {count} layers; {LAYERS_MAX} are the most that is taken")]
    TooManyLayers { digest: Digest, count: usize },
    #[error("the layer {layer} of the image {digest} has the type {media_type:?}: {why}")]
    Layer { digest: Digest, layer: Digest, media_type: String, why: &'static str },
    #[error("the index {digest} has no image for {wanted}; it has {offered}")]
    NoPlatform { digest: Digest, wanted: Platform, offered: String },
    #[error("the blob {blob} of the artifact {digest} {why}; it is refused")]
    Blob { digest: Digest, blob: Digest, why: String },
    #[error("{digest} is an artifact of type {kind:?} without content, which is no container image")]
    EmptyArtifact { digest: Digest, kind: String },
    #[error("the image's configuration lists {diff_ids} layers and its manifest {layers}; it is refused")]
    LayerCount { diff_ids: usize, layers: usize },
    #[error("{what} is announced with {size} bytes; {limit} are the most that is taken")]
    TooLarge { what: String, size: u64, limit: u64 },
    #[error("the indexes of this image are nested deeper than {0} levels")]
    TooDeep(usize),
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        let message = error.to_string();
        match error {
            ManifestError::Json { cause, .. } => {
                Error::with_source(ErrorKind::InvalidArgument, message, cause)
            }
            ManifestError::NoPlatform { .. } => Error::not_found(message),
            ManifestError::TooLarge { .. } | ManifestError::TooManyLayers { .. } => {
                Error::new(ErrorKind::ResourceExhausted, message)
            }
            _ => Error::invalid(message),
        }
    }
}

/// A pointer to a blob (OCI image spec, "Content Descriptors"). Its URLs are never used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    /// In an index, of a manifest that is an artifact's.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// What is said about it; the keys of an encrypted layer are here, and the names of an artifact's files.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// One that says only what it must.
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        let (platform, artifact_type, annotations) = (None, None, BTreeMap::new());
        Descriptor { media_type: media_type.to_owned(), digest, size, platform, artifact_type, annotations }
    }
}

/// What a document turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// Manifests for several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
    /// Something else in the form of an image: files for a volume.
    Artifact { config: Descriptor, layers: Vec<Descriptor>, artifact: Artifact },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
    signatures: Option<IgnoredAny>,
    artifact_type: Option<String>,
    subject: Option<IgnoredAny>,
    annotations: Option<Annotations>,
}

/// What is read of a manifest's own annotations.
#[derive(Deserialize)]
struct Annotations {
    /// When it was made (OCI image specification, "Pre-Defined Annotation Keys").
    #[serde(rename = "org.opencontainers.image.created")]
    created: Option<String>,
}

/// Reads a document whose digest is verified. `announced` is the `Content-Type` it came with, or the type
/// in the descriptor that led to it.
pub(crate) fn parse(
    digest: &Digest,
    announced: Option<&str>,
    json: &[u8],
) -> Result<Document, ManifestError> {
    let digest = || digest.clone();
    let announced = announced.map(bare).filter(|t| !generic(t));
    if announced.is_some_and(schema1) {
        return Err(ManifestError::Schema1 { digest: digest() });
    }
    let raw: Raw =
        serde_json::from_slice(json).map_err(|cause| ManifestError::Json { digest: digest(), cause })?;
    if raw.schema_version == Some(1) || raw.fs_layers.is_some() || raw.signatures.is_some() {
        return Err(ManifestError::Schema1 { digest: digest() });
    }
    let own = raw.media_type.as_deref().map(str::trim).filter(|t| !t.is_empty());
    if let (Some(announced), Some(own)) = (announced, own)
        && announced != own
    {
        return Err(ManifestError::TypeMismatch {
            digest: digest(),
            announced: shorten(announced),
            own: shorten(own),
        });
    }
    let of_image = raw.layers.is_some() || raw.config.is_some();
    if raw.manifests.is_some() && of_image {
        return Err(ManifestError::Ambiguous { digest: digest() });
    }
    let says = own.or(announced);
    let unusable =
        || ManifestError::NotAnImage { digest: digest(), media_type: shorten(says.unwrap_or("none")) };
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if matches!(says, None | Some(OCI_INDEX | DOCKER_LIST)) => {
            Ok(Document::Index(manifests))
        }
        (None, Some(config), layers) if matches!(says, None | Some(OCI_MANIFEST | DOCKER_MANIFEST)) => {
            let layers = layers.unwrap_or_default();
            check_sizes(&digest(), &config, &layers)?;
            let kind = raw.artifact_type.filter(|kind| !kind.is_empty());
            // Docker's manifests are images'.
            if says != Some(DOCKER_MANIFEST) && is_artifact(kind.as_deref(), &config, &layers) {
                let kind = kind.unwrap_or_else(|| config.media_type.clone());
                let created = raw.annotations.and_then(|all| all.created);
                let artifact = Artifact::new(&digest(), kind, created, raw.subject.is_some(), &layers)?;
                return Ok(Document::Artifact { config, layers, artifact });
            }
            check(&digest(), &config, &layers)?;
            Ok(Document::Image { config, layers })
        }
        (Some(_), _, _) | (_, Some(_), _) | (_, _, Some(_)) if says.is_some_and(known) => {
            // An index's type over an image's fields, or the other way round.
            Err(ManifestError::Ambiguous { digest: digest() })
        }
        _ => Err(unusable()),
    }
}

/// Whether a manifest with this `artifactType` is an artifact's (OCI image specification, "Guidelines for Artifact
/// Usage"). A configuration of an image's type makes it an image as long as its layers are those of one, as containerd has
/// it: what one runtime runs is no other's harmless volume.
fn is_artifact(kind: Option<&str>, config: &Descriptor, layers: &[Descriptor]) -> bool {
    match bare(&config.media_type) {
        OCI_CONFIG | DOCKER_CONFIG => {
            kind.is_some() && layers.iter().any(|layer| !is_layer(bare(&layer.media_type)))
        }
        "" | "application/octet-stream" | "application/json" => kind.is_some(),
        _ => true,
    }
}

fn check_sizes(digest: &Digest, config: &Descriptor, layers: &[Descriptor]) -> Result<(), ManifestError> {
    if layers.len() > LAYERS_MAX {
        return Err(ManifestError::TooManyLayers { digest: digest.clone(), count: layers.len() });
    }
    if config.size > CONFIG_MAX {
        return Err(ManifestError::TooLarge {
            what: "the image's configuration".into(),
            size: config.size,
            limit: CONFIG_MAX,
        });
    }
    Ok(())
}

fn check(digest: &Digest, config: &Descriptor, layers: &[Descriptor]) -> Result<(), ManifestError> {
    match bare(&config.media_type) {
        "" | OCI_CONFIG | DOCKER_CONFIG => {}
        // What old builders wrote; the content is the same.
        "application/octet-stream" | "application/json" => {}
        other => {
            return Err(ManifestError::NotAnImage { digest: digest.clone(), media_type: shorten(other) });
        }
    }
    for layer in layers {
        if !is_layer(bare(&layer.media_type)) {
            return Err(ManifestError::Layer {
                digest: digest.clone(),
                layer: layer.digest.clone(),
                media_type: shorten(&layer.media_type),
                why: "this is no layer of a container image",
            });
        }
    }
    Ok(())
}

/// A layer that its image's author does not want in other registries (OCI image spec, "Non-Distributable Layers"). It
/// is fetched like any other, from the image's own registry, which may hold it; the URLs that may come with it are the
/// image's choice, could lead anywhere that this machine reaches, and are never asked.
pub(crate) fn is_foreign(media_type: &str) -> bool {
    matches!(
        bare(media_type),
        "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
    )
}

/// Whether this is the type of an image's layer. How one is compressed is seen from its first bytes.
pub(crate) fn is_layer(media_type: &str) -> bool {
    let media_type = media_type.strip_suffix("+encrypted").unwrap_or(media_type);
    matches!(
        media_type,
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
    ) || is_foreign(media_type)
}

/// The descriptor for this machine: the best match, of equals the first; entries without a platform last,
/// as containerd has it (containerd `core/images/image.go`). A signature or a list of parts that stands without a platform
/// beside images for others is not taken in their place.
pub(crate) fn choose<'a>(
    digest: &Digest,
    manifests: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, ManifestError> {
    let has_images = manifests.iter().any(|d| d.platform.is_some());
    let rank = |d: &Descriptor| match &d.platform {
        Some(platform) => wanted.preference(platform),
        None if has_images && d.artifact_type.is_some() => None,
        None => Some(usize::MAX),
    };
    manifests
        .iter()
        .filter(|d| {
            matches!(bare(&d.media_type), "" | OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST)
        })
        .filter_map(|d| rank(d).map(|r| (r, d)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, d)| d)
        .ok_or_else(|| {
            let mut offered: Vec<String> =
                manifests.iter().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
            offered.dedup();
            offered.truncate(12);
            let offered = if offered.is_empty() { "none".to_owned() } else { shorten(&offered.join(", ")) };
            ManifestError::NoPlatform { digest: digest.clone(), wanted: wanted.clone(), offered }
        })
}

/// A media type without its parameters.
pub(crate) fn bare(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Types that servers give to anything.
fn generic(media_type: &str) -> bool {
    matches!(
        media_type,
        "" | "application/json" | "application/octet-stream" | "text/plain" | "binary/octet-stream"
    )
}

fn schema1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

fn known(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST)
}

#[cfg(test)]
mod tests;
