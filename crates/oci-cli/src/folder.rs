//! The state folder of one container: `<root>/<id>/`, mode 0700, all work by its descriptor.
//!
//! `state.json` (the [`Record`]), `config.json` (the specification as it was at `create`), `exec.fifo` (there
//! until `start`), `lock` (held by whoever changes the container). Never follows a link.

use crate::id::ContainerName;
use crate::identity::Identity;
use crate::record::{FORMAT, Record};
use crate::user;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use types::{Error, ErrorKind, Result};

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const GATE: &str = "exec.fifo";
const LOCK: &str = "lock";
/// The largest file that is read, in bytes.
pub const FILE_MAX: u64 = 8 << 20;
/// How long another verb may hold the container: hooks and mounts take their time.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open state folder.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
    dir: OwnedFd,
    name: ContainerName,
    path: PathBuf,
    lock: Option<OwnedFd>,
}

/// An error of a system call on a path.
pub fn failed(verb: &str, path: &Path, errno: Errno) -> Error {
    let kind = match errno {
        Errno::ACCESS | Errno::PERM => ErrorKind::PermissionDenied,
        Errno::NOSPC | Errno::DQUOT => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Internal,
    };
    Error::with_source(kind, format!("cannot {verb} {}", path.display()), std::io::Error::from(errno))
}

/// The folder of all containers where the command line names none.
pub fn default_root() -> PathBuf {
    match user::runtime_folder() {
        Some(folder) => folder.join("corten-oci"),
        None => PathBuf::from("/run/corten-oci"),
    }
}

/// Opens the folder of all containers, made where `make` is set. `None` when it is missing.
pub fn open_root(path: &Path, make: bool) -> Result<Option<OwnedFd>> {
    if make {
        use std::os::unix::fs::DirBuilderExt;
        // Those who tidy up a user's runtime folder leave alone what is sticky (XDG Base Directory Specification).
        let sticky =
            if user::runtime_folder().is_some_and(|folder| path.starts_with(folder)) { 0o1000 } else { 0 };
        std::fs::DirBuilder::new().recursive(true).mode(0o700 | sticky).create(path).map_err(|e| {
            Error::with_source(
                ErrorKind::Internal,
                format!("cannot make the state folder {}", path.display()),
                e,
            )
        })?;
    }
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("open the state folder", path, errno)),
    }
}

