//! The durable metadata of the node: one redb file, tables of text keys and JSON values.
//!
//! Every commit is on the disk before it returns. Values are JSON, so that a field can be added
//! without a new format; it never interprets them.
//!
//! # Format
//! Version 1. Table `format` (key `version` → decimal text) says which version wrote the file; a
//! newer one is refused. Each [`Table`] is a redb table of that name from UTF-8 key to JSON bytes.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use rustix::fs::{Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// The version of the format that this code writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// redb's page cache, in bytes; its own default is 1 GiB.
const CACHE_BYTES: usize = 8 << 20;

const FORMAT: TableDefinition<&str, &str> = TableDefinition::new("format");

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Images, by id.
    Images,
    /// Blobs of the content store, by digest.
    Blobs,
    /// Unpacked layers, by chain id.
    Layers,
    /// Pods whose traces can outlive a reboot, by id.
    Pods,
    /// Containers whose traces can outlive a reboot, by id.
    Containers,
    /// Facts of the node itself, by name.
    Node,
    /// What was recorded before it was synced, by a running number.
    Unsynced,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 7] = [
        Table::Images,
        Table::Blobs,
        Table::Layers,
        Table::Pods,
        Table::Containers,
        Table::Node,
        Table::Unsynced,
    ];

    /// Its name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Images => "images",
            Table::Blobs => "blobs",
            Table::Layers => "layers",
            Table::Pods => "pods",
            Table::Containers => "containers",
            Table::Node => "node",
            Table::Unsynced => "unsynced",
        }
    }

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// Why the metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
enum MetaError {
    #[error("cannot open the metadata file {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        cause: redb::Error,
    },
    #[error("cannot make the metadata file {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{} is in use by another process; each daemon needs a root of its own", path.display())]
    InUse { path: PathBuf },
    #[error(
        "{} has format version {found}, and this program knows versions up to {FORMAT_VERSION}: use the newer program, or another root",
        path.display()
    )]
    Newer { path: PathBuf, found: String },
    #[error("cannot {verb} table {} of {}", table.name(), path.display())]
    Access {
        verb: &'static str,
        table: Table,
        path: PathBuf,
        #[source]
        cause: redb::Error,
    },
    #[error("cannot commit to {}", path.display())]
    Commit {
        path: PathBuf,
        #[source]
        cause: redb::Error,
    },
    #[error("the value of {key:?} in table {} of {} is not what was expected", table.name(), path.display())]
    Decode {
        key: String,
        table: Table,
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the value for {key:?} in table {} cannot be written as JSON", table.name())]
    Encode {
        key: String,
        table: Table,
        #[source]
        cause: serde_json::Error,
    },
}

impl From<MetaError> for Error {
    fn from(error: MetaError) -> Self {
        let message = error.to_string();
        match error {
            MetaError::InUse { .. } | MetaError::Newer { .. } => Error::precondition(message),
            MetaError::Open { cause, .. }
            | MetaError::Access { cause, .. }
            | MetaError::Commit { cause, .. } => {
                let kind = match &cause {
                    redb::Error::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                        ErrorKind::ResourceExhausted
                    }
                    _ => ErrorKind::Internal,
                };
                Error::with_source(kind, message, cause)
            }
            MetaError::Make { cause, .. } => Error::with_source(ErrorKind::Internal, message, cause),
            MetaError::Decode { cause, .. } | MetaError::Encode { cause, .. } => {
                Error::with_source(ErrorKind::Internal, message, cause)
            }
        }
    }
}

/// The values of a table by key, and the keys whose values cannot be read, each with the reason.
pub type Scanned<T> = (Vec<(String, T)>, Vec<(String, Error)>);

/// The open metadata. Calls block on the disk: from async code they belong on a blocking thread.
pub struct Meta {
    database: Database,
    path: PathBuf,
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meta").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Meta {
    /// Opens the file, making it (mode 0600, in folders of mode 0700) where it is missing.
    pub fn open(path: &Path) -> Result<Meta> {
        if !path.exists() {
            make(path)?;
        }
        let database = open_database(path)?;
        let meta = Meta { database, path: path.to_owned() };
        meta.check_version()?;
        Ok(meta)
    }

    /// Writes one value.
    pub fn put<T: Serialize + ?Sized>(&self, table: Table, key: &str, value: &T) -> Result<()> {
        self.batch(|tx| tx.put(table, key, value))
    }

    /// Reads one value.
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>> {
        let access = |cause: redb::Error| self.access("read", table, cause);
        let tx = self.database.begin_read().map_err(|e| access(e.into()))?;
        let open = match tx.open_table(table.definition()) {
            Ok(open) => open,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(cause) => return Err(access(cause.into()).into()),
        };
        let Some(value) = open.get(key).map_err(|e| access(e.into()))? else { return Ok(None) };
        self.decode(table, key, value.value()).map(Some)
    }

