//! Small JSON records, one file each, in one folder: the state that ends with the machine.
//!
//! A reader sees a whole record or none: each write goes to a temporary file that is renamed over
//! the old one. Nothing is synced, for this state does not outlive a reboot. All work goes by the
//! folder's descriptor; no link is followed; a name that could leave the folder is refused.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use types::{Error, ErrorKind, Result};

/// The largest record that is written or read, in bytes.
pub const RECORD_MAX: u64 = 8 << 20;

/// The longest name of a record, in bytes; the rest of NAME_MAX is for the temporary name.
pub const NAME_MAX: usize = 200;

/// Why a record was not written or read.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(
        "{name:?} cannot name a record: letters, digits, '.', '_' and '-' are allowed, {NAME_MAX} at most, not starting with '.'"
    )]
    Name { name: String },
    #[error("cannot {verb} {}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the record {} is damaged; remove the file if what it stands for is gone", path.display())]
    Torn {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the value for {} cannot be written as JSON", path.display())]
    Encode {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the record {} is larger than {RECORD_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        let message = error.to_string();
        match error {
            RecordError::Name { .. } => Error::invalid(message),
            RecordError::TooLarge { .. } => Error::new(ErrorKind::ResourceExhausted, message),
            RecordError::NotAFile { .. } => Error::precondition(message),
            RecordError::Torn { cause, .. } | RecordError::Encode { cause, .. } => {
                Error::with_source(ErrorKind::Internal, message, cause)
            }
            RecordError::Io { cause, .. } => {
                let kind = match cause.kind() {
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                        ErrorKind::ResourceExhausted
                    }
                    std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    _ => ErrorKind::Internal,
                };
                Error::with_source(kind, message, cause)
            }
        }
    }
}

