//! Small files by directory descriptor: bounded reads, writes that are there whole or not at all.
//! Never follows a symbolic link, never syncs: what is kept here does not survive a reboot.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opens a directory, making it and its parents where they are missing.
pub fn directory(path: &Path, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        directory(parent, mode)?;
    }
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// A regular file's content; `None` where there is none. More than `limit` bytes is `EFBIG`.
pub fn read(directory: impl AsFd, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Errno> {
    // NONBLOCK: a FIFO in the folder must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(fd) => read_all(fd, limit).map(Some),
        Err(Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The content of an open regular file, bounded.
pub fn read_all(fd: OwnedFd, limit: u64) -> Result<Vec<u8>, Errno> {
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut content = Vec::new();
    std::fs::File::from(fd)
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if content.len() as u64 > limit { Err(Errno::FBIG) } else { Ok(content) }
}

/// A name that nobody else uses now.
pub fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".tmp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a new file with all of `content`; on failure nothing is left.
pub fn create(directory: impl AsFd, name: &str, content: &[u8], mode: u32) -> Result<(), Errno> {
    let directory = directory.as_fd();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode))?;
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(&fd, rest)) {
            Ok(written) => rest = &rest[written..],
            Err(errno) => {
                let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
                return Err(errno);
            }
        }
    }
    Ok(())
}

/// Puts `content` under `name`, replacing what was there in one step.
pub fn replace(directory: impl AsFd, name: &str, content: &[u8], mode: u32) -> Result<(), Errno> {
    let directory = directory.as_fd();
    let temporary = temporary_name();
    create(directory, &temporary, content, mode)?;
    rustix::fs::renameat(directory, &temporary, directory, name).inspect_err(|_| {
        let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
    })
}

/// Removes a file; what is gone already is fine.
pub fn remove(directory: impl AsFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The names in a directory, without `.` and `..`; those that are no text are left out.
pub fn names(directory: impl AsFd) -> Result<Vec<String>, Errno> {
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            all.push(name.to_owned());
        }
    }
    Ok(all)
}

/// Whether `name` can be one component of a path and nothing else.
pub fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && !name.bytes().any(|b| b == b'/' || b == 0)
}
