//! One layer: a list of entries that becomes a tar archive and a compressed blob.
//!
//! Paths are written as given (a leading slash is dropped), parents are not added: a layer that leaves
//! them out is a case that tests want.

use super::blob::sha256;
use crate::{Result, Tried};
use std::io::Write;
use std::path::Path;

/// 2020-01-01, the time of every entry unless told otherwise.
const MTIME: u64 = 1_577_836_800;

/// How a layer's archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// RFC 1952.
    #[default]
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// A layer as a list of entries, in order.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    entries: Vec<Entry>,
    compression: Compression,
    raw: Option<Vec<u8>>,
}

/// A layer's bytes.
#[derive(Debug, Clone)]
pub struct PackedLayer {
    /// What is stored and fetched.
    pub data: Vec<u8>,
    /// Digest of the archive before compression.
    pub diff_id: types::Digest,
    /// How `data` is packed.
    pub compression: Compression,
}

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    content: Vec<u8>,
    link: String,
}

impl Layer {
    /// An empty layer, packed as gzip.
    pub fn new() -> Self {
        Self::default()
    }

    /// A layer whose archive is given byte by byte, for hostile and broken ones.
    pub fn raw(archive: Vec<u8>) -> Self {
        Self { raw: Some(archive), ..Self::default() }
    }

    /// Packs it in another way.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entry(path, tar::EntryType::Regular, mode, content.into(), "")
    }

    /// A copy of a file of this machine, links followed.
    pub fn copy(self, path: &str, mode: u32, from: &Path) -> Result<Self> {
        let content = std::fs::read(from).tried(format_args!("read {}", from.display()))?;
        Ok(self.file(path, mode, content))
    }

    /// A directory.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(path, tar::EntryType::Directory, mode, Vec::new(), "")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, tar::EntryType::Symlink, 0o777, Vec::new(), target)
    }

    /// A hard link to another path of the image.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(path, tar::EntryType::Link, 0o644, Vec::new(), target)
    }

    /// Deletes a path of the layers below (OCI image specification, "Whiteouts").
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let marker = match path.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&marker, 0o644, "")
    }

    /// Hides everything that the layers below have in a directory.
    #[must_use]
    pub fn opaque(self, dir: &str) -> Self {
        self.file(&format!("{}/.wh..wh..opq", dir.trim_end_matches('/')), 0o644, "")
    }

    /// Gives the last entry an owner.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        if let Some(last) = self.entries.last_mut() {
            last.owner = (uid, gid);
        }
        self
    }

    fn entry(mut self, path: &str, kind: tar::EntryType, mode: u32, content: Vec<u8>, link: &str) -> Self {
        let path = path.trim_start_matches('/').to_owned();
        self.entries.push(Entry {
            path,
            kind,
            mode,
            owner: (0, 0),
            mtime: MTIME,
            content,
            link: link.to_owned(),
        });
        self
    }

    /// The archive before compression.
    pub fn archive(&self) -> Result<Vec<u8>> {
        if let Some(raw) = &self.raw {
            return Ok(raw.clone());
        }
        let mut builder = tar::Builder::new(Vec::new());
        for entry in &self.entries {
            entry.append(&mut builder).tried(format_args!("write the entry {:?}", entry.path))?;
        }
        builder.into_inner().tried("finish an archive")
    }

    /// Archive, digest and compression.
    pub fn pack(&self) -> Result<PackedLayer> {
        let archive = self.archive()?;
        let diff_id = sha256(&archive);
        let data = match self.compression {
            Compression::None => archive,
            Compression::Gzip => {
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(&archive).and_then(|()| packer.finish()).tried("pack as gzip")?
            }
            Compression::Zstd => zstd::encode_all(&archive[..], 1).tried("pack as zstd")?,
        };
        Ok(PackedLayer { data, diff_id, compression: self.compression })
    }
}

impl Entry {
    fn append(&self, builder: &mut tar::Builder<Vec<u8>>) -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(self.mtime);
        header.set_size(self.content.len() as u64);
        if matches!(self.kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            builder.append_link(&mut header, &self.path, &self.link)
        } else {
            builder.append_data(&mut header, &self.path, &self.content[..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_same_entries_give_the_same_bytes_in_every_packing() {
        let make = |compression| {
            let layer = Layer::new()
                .dir("/etc", 0o755)
                .file("/etc/motd", 0o644, "hello\n")
                .symlink("motd", "etc/motd");
            layer.whiteout("/etc/old").compression(compression).pack().expect("packed")
        };
        let (plain, gzip, zstd) = (make(Compression::None), make(Compression::Gzip), make(Compression::Zstd));
        assert_eq!(plain.diff_id, gzip.diff_id);
        assert_eq!(plain.diff_id, zstd.diff_id);
        let mut opened = Vec::new();
        flate2::read::GzDecoder::new(&gzip.data[..]).read_to_end(&mut opened).expect("gzip");
        assert_eq!(opened, plain.data);
        assert_eq!(zstd::decode_all(&zstd.data[..]).expect("zstd"), plain.data);
        let mut archive = tar::Archive::new(&plain.data[..]);
        let paths: Vec<_> = archive
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(paths, ["etc", "etc/motd", "motd", "etc/.wh.old"]);
    }
}