    /// Deletes one value; one that is gone is fine.
    pub fn delete(&self, table: Table, key: &str) -> Result<()> {
        self.batch(|tx| tx.delete(table, key))
    }

    /// All values of a table, in the order of their keys.
    pub fn scan<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>> {
        let (all, unreadable) = self.scan_readable(table)?;
        unreadable.into_iter().next().map_or(Ok(all), |(_, error)| Err(error))
    }

    /// As [`Meta::scan`], but values that are not what was expected do not keep the others: their keys are
    /// given beside, each with what is wrong.
    pub fn scan_readable<T: DeserializeOwned>(&self, table: Table) -> Result<Scanned<T>> {
        let access = |cause: redb::Error| self.access("read", table, cause);
        let tx = self.database.begin_read().map_err(|e| access(e.into()))?;
        let open = match tx.open_table(table.definition()) {
            Ok(open) => open,
            Err(TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), Vec::new())),
            Err(cause) => return Err(access(cause.into()).into()),
        };
        let (mut all, mut unreadable) = (Vec::new(), Vec::new());
        for entry in open.iter().map_err(|e| access(e.into()))? {
            let (key, value) = entry.map_err(|e| access(e.into()))?;
            match self.decode(table, key.value(), value.value()) {
                Ok(value) => all.push((key.value().to_owned(), value)),
                Err(error) => unreadable.push((key.value().to_owned(), error)),
            }
        }
        Ok((all, unreadable))
    }

    /// Several changes in one transaction: all of them are on the disk when this returns, or none.
    pub fn batch(&self, changes: impl FnOnce(&mut Batch<'_>) -> Result<()>) -> Result<()> {
        let failed = |cause: redb::Error| MetaError::Commit { path: self.path.clone(), cause };
        // redb's default durability is Immediate: commit returns after fsync.
        let tx = self.database.begin_write().map_err(|e| failed(e.into()))?;
        let mut batch = Batch { meta: self, tx };
        changes(&mut batch)?;
        batch.tx.commit().map_err(|e| failed(e.into()))?;
        Ok(())
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn access(&self, verb: &'static str, table: Table, cause: redb::Error) -> MetaError {
        MetaError::Access { verb, table, path: self.path.clone(), cause }
    }

    fn decode<T: DeserializeOwned>(&self, table: Table, key: &str, value: &[u8]) -> Result<T> {
        serde_json::from_slice(value).map_err(|cause| {
            MetaError::Decode { key: key.to_owned(), table, path: self.path.clone(), cause }.into()
        })
    }

    fn check_version(&self) -> Result<()> {
        let failed = |cause: redb::Error| MetaError::Open { path: self.path.clone(), cause };
        let tx = self.database.begin_write().map_err(|e| failed(e.into()))?;
        let found = {
            let mut format = tx.open_table(FORMAT).map_err(|e| failed(e.into()))?;
            let found = format.get("version").map_err(|e| failed(e.into()))?.map(|v| v.value().to_owned());
            if found.is_none() {
                format
                    .insert("version", FORMAT_VERSION.to_string().as_str())
                    .map_err(|e| failed(e.into()))?;
            }
            found
        };
        match found {
            Some(text) if text.parse::<u32>().is_ok_and(|v| v <= FORMAT_VERSION) => {
                tx.abort().map_err(|e| failed(e.into()))?;
            }
            Some(text) => {
                let found = types::reference::shorten(&text);
                return Err(MetaError::Newer { path: self.path.clone(), found }.into());
            }
            None => tx.commit().map_err(|e| failed(e.into()))?,
        }
        Ok(())
    }
}

/// One transaction that is being written.
pub struct Batch<'a> {
    meta: &'a Meta,
    tx: WriteTransaction,
}

impl Batch<'_> {
    /// Writes one value.
    pub fn put<T: Serialize + ?Sized>(&mut self, table: Table, key: &str, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|cause| MetaError::Encode {
            key: key.to_owned(),
            table,
            cause,
        })?;
        let mut open = self.open(table)?;
        open.insert(key, bytes.as_slice()).map_err(|e| self.meta.access("write", table, e.into()))?;
        Ok(())
    }

    /// Deletes one value; one that is gone is fine.
    pub fn delete(&mut self, table: Table, key: &str) -> Result<()> {
        let mut open = self.open(table)?;
        open.remove(key).map_err(|e| self.meta.access("write", table, e.into()))?;
        Ok(())
    }

    /// Reads one value as this transaction sees it.
    pub fn get<T: DeserializeOwned>(&mut self, table: Table, key: &str) -> Result<Option<T>> {
        let open = self.open(table)?;
        let Some(value) = open.get(key).map_err(|e| self.meta.access("read", table, e.into()))? else {
            return Ok(None);
        };
        self.meta.decode(table, key, value.value()).map(Some)
    }

    fn open(&self, table: Table) -> Result<redb::Table<'_, &'static str, &'static [u8]>> {
        Ok(self.tx.open_table(table.definition()).map_err(|e| self.meta.access("open", table, e.into()))?)
    }
}

