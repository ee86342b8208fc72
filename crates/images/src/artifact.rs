//! Artifacts: what of their blobs is in a volume, and under which name. A blob of a layer's type is an archive, and is
//! unpacked as a layer of an image is; any other is one file.
//!
//! Pure: names are hostile and are judged here, before anything is fetched. A file takes the way of an archive that
//! holds nothing but it, so that every snapshotter, limit and check that there is for layers holds for it, too.

use crate::manifest::{Descriptor, ManifestError, bare, is_layer};
use content::Hasher;
use layers::{Compression, UnpackLimits, Unpacked, WhiteoutMode};
use snapshots::ChainId;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::os::fd::BorrowedFd;
use types::digest::Algorithm;
use types::reference::shorten;
use types::{Digest, Error, ErrorKind, Result};

/// What `oras push` gives to a file that it was told no type of, whatever is in it (`defaultBlobMediaType` of oras-go,
/// `content/file/file.go`).
const PLAIN_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// What stands for nothing (OCI image specification, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Where the name of a file is: of the OCI image specification ("Pre-Defined Annotation Keys"), and of ModelPack's, whose
/// second is an older spelling. CRI-O looks in this order, too (`internal/ociartifact`).
const NAMES: [&str; 3] =
    ["org.opencontainers.image.title", "org.cncf.model.filepath", "org.cnai.model.filepath"];
/// Folders that a file lies in.
const DEPTH_MAX: usize = 64;
/// Bytes of a path (PATH_MAX without its NUL) and of one name in it (NAME_MAX; `linux/limits.h`).
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;
/// The length of a header of an archive, and of what its data is filled up to.
const BLOCK: usize = 512;

/// What an artifact's manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// Its `artifactType`; where it has none, the type of its configuration.
    pub kind: String,
    /// When it was made, as its author wrote it; not checked.
    pub created: Option<String>,
    /// It is about another manifest: a signature, or a list of what is in an image.
    pub has_subject: bool,
    /// What each of its layers becomes, in their order.
    pub parts: Vec<Part>,
}

/// What a blob becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is in the archive.
    Tree,
    /// One file of this path.
    File(String),
    /// What is in the archive, if it is a tar without compression, and else one file of this path.
    TreeOrFile(String),
    /// Nothing.
    Nothing,
}

impl Artifact {
    /// Judges the layers of the artifact `digest`.
    pub(crate) fn new(
        digest: &Digest,
        kind: String,
        created: Option<String>,
        has_subject: bool,
        layers: &[Descriptor],
    ) -> Result<Artifact, ManifestError> {
        let mut names: BTreeMap<String, &Digest> = BTreeMap::new();
        let mut parts = Vec::with_capacity(layers.len());
        for layer in layers {
            let refuse =
                |why: String| ManifestError::Blob { digest: digest.clone(), blob: layer.digest.clone(), why };
            let part = part(layer).map_err(refuse)?;
            if let Part::File(name) | Part::TreeOrFile(name) = &part
                && let Some(other) = names.insert(name.clone(), &layer.digest)
                && *other != layer.digest
            {
                return Err(refuse(format!("has the name {:?}, and so has {other}", shorten(name))));
            }
            parts.push(part);
        }
        for (name, blob) in &names {
            let above = name.match_indices('/').find_map(|(at, _)| names.get(&name[..at]));
            if let Some(other) = above {
                return Err(ManifestError::Blob {
                    digest: digest.clone(),
                    blob: Digest::clone(blob),
                    why: format!(
                        "has the name {:?}, which lies below the file that {other} is",
                        shorten(name)
                    ),
                });
            }
        }
        if parts.iter().all(|part| *part == Part::Nothing) {
            return Err(ManifestError::EmptyArtifact { digest: digest.clone(), kind: shorten(&kind) });
        }
        Ok(Artifact { kind, created: created.filter(|t| t.len() <= 64), has_subject, parts })
    }

    /// The names of what its layers become, bottom first.
    ///
    /// No image can claim one of these for a layer of its own, and no artifact one of an image's: those of images are
    /// SHA-256, and a configuration that names any other is refused. Each is bound to everything that decides about the
    /// content: the blobs of it and of all below, how they are taken, and the names.
    pub(crate) fn chain_ids(&self, layers: &[Descriptor]) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::with_capacity(layers.len());
        for (part, layer) in self.parts.iter().zip(layers) {
            let (kind, name) = match part {
                Part::Tree => ("tree", ""),
                Part::File(name) => ("file", name.as_str()),
                Part::TreeOrFile(name) => ("tree or file", name.as_str()),
                Part::Nothing => ("nothing", ""),
            };
            let below = chain.last().map_or("", Digest::as_str);
            // A name has no line break, and a digest has a fixed form: no two different ones make the same text.
            let text = format!("artifact\n{below}\n{}\n{kind}\n{name}", layer.digest);
            chain.push(Hasher::of(Algorithm::Sha512, text.as_bytes()));
        }
        chain
    }

    /// Refuses blobs that would be larger than a layer, or all layers together, may be; before they are fetched.
    pub(crate) fn check_sizes(&self, layers: &[Descriptor], each: u64, all: u64) -> Result<()> {
        let is_file = |part: &Part| matches!(part, Part::File(_) | Part::TreeOrFile(_));
        let files = self.parts.iter().zip(layers).filter(|(part, _)| is_file(part));
        let mut sum = 0_u64;
        for (_, layer) in files {
            if layer.size > each {
                let what = format!(
                    "the blob {} has {} bytes, and a layer may have {each}; raise images.max_layer_bytes if it is wanted",
                    layer.digest, layer.size
                );
                return Err(Error::new(ErrorKind::ResourceExhausted, what));
            }
            sum = sum.saturating_add(layer.size);
        }
        if sum > all {
            let what = format!(
                "the artifact's files have {sum} bytes together, and all layers may have {all}; raise \
                 images.max_image_bytes if it is wanted"
            );
            return Err(Error::new(ErrorKind::ResourceExhausted, what));
        }
        Ok(())
    }
}

