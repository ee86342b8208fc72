//! Unpacks a hostile layer archive (OCI image layer) into a directory, by descriptor.
//!
//! It never opens a path from an archive other than below the given root, never follows a symbolic link
//! out of it, and never allocates by a size that an archive declares. No network, no async.

pub mod archive;
pub mod copy;
mod decode;
mod error;
mod header;
mod limits;
mod lower;
mod name;
mod pax;
mod resolve;
mod settle;
mod sparse;
mod stream;
#[cfg(test)]
mod testing;
pub mod tree;
mod unpack;
mod whiteout;
mod window;
mod xattr;

pub use error::Error;
pub use limits::{Budget, UnpackLimits};

use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// A plain tar.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

/// What compression a stream that begins with these bytes has; at least four are needed to tell.
pub fn detect(magic: &[u8]) -> Compression {
    match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// What a whiteout of the archive becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhiteoutMode {
    /// What overlayfs understands: a character device 0:0, and `trusted.overlay.opaque=y` on a directory.
    Overlay,
    /// The lower layers' content lies in the target directory: what the whiteout names is deleted there.
    Apply,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// SHA-256 of the uncompressed stream to its very end (OCI image spec, "Layer DiffID").
    pub diff_id: types::Digest,
    /// Bytes of file content that were written.
    pub bytes: u64,
    /// Inodes that were made; hard links do not count.
    pub inodes: u64,
    /// Bytes of the blocks that all of it occupies, the root included, as `du` counts them. `None` where only a
    /// walk would tell: what lower layers answer changes it, and what is replaced on the way is not counted back.
    #[serde(default)]
    pub allocated: Option<u64>,
    /// What only the layers below can answer; see [`settle`].
    pub pending: Pending,
}

/// What an archive leaves open because the answer lies in a lower layer. Paths are relative to the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Parents that the archive had no entry for; parents come before children.
    pub implied_dirs: Vec<PathBuf>,
    /// Hard links whose target is not in this layer: (new name, target in lower layers).
    pub lower_links: Vec<(PathBuf, PathBuf)>,
    /// Whiteouts. One that hides nothing is taken away again: in a directory that only one layer has, overlayfs
    /// lists a whiteout as if it were a file.
    #[serde(default)]
    pub whiteouts: Vec<PathBuf>,
}

/// Unpacks `reader` (the compressed stream) below `root` and reads it to its end.
///
/// A long stream is decoded and hashed on two threads of its own; it takes at most 8 MiB, and 32 MiB more where zstd
/// asks for a large window, which one layer at a time gets.
///
/// On an error `root` holds a part of the layer and is to be thrown away.
pub fn unpack(
    reader: impl std::io::Read + Send,
    compression: Compression,
    root: BorrowedFd<'_>,
    mode: WhiteoutMode,
    limits: &UnpackLimits,
) -> types::Result<Unpacked> {
    let archive = archive::Archive::new(reader, compression, limits)?;
    let unpacker = unpack::Unpacker::new(root, mode, limits)?;
    Ok(std::thread::scope(|scope| {
        let mut archive = archive;
        archive.spread(scope)?;
        unpacker.run(archive)
    })?)
}

/// The decoder that [`unpack`] uses, by itself: what `reader` (the compressed stream) unpacks to. No limits hold
/// but that of a decoder's memory.
pub fn decoder<'r>(
    reader: impl std::io::Read + Send + 'r,
    compression: Compression,
) -> types::Result<Box<dyn std::io::Read + 'r>> {
    let decoder: Box<dyn std::io::Read + 'r> = decode::open(reader, compression)?;
    Ok(decoder)
}

/// Reads a whole archive and makes nothing: every entry is parsed and its name judged, every limit holds. The
/// entry for fuzzing, and a way to have the DiffID of a stream.
pub fn inspect(
    reader: impl std::io::Read + Send,
    compression: Compression,
    limits: &UnpackLimits,
) -> types::Result<types::Digest> {
    let mut archive = archive::Archive::new(reader, compression, limits)?;
    while let Some(entry) = archive.next()? {
        let refuse = |why: String| archive.refuse(format!("the entry {} {why}", error::Shown(&entry.path)));
        xattr::check(&entry.xattrs).map_err(refuse)?;
        // The target of a whiteout, whatever its entry says it is, means nothing.
        if let name::Name::Thing(..) = name::classify(&entry.path).map_err(refuse)?
            && let archive::Kind::Hardlink(target) = &entry.kind
        {
            name::target(target).map_err(|why| refuse(format!("is a hard link whose target {why}")))?;
        }
    }
    Ok(archive.finish()?)
}

/// Answers what [`Unpacked::pending`] left open, once the layers below are in place: gives implied
/// directories the mode, owner, attributes and times of the topmost lower layer that has them, and copies up
/// the targets of hard links, and takes away whiteouts that hide nothing. `lower` is topmost first. Repeating it is harmless.
pub fn settle(root: BorrowedFd<'_>, lower: &[OwnedFd], pending: &Pending) -> types::Result<()> {
    Ok(settle::settle(root, lower, pending)?)
}