fn open_database(path: &Path) -> Result<Database> {
    Database::builder().set_cache_size(CACHE_BYTES).open(path).map_err(|cause| match cause {
        redb::DatabaseError::DatabaseAlreadyOpen => MetaError::InUse { path: path.to_owned() }.into(),
        cause => MetaError::Open { path: path.to_owned(), cause: cause.into() }.into(),
    })
}

/// Makes an empty database under another name and renames it, so that a kill in between never
/// leaves half of one under the real name.
fn make(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |cause: std::io::Error| MetaError::Make { path: path.to_owned(), cause };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(&new, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed(e.into()))?;
    let unusable =
        |cause: redb::DatabaseError| MetaError::Open { path: path.to_owned(), cause: cause.into() };
    let backend = redb::backends::FileBackend::new(fd.into()).map_err(unusable)?;
    let database =
        Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(unusable)?;
    drop(database);
    std::fs::rename(&new, path).map_err(failed)?;
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn temp() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("root/meta.redb");
        (dir, path)
    }

    #[test]
    fn values_survive_a_reopening_and_the_file_is_private() {
        let (_dir, path) = temp();
        let meta = Meta::open(&path).expect("open");
        assert_eq!(meta.get::<String>(Table::Images, "a").expect("empty"), None);
        assert_eq!(meta.scan::<String>(Table::Images).expect("empty").len(), 0);
        meta.put(Table::Images, "b", "2").expect("put");
        meta.put(Table::Images, "a", "1").expect("put");
        meta.put(Table::Blobs, "a", &7u32).expect("put");
        meta.delete(Table::Images, "c").expect("of what is not there");
        drop(meta);
        let meta = Meta::open(&path).expect("reopen");
        let all = meta.scan::<String>(Table::Images).expect("scan");
        assert_eq!(all, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        assert_eq!(meta.get::<u32>(Table::Blobs, "a").expect("get"), Some(7));
        let mode = |p: &Path| std::fs::metadata(p).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("parent"))), (0o600, 0o700));
    }

    #[test]
    fn a_batch_that_fails_changes_nothing() {
        let (_dir, path) = temp();
        let meta = Meta::open(&path).expect("open");
        meta.put(Table::Images, "a", "1").expect("put");
        let failed = meta.batch(|tx| {
            tx.put(Table::Images, "a", "2")?;
            tx.delete(Table::Images, "a")?;
            tx.put(Table::Blobs, "b", "x")?;
            assert_eq!(tx.get::<String>(Table::Blobs, "b")?, Some("x".to_owned()));
            Err(Error::internal("given up"))
        });
        assert!(failed.is_err());
        assert_eq!(meta.get::<String>(Table::Images, "a").expect("get"), Some("1".to_owned()));
        assert_eq!(meta.get::<String>(Table::Blobs, "b").expect("get"), None);
    }

    #[test]
    fn a_newer_format_is_refused_with_what_to_do() {
        let (_dir, path) = temp();
        drop(Meta::open(&path).expect("open"));
        let database = Database::open(&path).expect("raw");
        let tx = database.begin_write().expect("write");
        tx.open_table(FORMAT).expect("table").insert("version", "999").expect("insert");
        tx.commit().expect("commit");
        drop(database);
        let error = Meta::open(&path).expect_err("newer");
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.message().contains("999") && error.message().contains("meta.redb"), "{error}");
    }

    #[test]
    fn a_second_opening_says_that_it_is_in_use() {
        let (_dir, path) = temp();
        let _open = Meta::open(&path).expect("open");
        let error = Meta::open(&path).expect_err("second");
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_that_names_it() {
        let (_dir, path) = temp();
        std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
        for nonsense in [&b"not a database"[..], &[0u8; 8192]] {
            std::fs::write(&path, nonsense).expect("write");
            let error = Meta::open(&path).expect_err("nonsense");
            assert!(error.message().contains("meta.redb"), "{error}");
        }
    }

    #[test]
    fn a_value_of_another_shape_is_an_error_that_names_key_and_table() {
        let (_dir, path) = temp();
        let meta = Meta::open(&path).expect("open");
        meta.put(Table::Images, "a", "text").expect("put");
        let error = meta.get::<u32>(Table::Images, "a").expect_err("shape");
        assert!(error.message().contains("\"a\"") && error.message().contains("images"), "{error}");
        meta.put(Table::Images, "b", &7u32).expect("put");
        assert!(meta.scan::<u32>(Table::Images).is_err());
        let (readable, unreadable) = meta.scan_readable::<u32>(Table::Images).expect("scan");
        assert_eq!(readable, [("b".to_owned(), 7)]);
        assert_eq!((unreadable.len(), unreadable[0].0.as_str()), (1, "a"));
    }
}
