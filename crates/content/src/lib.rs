//! The content store: an OCI image layout of blobs, each named by its digest (OCI image spec, "Image
//! Layout"). A blob appears under its name only when it is whole and verified, and, but for the calls that say `unsynced`,
//! on the disk; what is not, lies in `ingest/` and is swept at the next start. All calls block.

use sha2::Digest as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use types::digest::Algorithm;
use types::{Digest, Error, ErrorKind, Result};

/// Why the content store failed.
#[derive(Debug, thiserror::Error)]
enum ContentError {
    #[error("content store: cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("content store: {digest} is larger than {limit} bytes")]
    TooLarge { digest: Digest, limit: u64 },
    #[error("content store: {digest} is damaged; pull the image again")]
    Damaged { digest: Digest },
}

impl From<ContentError> for Error {
    fn from(error: ContentError) -> Self {
        let message = error.to_string();
        match error {
            ContentError::Io { cause, .. } => {
                let kind = match cause.kind() {
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                        ErrorKind::ResourceExhausted
                    }
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    _ => ErrorKind::Internal,
                };
                Error::with_source(kind, message, cause)
            }
            ContentError::TooLarge { .. } => Error::new(ErrorKind::ResourceExhausted, message),
            ContentError::Damaged { .. } => Error::internal(message),
        }
    }
}

/// A running digest.
#[derive(Debug, Clone)]
pub enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Sha512(h) => h.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(h) => Digest::sha256(&h.finalize().into()),
            Hasher::Sha512(h) => Digest::sha512(&h.finalize().into()),
        }
    }

    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// The store's folders. `blobs/<algorithm>/<hex>` and `ingest/`.
#[derive(Debug)]
pub struct Content {
    root: PathBuf,
    /// Open for as long as the store is: an error of writing back is told once to each descriptor that was open when it
    /// came, so a new one for each sync would miss those that another program was told of (syncfs(2), ERRORS).
    dir: File,
    next: AtomicU64,
}

