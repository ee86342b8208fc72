//! An archive of images, read once from its first byte to its last: every file in it becomes a blob of the content
//! store, by what it is, not by what it is called. Nothing of it gets a path on the disk, links are followed by name
//! alone, and everything is bounded, for an archive may come from anywhere. What the names mean is decided elsewhere.

use crate::Inner;
use crate::lease::Lease;
use crate::manifest::MANIFEST_MAX;
use content::Hasher;
use layers::UnpackLimits;
use layers::archive::{Archive, Entry, Kind};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use types::digest::Algorithm;
use types::reference::shorten;
use types::{Digest, Error, ErrorKind, Result};

/// Entries of an archive. `docker save` of many images writes four for each layer.
const ENTRIES_MAX: u64 = 20_000;
/// Bytes of a name in it; `blobs/sha512/…` has 141.
const NAME_MAX: usize = 512;
/// Bytes of all of it, decompressed. The disk is full long before; this ends a stream that never ends.
const BYTES_MAX: u64 = 1 << 40;
/// Links that are followed from one name; `docker save` makes one.
const LINKS_MAX: usize = 8;

/// The files that say what there is. They are held in memory, and each may be there once.
const DOCUMENTS: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];

/// What comes in: the bytes of an archive in order, or why there are no more.
pub type Incoming = Receiver<Result<bytes::Bytes>>;

/// A file of the archive that is in the content store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub digest: Digest,
    pub size: u64,
}

/// What an archive holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    documents: HashMap<String, Vec<u8>>,
    files: HashMap<String, Stored>,
    links: HashMap<String, String>,
}

impl Contents {
    /// One of [`DOCUMENTS`].
    pub fn document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name).map(Vec::as_slice)
    }

    /// The file of that name, links followed.
    pub fn file(&self, name: &str) -> Option<&Stored> {
        let mut name = clean(name)?;
        for _ in 0..=LINKS_MAX {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return self.files.get(&name),
            }
        }
        None
    }
}

/// Reads all of `incoming` into the content store; `lease` keeps what is stored. Blocks, on a thread of a runtime.
pub(super) fn read(incoming: Incoming, inner: &Inner, lease: &Arc<Lease>) -> Result<Contents> {
    let mut reader = Parts { incoming, part: bytes::Bytes::new(), failed: None };
    let result = walk(&mut reader, inner, lease);
    match reader.failed {
        // Whatever the archive's reader made of it, this is what happened.
        Some(error) => Err(error),
        None => result.map_err(|error| error.context("cannot read the archive")),
    }
}

fn walk(reader: &mut Parts, inner: &Inner, lease: &Arc<Lease>) -> Result<Contents> {
    let compression = layers::detect(&reader.magic());
    let limits = UnpackLimits {
        max_bytes: BYTES_MAX,
        max_entries: ENTRIES_MAX,
        max_path: NAME_MAX,
        ..UnpackLimits::default()
    };
    let mut archive = Archive::open(reader, compression, &limits)?;
    let mut contents = Contents::default();
    while let Some(entry) = archive.next_entry()? {
        // The archive's own root, as `tar -C FOLDER .` writes it.
        if entry.kind == Kind::Directory && matches!(entry.path.as_slice(), b"." | b"./") {
            continue;
        }
        let refuse = |why: &str| {
            let name = shorten(&entry.path.escape_ascii().to_string());
            Err(Error::invalid(format!("the entry \"{name}\" {why}")))
        };
        let Some(name) = std::str::from_utf8(&entry.path).ok().and_then(clean) else {
            return refuse("has a name that leads out of the archive or is no text");
        };
        match &entry.kind {
            Kind::Directory => continue,
            Kind::Symlink(target) | Kind::Hardlink(target) => {
                let hard = matches!(entry.kind, Kind::Hardlink(_));
                let Some(target) = std::str::from_utf8(target).ok().and_then(|t| follow(&name, t, hard))
                else {
                    return refuse("is a link that leads out of the archive");
                };
                if DOCUMENTS.contains(&name.as_str()) {
                    return refuse("is a link; it has to be a file");
                }
                if contents.files.contains_key(&name)
                    || contents.links.insert(name, target.clone()).is_some_and(|before| before != target)
                {
                    return refuse("is there twice, with different content");
                }
            }
            Kind::File if DOCUMENTS.contains(&name.as_str()) => {
                if contents.documents.contains_key(&name) {
                    return refuse("is there twice");
                }
                if entry.size > MANIFEST_MAX {
                    return refuse(&format!(
                        "has {} bytes; {MANIFEST_MAX} are the most that is taken",
                        entry.size
                    ));
                }
                let mut text = Vec::new();
                loop {
                    let data = archive.data()?;
                    if data.is_empty() {
                        break;
                    }
                    text.extend_from_slice(data);
                }
                contents.documents.insert(name, text);
            }
            // Version 1 of docker's layers, which nobody reads any more.
            Kind::File if legacy(&name) => {}
            Kind::File => {
                let stored = store(&mut archive, &entry, &name, inner, lease)?;
                let other = contents.files.insert(name.clone(), stored.clone());
                if other.is_some_and(|other| other != stored) || contents.links.contains_key(&name) {
                    return refuse("is there twice, with different content");
                }
            }
            Kind::Fifo | Kind::Char(..) | Kind::Block(..) => return refuse("is no file"),
        }
    }
    // What follows the end of the archive counts as little as in any tar, but a compressed stream is checked to its end.
    archive.digest()?;
    Ok(contents)
}

