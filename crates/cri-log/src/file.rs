//! The log file by descriptor: its directory is opened once, and below it no symbolic link is followed, so
//! that nobody who can write to the directory can point the log at another file of the node
//! (the class of CVE-2026-53489). Never creates directories, never removes anything.

use crate::error::Error;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// A log file that can be opened again by its path after it was renamed away.
#[derive(Debug)]
pub struct LogFile {
    directory: OwnedFd,
    path: PathBuf,
    file: OwnedFd,
}

impl LogFile {
    /// Opens `path` below `directory` to append, and creates it with mode 0640 where it is missing.
    ///
    /// `directory` is the caller's word, links in it included; it is opened once and never by name again.
    pub fn open(directory: &Path, path: &Path) -> Result<Self, Error> {
        let opened =
            openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|source| Error::Directory { path: directory.to_owned(), source: source.into() })?;
        Self::open_at(opened, path)
    }

    /// The same with a directory that is open already.
    pub fn open_at(directory: OwnedFd, path: &Path) -> Result<Self, Error> {
        let file = open_append(directory.as_fd(), path)?;
        Ok(Self { directory, path: path.to_owned(), file })
    }

    /// Opens the path again, for the old file was renamed away. Where that fails the old file stays in use.
    pub fn reopen(&mut self) -> Result<(), Error> {
        self.file = open_append(self.directory.as_fd(), &self.path)?;
        Ok(())
    }

    /// The same log with another open file in the place of its own, for tests of what files answer.
    #[cfg(test)]
    pub(crate) fn with_file(&self, file: OwnedFd) -> Self {
        let directory = self.directory.try_clone().expect("a descriptor");
        Self { directory, path: self.path.clone(), file }
    }

    /// The path below the log directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LogFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open_append(directory: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    // O_NONBLOCK: a FIFO at the path must not hang the supervisor; on a regular file it means nothing.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY;
    open_regular(directory, path, flags)
}

/// Opens a regular file below `directory`, through no link.
pub(crate) fn open_regular(directory: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    check(path)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o640) } else { Mode::empty() };
    // EAGAIN is openat2's answer to a rename that raced with it (openat2(2)); EINTR is the usual one.
    let mut tries = 0;
    let file = loop {
        match openat2(directory, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 100 => tries += 1,
            other => break other,
        }
    };
    let file = file.map_err(|source| match source {
        Errno::LOOP => Error::Link { path: path.to_owned() },
        // A FIFO without a reader, a socket, a directory.
        Errno::NXIO | Errno::ISDIR => Error::NotRegular { path: path.to_owned() },
        other => Error::Open { path: path.to_owned(), source: other.into() },
    })?;
    let stat = fstat(&file).map_err(|source| Error::Open { path: path.to_owned(), source: source.into() })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotRegular { path: path.to_owned() });
    }
    Ok(file)
}

fn check(path: &Path) -> Result<(), Error> {
    let refuse = |why| Err(Error::Path { path: path.to_owned(), why });
    let length = path.as_os_str().len();
    if length == 0 {
        return refuse("it is empty");
    }
    if length > 4095 {
        return Err(Error::Path { path: PathBuf::from("…"), why: "it is longer than 4095 bytes" });
    }
    if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return refuse("it is absolute or has `..`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn open(directory: &Path, path: &str) -> Result<LogFile, Error> {
        LogFile::open(directory, Path::new(path))
    }

    #[test]
    fn a_new_log_is_for_its_owner_and_group_only() {
        let dir = tempfile::tempdir().expect("a folder");
        open(dir.path(), "0.log").expect("a log");
        let mode = fs::metadata(dir.path().join("0.log")).expect("made").mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    }

    #[test]
    fn links_below_the_directory_are_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").expect("write");
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).expect("mkdir");
        symlink(&victim, logs.join("0.log")).expect("link");
        symlink(dir.path(), logs.join("web")).expect("link");
        assert!(matches!(open(&logs, "0.log"), Err(Error::Link { .. })));
        assert!(matches!(open(&logs, "web/victim"), Err(Error::Link { .. })));
        assert!(matches!(open(&logs, "../victim"), Err(Error::Path { .. })));
        assert!(matches!(open(&logs, "/etc/passwd"), Err(Error::Path { .. })));
        assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
    }

    #[test]
    fn a_directory_that_is_exchanged_for_a_link_redirects_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let (logs, other) = (dir.path().join("logs"), dir.path().join("other"));
        fs::create_dir(&logs).expect("mkdir");
        fs::create_dir(&other).expect("mkdir");
        let mut log = open(&logs, "0.log").expect("a log");
        fs::rename(&logs, dir.path().join("moved")).expect("rename");
        symlink(&other, &logs).expect("link");
        log.reopen().expect("the directory is still the same one");
        assert_eq!(fs::read_dir(&other).expect("list").count(), 0);
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_and_nothing_waits_for_it() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("folder")).expect("mkdir");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, mode, 0).expect("a fifo");
        for path in ["folder", "fifo"] {
            assert!(matches!(open(dir.path(), path), Err(Error::NotRegular { .. })), "{path}");
        }
        assert!(matches!(open(dir.path(), "missing/0.log"), Err(Error::Open { .. })));
    }
}