impl Content {
    /// Opens or makes the store, and sweeps what was being written when the last process ended.
    pub fn open(root: &Path) -> Result<Content> {
        for folder in ["blobs/sha256", "blobs/sha512", "ingest"] {
            let path = root.join(folder);
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|cause| ContentError::Io { verb: "make", path, cause })?;
        }
        let dir = File::open(root).map_err(|cause| ContentError::Io {
            verb: "open",
            path: root.to_owned(),
            cause,
        })?;
        let content = Content { root: root.to_owned(), dir, next: AtomicU64::new(0) };
        for (path, _) in content.files(&root.join("ingest"))? {
            std::fs::remove_file(&path).map_err(|cause| ContentError::Io { verb: "sweep", path, cause })?;
        }
        content.place("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        content.place(
            "index.json",
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
        )?;
        Ok(content)
    }

    /// Writes a small file of the layout unless it is there already.
    fn place(&self, name: &str, text: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        if path.exists() {
            return Ok(());
        }
        let mut ingest = self.ingest()?;
        ingest.write(text)?;
        ingest.rename(&path)
    }

    /// Where a blob is, whether or not it is there.
    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm_name()).join(digest.hex())
    }

    /// The size of a blob, if it is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::symlink_metadata(self.path(digest)).ok().filter(|m| m.is_file()).map(|m| m.len())
    }

    /// The bytes that a blob occupies on the disk, if it is there.
    pub fn occupied(&self, digest: &Digest) -> Option<u64> {
        // st_blocks counts 512 bytes whatever the file system's block is (stat(2)).
        std::fs::symlink_metadata(self.path(digest)).ok().filter(|m| m.is_file()).map(|m| m.blocks() * 512)
    }

    /// Opens a blob; `None` where it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(ContentError::Io { verb: "open", path, cause }.into()),
        }
    }

    /// A small blob as a whole, verified; `None` where it is not there.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_blob(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|cause| ContentError::Io {
            verb: "read",
            path: self.path(digest),
            cause,
        })?;
        if bytes.len() as u64 > limit {
            return Err(ContentError::TooLarge { digest: digest.clone(), limit }.into());
        }
        if Hasher::of(digest.algorithm(), &bytes) != *digest {
            return Err(ContentError::Damaged { digest: digest.clone() }.into());
        }
        Ok(Some(bytes))
    }

    /// Whether a blob is there with just this content. What cannot be read is as good as not there.
    pub fn holds(&self, digest: &Digest, bytes: &[u8]) -> bool {
        self.size(digest) == Some(bytes.len() as u64)
            && std::fs::read(self.path(digest)).is_ok_and(|stored| stored == bytes)
    }

    /// Stores a small blob whose digest the caller has verified. One that is there and damaged is replaced.
    pub fn write(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if self.holds(digest, bytes) {
            return Ok(());
        }
        let mut ingest = self.ingest()?;
        ingest.write(bytes)?;
        self.commit(ingest, digest)
    }

    /// A new file to write a blob into. It is removed on drop unless it was committed.
    pub fn ingest(&self) -> Result<Ingest> {
        let name = format!("{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.root.join("ingest").join(name);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|cause| ContentError::Io { verb: "make", path: path.clone(), cause })?;
        Ok(Ingest { file, path, committed: false })
    }

    /// Gives a blob its name: synced, renamed, and the folder synced. The caller has verified it.
    pub fn commit(&self, ingest: Ingest, digest: &Digest) -> Result<()> {
        ingest.rename(&self.path(digest))
    }

    /// As [`Content::commit`], without waiting for the disk: the blob is whole against a kill, and against a power
    /// cut only after [`Content::sync`]. Whoever records it says so in the record.
    pub fn commit_unsynced(&self, ingest: Ingest, digest: &Digest) -> Result<()> {
        ingest.rename_unsynced(&self.path(digest))
    }

    /// As [`Content::write`], without waiting for the disk.
    pub fn write_unsynced(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if self.holds(digest, bytes) {
            return Ok(());
        }
        let mut ingest = self.ingest()?;
        ingest.write(bytes)?;
        self.commit_unsynced(ingest, digest)
    }

    /// Makes everything that is in the store durable, with all else that its file system has.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.dir).map_err(|errno| {
            ContentError::Io { verb: "sync", path: self.root.clone(), cause: errno.into() }.into()
        })
    }

    /// Removes a blob; one that is gone is fine.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Err(ContentError::Io { verb: "remove", path, cause }.into())
            }
            _ => Ok(()),
        }
    }

    /// All blobs and the bytes that each occupies on the disk. A name that is no digest is left alone.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut all = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            for (path, occupied) in self.files(&self.root.join("blobs").join(algorithm))? {
                let hex = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if let Ok(digest) = Digest::parse(&format!("{algorithm}:{hex}")) {
                    all.push((digest, occupied));
                }
            }
        }
        Ok(all)
    }

    /// The regular files of a folder, with the bytes that each occupies.
    fn files(&self, folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
        let failed = |cause| ContentError::Io { verb: "list", path: folder.to_owned(), cause };
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            match entry.metadata() {
                Ok(m) if m.is_file() => all.push((entry.path(), m.blocks() * 512)),
                Ok(_) => {}
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(failed(cause).into()),
            }
        }
        Ok(all)
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub struct Ingest {
    file: File,
    path: PathBuf,
    committed: bool,
}