/// Puts one file into the content store. One whose name says what it is has to be that.
fn store(
    archive: &mut Archive<'_>,
    entry: &Entry,
    name: &str,
    inner: &Inner,
    lease: &Arc<Lease>,
) -> Result<Stored> {
    let said = said(name);
    let mut hasher = Hasher::new(said.as_ref().map_or(Algorithm::Sha256, Digest::algorithm));
    let mut ingest = inner.content.ingest()?;
    loop {
        let data = archive.data()?;
        if data.is_empty() {
            break;
        }
        hasher.update(data);
        ingest.write(data)?;
    }
    let digest = hasher.finish();
    if let Some(said) = said.filter(|said| *said != digest) {
        return Err(Error::invalid(format!("the blob {said} is damaged: its content is {digest}")));
    }
    // Before it is there, or a collection might take it.
    Handle::current().block_on(lease.blobs([digest.clone()]));
    inner.shelve(ingest, &digest)?;
    Ok(Stored { digest, size: entry.size })
}

/// The digest that a blob of a layout is named by (OCI image specification, "Image Layout", "Blobs").
fn said(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

fn legacy(name: &str) -> bool {
    name == "repositories" || name.ends_with("/VERSION") || name.ends_with("/json")
}

/// A name without `.` and double slashes; `None` where it is empty, absolute or leaves the archive.
fn clean(name: &str) -> Option<String> {
    join(Vec::new(), name)
}

/// Where a link leads: a symbolic one from the folder that it is in, a hard one from the archive's root.
fn follow(name: &str, target: &str, hard: bool) -> Option<String> {
    let mut folder: Vec<&str> = if hard { Vec::new() } else { name.split('/').collect() };
    folder.pop();
    join(folder, target)
}

fn join<'a>(mut parts: Vec<&'a str>, path: &'a str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The incoming bytes as a reader.
struct Parts {
    incoming: Incoming,
    part: bytes::Bytes,
    failed: Option<Error>,
}

impl Parts {
    /// The first bytes, without consuming them; fewer than four only where there are no more.
    fn magic(&mut self) -> Vec<u8> {
        while self.part.len() < 4 {
            match self.fetch() {
                Ok(more) if !more.is_empty() => {
                    self.part = [std::mem::take(&mut self.part), more].concat().into()
                }
                _ => break,
            }
        }
        self.part.iter().take(4).copied().collect()
    }

    /// The next bytes; none at the end.
    fn fetch(&mut self) -> io::Result<bytes::Bytes> {
        if self.failed.is_some() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        loop {
            match self.incoming.blocking_recv() {
                Some(Ok(part)) if part.is_empty() => {}
                Some(Ok(part)) => return Ok(part),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                None => return Ok(bytes::Bytes::new()),
            }
        }
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.part.is_empty() {
            self.part = self.fetch()?;
        }
        let count = self.part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.part.split_to(count));
        Ok(count)
    }
}

/// The error of an upload whose sender is there and sends nothing.
pub fn stalled(patience: std::time::Duration) -> Error {
    let text = format!(
        "nothing of the archive came for {} s, so it is given up; send it again, or raise registry.progress_timeout",
        patience.as_secs()
    );
    Error::new(ErrorKind::DeadlineExceeded, text)
}

/// The error of an upload whose sender went away.
pub fn broken_off(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::with_source(ErrorKind::Cancelled, "the archive did not arrive whole", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_links_stay_in_the_archive() {
        assert_eq!(clean("./blobs//sha256/a").as_deref(), Some("blobs/sha256/a"));
        assert_eq!(clean("a/../b").as_deref(), Some("b"));
        for bad in ["", ".", "/", "/index.json", "..", "a/../..", "../index.json"] {
            assert_eq!(clean(bad), None, "{bad}");
        }
        assert_eq!(follow("b/layer.tar", "../a/layer.tar", false).as_deref(), Some("a/layer.tar"));
        assert_eq!(follow("b/layer.tar", "a/layer.tar", true).as_deref(), Some("a/layer.tar"));
        assert_eq!(follow("b/layer.tar", "../../etc/passwd", false), None);
        assert_eq!(follow("layer.tar", "/etc/passwd", false), None);
    }

    #[test]
    fn a_chain_of_links_is_followed_and_a_ring_is_nothing() {
        let file = Stored { digest: Digest::sha256(&[1; 32]), size: 1 };
        let mut contents = Contents::default();
        contents.files.insert("a".into(), file.clone());
        let link = |contents: &mut Contents, from: &str, to: &str| {
            contents.links.insert(from.into(), to.into());
        };
        link(&mut contents, "b", "a");
        link(&mut contents, "c", "b");
        assert_eq!(contents.file("./c"), Some(&file));
        link(&mut contents, "d", "e");
        link(&mut contents, "e", "d");
        assert_eq!(contents.file("d"), None);
    }

    #[test]
    fn a_blob_is_known_by_its_name() {
        let hex = "ab".repeat(32);
        assert_eq!(said(&format!("blobs/sha256/{hex}")).map(|d| d.hex().to_owned()), Some(hex));
        for other in ["blobs/sha256/xyz", "blobs/md5/ab", "abc.tar", "blobs/sha256/a/b"] {
            assert_eq!(said(other), None);
        }
    }
}
