//! Reads the tree: names, attributes, content. By descriptor and single names; it follows no link and changes nothing.

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The names in a directory, sorted as the format wants them.
pub fn names(dir: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let wrap = |e| Error::system("read the directory", path, e);
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(wrap)? {
        let entry = entry.map_err(wrap)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub fn stat(dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| missing("look at", path, e))
}

fn missing(action: &'static str, path: &[u8], error: Errno) -> Error {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::changed(path),
        error => Error::system(action, path, error),
    }
}

pub fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Opens what was looked at before.
pub fn open(dir: BorrowedFd<'_>, name: &[u8], seen: &Stat, path: &[u8]) -> Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if FileType::from_raw_mode(seen.st_mode) == FileType::Directory {
        flags |= OFlags::DIRECTORY;
    }
    let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| missing("open", path, e))?;
    let now = rustix::fs::fstat(&file).map_err(|e| Error::system("look at", path, e))?;
    if identity(&now) != identity(seen) || now.st_mode != seen.st_mode || now.st_size != seen.st_size {
        return Err(Error::changed(path));
    }
    Ok(file)
}

/// Where a link points to.
pub fn link(dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Vec<u8>> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|e| match e {
        Errno::INVAL => Error::changed(path),
        e => missing("read the link", path, e),
    })?;
    Ok(target.into_bytes())
}

/// The most that the kernel gives of names and of one value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX` of linux/limits.h).
const XATTR_MOST: usize = 65536;

/// Reads attributes of one tree, with a buffer that stays.
pub struct Attributes {
    buffer: Vec<u8>,
}

impl Attributes {
    pub fn new() -> Self {
        Self { buffer: vec![0; XATTR_MOST] }
    }

    /// Names and values, sorted. An empty name is the directory itself.
    pub fn of(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        // No call takes a directory and a name before Linux 6.13; a link in the last place is not followed.
        let mut place = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        place.extend(if name.is_empty() { b"." } else { name });
        let listed = match rustix::fs::llistxattr(&*place, &mut self.buffer[..]) {
            // A file system without attributes.
            Err(Errno::NOTSUP) => 0,
            other => other.map_err(|e| missing("list the attributes of", path, e))?,
        };
        let mut names: Vec<Vec<u8>> = self.buffer[..listed]
            .split(|byte| *byte == 0)
            // What btrfs says of its own files (compression, for example) is not the tree's.
            .filter(|name| !name.is_empty() && !name.starts_with(b"btrfs."))
            .map(<[u8]>::to_vec)
            .collect();
        names.sort_unstable();
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            match rustix::fs::lgetxattr(&*place, &*name, &mut self.buffer[..]) {
                Ok(length) => all.push((name, self.buffer[..length].to_vec())),
                Err(Errno::NODATA) => return Err(Error::changed(path)),
                Err(e) => return Err(missing("read an attribute of", path, e)),
            }
        }
        Ok(all)
    }
}

/// Copies `length` bytes to `to` of the image. Holes stay holes there: the image is new, and has zeros where nothing
/// was written.
pub fn copy(
    file: &OwnedFd,
    length: u64,
    image: BorrowedFd<'_>,
    to: u64,
    buffer: &mut [u8],
    path: &[u8],
) -> Result<()> {
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data.min(length),
            // Only a hole is left; or this file system cannot tell.
            Err(Errno::NXIO) => length,
            Err(Errno::INVAL) => at,
            Err(e) => return Err(Error::system("read", path, e)),
        };
        let hole = match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => hole.min(length),
            _ => length,
        };
        range(file, data..hole, image, to, buffer, path)?;
        at = hole;
    }
    Ok(())
}

fn range(
    file: &OwnedFd,
    mut part: std::ops::Range<u64>,
    image: BorrowedFd<'_>,
    to: u64,
    buffer: &mut [u8],
    path: &[u8],
) -> Result<()> {
    while !part.is_empty() {
        let wanted = (part.end - part.start).min(buffer.len() as u64) as usize;
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[..wanted], part.start))
            .map_err(|e| Error::system("read", path, e))?;
        if read == 0 {
            return Err(Error::changed(path));
        }
        put(image, &buffer[..read], to + part.start)?;
        part.start += read as u64;
    }
    Ok(())
}

/// The end of a file.
pub fn tail(file: impl AsFd, from: u64, length: u64, path: &[u8]) -> Result<Vec<u8>> {
    // Less than a block.
    let mut bytes = vec![0; length as usize];
    let mut read = 0;
    while read < bytes.len() {
        let got =
            rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut bytes[read..], from + read as u64))
                .map_err(|e| Error::system("read", path, e))?;
        if got == 0 {
            return Err(Error::changed(path));
        }
        read += got;
    }
    Ok(bytes)
}

/// Writes all of it.
pub fn put(image: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<()> {
    while !bytes.is_empty() {
        let wrote = rustix::io::retry_on_intr(|| rustix::io::pwrite(image, bytes, at))
            .map_err(|e| Error::system("write to the image of", b"", e))?;
        bytes = &bytes[wrote..];
        at += wrote as u64;
    }
    Ok(())
}