impl Folder {
    /// Makes the folder of a new container and locks it.
    pub fn make(root: &Path, name: &ContainerName) -> Result<Self> {
        let fd =
            open_root(root, true)?.ok_or_else(|| Error::internal(format!("{} vanished", root.display())))?;
        let path = root.join(name.as_str());
        match rustix::fs::mkdirat(&fd, name.as_str(), Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!(
                        "container with given ID already exists: {:?}; take another id, or delete it first",
                        name.as_str()
                    ),
                ));
            }
            Err(errno) => return Err(failed("make", &path, errno)),
        }
        let mut folder = Self::open_in(fd, name, path)?;
        let locked = folder.lock();
        if locked.is_err() {
            // Nothing but the folder is there yet.
            let _ = folder.remove();
        }
        locked.map(|()| folder)
    }

    /// Opens the folder of a container.
    pub fn open(root: &Path, name: &ContainerName) -> Result<Self> {
        let missing = || {
            Error::not_found(format!(
                "container does not exist: there is no {:?} in {}",
                name.as_str(),
                root.display()
            ))
        };
        let fd = open_root(root, false)?.ok_or_else(missing)?;
        Self::open_in(fd, name, root.join(name.as_str())).map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(),
            _ => error,
        })
    }

    fn open_in(root: OwnedFd, name: &ContainerName, path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&root, name.as_str(), flags, Mode::empty()) {
            Ok(dir) => Ok(Self { root, dir, name: name.clone(), path, lock: None }),
            Err(Errno::NOENT) => Err(Error::not_found("it is not there")),
            Err(errno) => Err(failed("open", &path, errno)),
        }
    }

    /// Keeps other verbs from changing the container until [`Folder::unlock`] or our end.
    ///
    /// A lock of fcntl(2), for those are not inherited: the container's waiting process must not hold it.
    pub fn lock(&mut self) -> Result<()> {
        let path = self.path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| {
            match errno {
                // The folder was removed under us.
                Errno::NOENT => self.gone(),
                errno => failed("open", &path, errno),
            }
        })?;
        let start = Instant::now();
        loop {
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN | Errno::ACCESS) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!(
                            "another command works on container {:?} for more than {} s; end it or wait",
                            self.name.as_str(),
                            PATIENCE.as_secs()
                        ),
                    ));
                }
                Err(errno) => return Err(failed("lock", &path, errno)),
            }
        }
        // Whoever had the lock may have deleted the container.
        let stat = rustix::fs::fstat(&file).map_err(|errno| failed("examine", &path, errno))?;
        if stat.st_nlink == 0 {
            return Err(self.gone());
        }
        self.lock = Some(file);
        Ok(())
    }

    fn gone(&self) -> Error {
        Error::not_found(format!("container does not exist: {:?} was just deleted", self.name.as_str()))
    }

    /// Lets other verbs at the container.
    pub fn unlock(&mut self) {
        self.lock = None;
    }

    /// The container's record; `None` when its creation never came so far.
    pub fn record(&self) -> Result<Option<Record>> {
        let Some(bytes) = self.read(STATE)? else { return Ok(None) };
        let damaged = |why: String| {
            Error::internal(format!(
                "{} cannot be used: {why}; `delete --force` removes what is left of the container",
                self.path.join(STATE).display()
            ))
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            return Err(damaged("it was written by another version of this program".into()));
        }
        serde_json::from_value(value).map(Some).map_err(|e| damaged(e.to_string()))
    }

    /// What a record that is damaged or of another version still says of a process and a group, as far as it can be
    /// read.
    pub fn remains(&self) -> (Option<Identity>, Option<String>) {
        let value: serde_json::Value = self
            .read(STATE)
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let process = value.get("process").and_then(|process| serde_json::from_value(process.clone()).ok());
        let group = value.get("cgroup").and_then(serde_json::Value::as_str).filter(|path| !path.is_empty());
        (process, group.map(str::to_owned))
    }

    /// The record of a container that is whole.
    pub fn known(&self) -> Result<Record> {
        self.record()?.ok_or_else(|| {
            Error::precondition(format!(
                "container {:?} was never made to the end; `delete --force` removes it",
                self.name.as_str()
            ))
        })
    }

    /// Replaces the record.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|e| Error::internal(format!("the container's record is no JSON: {e}")))?;
        self.write(STATE, &bytes)
    }

    /// Keeps the specification.
    pub fn write_config(&self, bytes: &[u8]) -> Result<()> {
        self.write(CONFIG, bytes)
    }

    /// The specification as it was at `create`.
    pub fn config(&self) -> Result<Option<Vec<u8>>> {
        self.read(CONFIG)
    }

    /// Makes the FIFO that the first process waits on, and opens it as that process needs it.
    pub fn make_gate(&self) -> Result<OwnedFd> {
        let path = self.path.join(GATE);
        rustix::fs::mknodat(&self.dir, GATE, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|errno| failed("make", &path, errno))?;
        // Open for both, or opening would wait for a writer (fifo(7)).
        rustix::fs::openat(&self.dir, GATE, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("open", &path, errno))
    }

    /// Whether `start` was not called yet.
    pub fn has_gate(&self) -> bool {
        rustix::fs::statat(&self.dir, GATE, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The writing end of the FIFO; `None` when nobody waits on it.
    pub fn open_gate(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, GATE, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NXIO | Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("open", &self.path.join(GATE), errno)),
        }
    }

    /// Notes that the container was started.
    pub fn remove_gate(&self) -> Result<()> {
        self.unlink(GATE)
    }

    /// Removes the folder. What is gone is fine; files that others put there make it fail.
    pub fn remove(&self) -> Result<()> {
        // The record goes last but for the lock, so that a kill in between leaves what `delete` understands.
        for name in [GATE, CONFIG, &temporary(STATE), &temporary(CONFIG), STATE] {
            self.unlink(name)?;
        }
        let mut tries = 16;
        loop {
            self.unlink(LOCK)?;
            match rustix::fs::unlinkat(&self.root, self.name.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // Another verb has just made a lock of its own, which it finds to be of nothing.
                Err(Errno::NOTEMPTY | Errno::EXIST) if tries > 0 => tries -= 1,
                Err(errno) => return Err(failed("remove", &self.path, errno)),
            }
        }
    }

    fn unlink(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &self.path.join(name), errno)),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => read_bounded(fd, &path).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("open", &path, errno)),
        }
    }

    /// A reader sees the old file or the new one: written beside it, and renamed.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let new = temporary(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, &*new, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed("write", &path, errno))?;
        std::fs::File::from(fd).write_all(bytes).map_err(|e| {
            Error::with_source(ErrorKind::Internal, format!("cannot write {}", path.display()), e)
        })?;
        rustix::fs::renameat(&self.dir, &*new, &self.dir, name).map_err(|errno| failed("write", &path, errno))
    }
}

fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

/// Reads a regular file of at most [`FILE_MAX`] bytes.
pub fn read_bounded(fd: OwnedFd, path: &Path) -> Result<Vec<u8>> {
    let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("examine", path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("{} is not a regular file", path.display())));
    }
    // What the file says of itself is a hint only; one byte more shows its end in the same read.
    let hint = u64::try_from(stat.st_size).unwrap_or(0).min(FILE_MAX) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(hint).unwrap_or(0));
    std::fs::File::from(fd)
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::with_source(ErrorKind::Internal, format!("cannot read {}", path.display()), e))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Error::invalid(format!("{} is larger than {FILE_MAX} bytes", path.display())));
    }
    Ok(bytes)
}

/// Opens and reads a file that the caller named.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Error::not_found(format!("{} does not exist", path.display())),
        errno => failed("open", path, errno),
    })?;
    read_bounded(fd, path)
}