/// What a blob becomes, by its descriptor.
fn part(layer: &Descriptor) -> Result<Part, String> {
    let kind = bare(&layer.media_type);
    if kind == EMPTY {
        return Ok(Part::Nothing);
    }
    if kind.ends_with("+encrypted") {
        return Err("is encrypted, which only layers of images may be".to_owned());
    }
    let name = NAMES.iter().find_map(|key| layer.annotations.get(*key)).filter(|name| !name.is_empty());
    match name {
        Some(name) if kind == PLAIN_TAR => Ok(Part::TreeOrFile(path(name)?)),
        _ if is_layer(kind) => Ok(Part::Tree),
        Some(name) => Ok(Part::File(path(name)?)),
        // As Podman has it (`generateArtifactBlobName` of containers/common).
        None => Ok(Part::File(layer.digest.as_str().replace(':', "-"))),
    }
}

/// The path of a file below a volume's root: relative, in no need of cleaning, and nothing that a layer understands
/// otherwise.
fn path(name: &str) -> Result<String, String> {
    let mut path = name;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    let refuse = |why: &str| Err(format!("has the name {:?}, which {why}", shorten(name)));
    if path.starts_with('/') {
        return refuse("is no relative path");
    }
    if path.len() > PATH_MAX {
        return Err(format!("has a name of {} bytes; {PATH_MAX} are the most", path.len()));
    }
    if path.chars().any(char::is_control) {
        return refuse("has control characters");
    }
    let components = || path.split('/');
    if components().count() > DEPTH_MAX {
        return Err(format!("has the name {:?}, which is more than {DEPTH_MAX} folders deep", shorten(name)));
    }
    for component in components() {
        match component {
            "" => return refuse("has an empty component"),
            "." | ".." => return refuse("has a component that is no name"),
            _ if component.starts_with(".wh.") => return refuse("a layer would understand as a whiteout"),
            _ if component.len() > NAME_MAX => {
                return Err(format!(
                    "has the name {:?}, a component of which is longer than {NAME_MAX} bytes",
                    shorten(name)
                ));
            }
            _ => {}
        }
    }
    Ok(path.to_owned())
}

impl Part {
    /// How many of its first bytes say how a blob is unpacked.
    pub(crate) fn telling(&self) -> usize {
        match self {
            Part::Tree => 4,
            Part::TreeOrFile(_) => BLOCK,
            Part::File(_) | Part::Nothing => 0,
        }
    }

    /// Unpacks a blob of `size` bytes, which begins with `head`, below `root`. Of `head` [`Part::telling`] bytes are needed, or
    /// all that there are. Of a file at most `size` bytes are read, of an archive all.
    pub(crate) fn unpack(
        &self,
        head: &[u8],
        size: u64,
        reader: impl Read + Send,
        root: BorrowedFd<'_>,
        mode: WhiteoutMode,
        limits: &UnpackLimits,
    ) -> Result<Unpacked> {
        let plain = Compression::None;
        match self {
            Part::Tree => layers::unpack(reader, layers::detect(head), root, mode, limits),
            Part::TreeOrFile(_) if is_tar(head) => layers::unpack(reader, plain, root, mode, limits),
            Part::File(name) | Part::TreeOrFile(name) => {
                layers::unpack(archive_of(name, size, reader)?, plain, root, mode, limits)
            }
            Part::Nothing => layers::unpack(io::repeat(0).take(2 * BLOCK as u64), plain, root, mode, limits),
        }
    }
}

/// Whether a blob that begins so is a tar without compression: by the sum that stands in its first header (POSIX pax,
/// "ustar Interchange Format"). Anything else that is meant as one is told by its media type.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..BLOCK) else { return false };
    let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) };
    let sum: u32 = block.iter().enumerate().map(byte).sum();
    tar::Header::from_byte_slice(block).cksum().is_ok_and(|said| said == sum)
}

/// The archive that makes one file of a blob, with the folders that it lies in: root's, 0644 and 0755, of 1970.
pub(crate) fn archive_of(name: &str, size: u64, blob: impl Read + Send) -> Result<impl Read + Send> {
    let head = headers(name, size).map_err(|cause| {
        let what = format!("cannot write an archive's header for {:?}", shorten(name));
        Error::with_source(ErrorKind::Internal, what, cause)
    })?;
    let block = BLOCK as u64;
    // Not rounded up: a size is whatever a manifest says.
    let padding = (block - size % block) % block;
    let end = io::repeat(0).take(padding + 2 * block);
    Ok(Cursor::new(head).chain(blob.take(size)).chain(end))
}

fn headers(name: &str, size: u64) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let header = |kind, mode, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header
    };
    for (at, _) in name.match_indices('/') {
        archive.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), &name[..at], io::empty())?;
    }
    // Its data comes from elsewhere.
    archive.append_data(&mut header(tar::EntryType::Regular, 0o644, size), name, io::empty())?;
    // Not finished: the end of the archive comes behind the data.
    Ok(archive.get_ref().clone())
}

#[cfg(test)]
mod tests;