/// An open folder of records.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, making it and its parents with mode 0700 where they are missing, and sweeps
    /// the temporary files of writers that were killed.
    pub fn open(path: &Path) -> Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        let io = |verb, cause: std::io::Error| RecordError::Io { verb, path: path.to_owned(), cause };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| io("make the folder", e))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| io("open the folder", e.into()))?;
        let folder = Folder { fd, path: path.to_owned() };
        folder.sweep()?;
        Ok(folder)
    }

    /// Writes or replaces a record, mode 0600.
    pub fn write<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<()> {
        self.check(name)?;
        let path = self.path.join(name);
        let text =
            serde_json::to_vec(value).map_err(|cause| RecordError::Encode { path: path.clone(), cause })?;
        if text.len() as u64 > RECORD_MAX {
            return Err(RecordError::TooLarge { path }.into());
        }
        let temporary = temporary_name(name);
        let written = self.write_temporary(&temporary, &text).and_then(|()| {
            rustix::fs::renameat(&self.fd, &*temporary, &self.fd, name).map_err(std::io::Error::from)
        });
        if let Err(cause) = written {
            // Best effort: what stays is swept at the next opening.
            let _ = rustix::fs::unlinkat(&self.fd, &*temporary, AtFlags::empty());
            return Err(RecordError::Io { verb: "write the record", path, cause }.into());
        }
        Ok(())
    }

    fn write_temporary(&self, name: &str, text: &[u8]) -> std::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?;
        File::from(fd).write_all(text)
    }

    /// Reads a record; `None` where there is none. A damaged one is an error that names its file.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.check(name)?;
        let path = self.path.join(name);
        let io =
            |cause: std::io::Error| RecordError::Io { verb: "read the record", path: path.clone(), cause };
        // NONBLOCK: a pipe of that name would otherwise hold the opening forever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(RecordError::NotAFile { path }.into()),
            Err(cause) => return Err(io(cause.into()).into()),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| io(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(RecordError::NotAFile { path }.into());
        }
        let mut text = Vec::new();
        File::from(fd).take(RECORD_MAX + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > RECORD_MAX {
            return Err(RecordError::TooLarge { path }.into());
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|cause| RecordError::Torn { path: path.clone(), cause }.into())
    }

    /// Removes a record; one that is gone is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.check(name)?;
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(RecordError::Io {
                verb: "remove the record",
                path: self.path.join(name),
                cause: cause.into(),
            }
            .into()),
        }
    }

    /// The names of all records, sorted. Folders, links and temporary files are not among them.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.entries()?.into_iter().filter(|n| valid_name(n)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Where the folder is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self, name: &str) -> Result<(), RecordError> {
        if valid_name(name) {
            Ok(())
        } else {
            Err(RecordError::Name { name: types::reference::shorten(name) })
        }
    }

    /// The names of all regular files.
    fn entries(&self) -> Result<Vec<String>> {
        let io = |cause: Errno| {
            Error::from(RecordError::Io {
                verb: "list the folder",
                path: self.path.clone(),
                cause: cause.into(),
            })
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(io)? {
            let entry = entry.map_err(io)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let regular = match entry.file_type() {
                FileType::RegularFile => true,
                // Some file systems do not tell the type here (readdir(3), d_type).
                FileType::Unknown => rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile),
                _ => false,
            };
            if regular {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Removes temporary files whose writer lives no more. A living writer (the shim and the daemon
    /// share folders) is about to rename its file and must keep it.
    fn sweep(&self) -> Result<()> {
        for name in self.entries()? {
            let Some(pid) = writer_of(&name) else { continue };
            if pid != std::process::id() && !Path::new(&format!("/proc/{pid}")).exists() {
                let _ = rustix::fs::unlinkat(&self.fd, &*name, AtFlags::empty());
            }
        }
        Ok(())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// `.NAME.PID.COUNT.tmp`: the leading dot keeps it out of [`Folder::names`], the process id tells
/// [`Folder::open`] whether its writer still lives.
fn temporary_name(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".{name}.{}.{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The process id in a temporary name.
fn writer_of(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplitn(3, '.');
    let _count: u64 = parts.next()?.parse().ok()?;
    let pid = parts.next()?.parse().ok()?;
    parts.next().map(|_| pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    type Value = BTreeMap<String, u32>;

    fn value(n: u32) -> Value {
        BTreeMap::from([("n".to_owned(), n)])
    }

    #[test]
    fn what_is_written_is_read_back_listed_and_private() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a/b");
        let folder = Folder::open(&path).expect("open");
        assert_eq!(folder.read::<Value>("x").expect("none yet"), None);
        folder.write("x", &value(1)).expect("write");
        folder.write("x", &value(2)).expect("replace");
        folder.write("y", &value(3)).expect("write");
        assert_eq!(folder.read::<Value>("x").expect("read"), Some(value(2)));
        assert_eq!(folder.names().expect("names"), ["x", "y"]);
        let mode = |p: &Path| std::fs::metadata(p).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("x"))), (0o700, 0o600));
        folder.remove("x").expect("remove");
        folder.remove("x").expect("of what is gone");
        assert_eq!(folder.names().expect("names"), ["y"]);
    }

    #[test]
    fn a_killed_writer_leaves_nothing_that_is_read_and_a_living_ones_file_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = Folder::open(dir.path()).expect("open");
        folder.write("x", &value(1)).expect("write");
        // No process has this id: pid_max is at most 2^22 (proc_sys_kernel(5)).
        let dead = dir.path().join(".x.4194305.0.tmp");
        let living = dir.path().join(format!(".x.{}.9999.tmp", 1));
        std::fs::write(&dead, b"{\"n\":").expect("write");
        std::fs::write(&living, b"{\"n\":").expect("write");
        assert_eq!(folder.names().expect("names"), ["x"]);
        let again = Folder::open(dir.path()).expect("open again");
        assert_eq!(again.read::<Value>("x").expect("read"), Some(value(1)));
        assert!(!dead.exists() && living.exists());
    }

    #[test]
    fn a_torn_record_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = Folder::open(dir.path()).expect("open");
        for torn in ["", "{\"n\":", "\0\0\0\0", "[1]"] {
            std::fs::write(dir.path().join("x"), torn).expect("write");
            let error = folder.read::<Value>("x").expect_err("torn");
            assert!(error.message().contains(&dir.path().join("x").display().to_string()), "{error}");
        }
    }

    #[test]
    fn links_pipes_folders_and_huge_files_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = Folder::open(dir.path()).expect("open");
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).expect("link");
        std::fs::create_dir(dir.path().join("dir")).expect("dir");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .expect("pipe");
        File::create(dir.path().join("huge")).and_then(|f| f.set_len(RECORD_MAX + 1)).expect("huge");
        for name in ["link", "dir", "pipe", "huge"] {
            assert!(folder.read::<Value>(name).is_err(), "{name}");
        }
        assert_eq!(folder.names().expect("names"), ["huge"]);
    }

    proptest! {
        #[test]
        fn a_name_that_leaves_the_folder_is_never_accepted(name in "\\PC{0,12}|[./a]{0,6}") {
            if valid_name(&name) {
                prop_assert!(!name.contains('/') && name != "." && name != "..");
                prop_assert_eq!(writer_of(&temporary_name(&name)), Some(std::process::id()));
            }
        }
    }
}
