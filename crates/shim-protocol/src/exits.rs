//! Exit records: what a container's end leaves in the pod's state folder, so that a daemon that was away
//! still learns of it. Written whole to a temporary name and renamed.

use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};

/// The largest record in bytes.
const RECORD_MAX: u64 = 4096;

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Container.
    pub container: String,
    /// Exit code; 128 + signal where a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
}

/// The record's file name in the pod's state folder.
pub fn file_name(container: &str) -> String {
    format!("exit-{container}")
}

/// Writes the record; a reader sees all of it or nothing.
pub fn write(folder: impl AsFd, exit: &Exit) -> io::Result<()> {
    let bytes = postcard::to_allocvec(exit).map_err(io::Error::other)?;
    let name = file_name(&exit.container);
    let temporary = format!(".{name}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?;
    File::from(file).write_all(&bytes)?;
    rustix::fs::renameat(&folder, temporary.as_str(), &folder, name.as_str())?;
    Ok(())
}

/// Reads the record of a container; `None` where it has not ended.
pub fn read(folder: impl AsFd, container: &str) -> io::Result<Option<Exit>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, file_name(container).as_str(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let mut bytes = Vec::new();
    File::from(file).take(RECORD_MAX).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

/// Removes the record; of what is gone: success.
pub fn remove(folder: impl AsFd, container: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, file_name(container).as_str(), rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