impl Ingest {
    /// Over a file that is open, without a name that would be removed: for tests of what a disk refuses.
    #[doc(hidden)]
    pub fn over(file: File) -> Ingest {
        Ingest { file, path: PathBuf::from("an open file"), committed: true }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|cause| ContentError::Io { verb: "write to", path: self.path.clone(), cause }.into())
    }

    fn rename_unsynced(mut self, to: &Path) -> Result<()> {
        let failed = |cause| ContentError::Io { verb: "write", path: to.to_owned(), cause };
        std::fs::rename(&self.path, to).map_err(failed)?;
        self.committed = true;
        Ok(())
    }

    fn rename(self, to: &Path) -> Result<()> {
        let failed = |cause| ContentError::Io { verb: "write", path: to.to_owned(), cause };
        self.file.sync_all().map_err(failed)?;
        self.rename_unsynced(to)?;
        if let Some(folder) = to.parent() {
            File::open(folder).and_then(|f| f.sync_all()).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: the next start sweeps what stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_blob_is_there_only_once_it_is_committed_and_private() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = Content::open(dir.path()).expect("open");
        let digest = Hasher::of(Algorithm::Sha256, b"hello");
        let mut ingest = content.ingest().expect("ingest");
        ingest.write(b"hello").expect("write");
        assert_eq!(content.size(&digest), None);
        content.commit(ingest, &digest).expect("commit");
        assert_eq!(content.read(&digest, 5).expect("read").as_deref(), Some(&b"hello"[..]));
        assert_eq!(content.read(&digest, 4).expect_err("too large").kind(), ErrorKind::ResourceExhausted);
        let blobs = content.blobs().expect("list");
        assert_eq!((blobs.len(), &blobs[0].0), (1, &digest));
        let mode = |p: &str| std::fs::metadata(dir.path().join(p)).expect(p).permissions().mode() & 0o777;
        assert_eq!((mode("blobs/sha256"), mode(&format!("blobs/sha256/{}", digest.hex()))), (0o700, 0o600));
        assert!(dir.path().join("oci-layout").is_file() && dir.path().join("index.json").is_file());
        content.remove(&digest).expect("remove");
        content.remove(&digest).expect("of what is gone");
        assert!(content.read(&digest, 5).expect("read").is_none());
    }

    #[test]
    fn what_was_being_written_is_removed_on_drop_and_swept_at_open() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = Content::open(dir.path()).expect("open");
        drop(content.ingest().expect("ingest"));
        let left = || std::fs::read_dir(dir.path().join("ingest")).expect("list").count();
        assert_eq!(left(), 0);
        std::fs::write(dir.path().join("ingest/1-1"), "half").expect("write");
        Content::open(dir.path()).expect("open again");
        assert_eq!(left(), 0);
    }

    #[test]
    fn a_sync_opens_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("content");
        let content = Content::open(&root).expect("open");
        std::fs::rename(&root, dir.path().join("elsewhere")).expect("rename");
        content.sync().expect("by the descriptor that it has");
    }

    #[test]
    fn a_damaged_blob_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = Content::open(dir.path()).expect("open");
        let digest = Hasher::of(Algorithm::Sha512, b"hello");
        content.write(&digest, b"hello").expect("write");
        std::fs::write(content.path(&digest), b"hellO").expect("damage");
        let error = content.read(&digest, 5).expect_err("damaged");
        assert!(error.message().contains(digest.as_str()), "{error}");
    }

    #[test]
    fn writing_a_blob_again_mends_a_damaged_one() {
        let dir = tempfile::tempdir().expect("temp dir");
        let content = Content::open(dir.path()).expect("open");
        let digest = Hasher::of(Algorithm::Sha256, b"hello");
        for synced in [true, false] {
            let write = |content: &Content, digest: &Digest, bytes: &[u8]| match synced {
                true => content.write(digest, bytes),
                false => content.write_unsynced(digest, bytes),
            };
            write(&content, &digest, b"hello").expect("write");
            let inode = || std::fs::metadata(content.path(&digest)).expect("there").ino();
            let before = inode();
            write(&content, &digest, b"hello").expect("write what is there");
            assert_eq!(inode(), before, "what is sound stays");
            std::fs::write(content.path(&digest), b"hellO").expect("damage");
            write(&content, &digest, b"hello").expect("write again");
            assert_eq!(content.read(&digest, 5).expect("sound").as_deref(), Some(&b"hello"[..]));
        }
    }
}
