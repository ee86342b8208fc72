//! Reading and writing one file of one group, by descriptor from the hierarchy's root.
//!
//! Group paths come from outside, so nothing here follows a symlink, goes up, or crosses into another mount.
//! A write is one write(2): that is how the kernel reads cgroup files.

use crate::error::Error;
use crate::layout::Hierarchy;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Largest cgroup file that is read. `cgroup.procs` of 300,000 processes fits.
const MAX_FILE: usize = 4 << 20;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

impl Hierarchy {
    /// The path of a group from the root of the mount.
    pub(crate) fn place(&self, group: &str) -> String {
        let mut place = String::with_capacity(self.base.len() + group.len() + 32);
        place.push_str(&self.base);
        place.push_str(group);
        place
    }

    /// For error messages.
    pub(crate) fn shown(&self, group: &str, file: &str) -> PathBuf {
        let mut path = self.mount.join(self.place(group));
        if !file.is_empty() {
            path.push(file);
        }
        path
    }

    /// Opens a file of a group, or with an empty name the group's folder.
    pub(crate) fn open(&self, group: &str, file: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut place = self.place(group);
        if !file.is_empty() {
            if !place.is_empty() && !place.ends_with('/') {
                place.push('/');
            }
            place.push_str(file);
        }
        let place = if place.is_empty() { "." } else { place.trim_end_matches('/') };
        loop {
            match rustix::fs::openat2(&self.root, place, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// The text of a file; `None` when the group or the file is not there.
    pub(crate) fn read(&self, group: &str, file: &str) -> Result<Option<String>, Error> {
        let text = self.open(group, file, OFlags::RDONLY).and_then(|fd| read_all(&fd));
        match text {
            Ok(text) => Ok(Some(text)),
            // ENODEV: the group went away between the open and the read (cgroup_kn_lock_live, kernfs).
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::io("read", self.shown(group, file), errno)),
        }
    }

    /// One write; the errno is the caller's to judge.
    pub(crate) fn try_write(&self, group: &str, file: &str, value: &str) -> Result<(), Errno> {
        let fd = self.open(group, file, OFlags::WRONLY)?;
        write_once(&fd, value)
    }

    /// One write.
    pub(crate) fn write(&self, group: &str, file: &str, value: &str) -> Result<(), Error> {
        self.try_write(group, file, value).map_err(|errno| self.refused(group, file, value, errno))
    }

    /// The error of a write.
    pub(crate) fn refused(&self, group: &str, file: &str, value: &str, errno: Errno) -> Error {
        Error::Write {
            path: self.shown(group, file),
            value: value.chars().take(200).collect(),
            source: errno.into(),
        }
    }
}

/// Writes all of `value` in one call.
pub(crate) fn write_once(fd: impl AsFd, value: &str) -> Result<(), Errno> {
    loop {
        match rustix::io::write(&fd, value.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads a file directly in `folder`.
pub(crate) fn read_in(folder: &OwnedFd, name: &str) -> Result<String, Errno> {
    let fd = rustix::fs::openat2(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), BENEATH)?;
    read_all(&fd)
}

fn read_all(fd: &OwnedFd) -> Result<String, Errno> {
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if text.len() > MAX_FILE {
            return Err(Errno::FBIG);
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
