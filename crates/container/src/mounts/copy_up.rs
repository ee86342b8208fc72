//! `tmpcopyup`: what the image has at the target is copied into a new tmpfs before it covers it. Works by descriptor
//! on both sides and follows no link; what it copies is bounded, as is the tmpfs that takes it.

use crate::failure::{Failure, Step, describe};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

/// Most files and directories that are copied.
const ENTRIES_MOST: u32 = 1 << 18;
/// Deepest directory; each level holds two descriptors.
const DEPTH_MOST: u32 = 128;
/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of `linux/limits.h`.
const XATTR_MOST: usize = 1 << 16;

/// Copies the directory `from` into `to`, an empty file system that nobody else sees. `keep_owner` leaves the owner
/// of `to` itself as its options made it.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, target: &str, keep_owner: bool) -> Step {
    let mut job = Job { entries: 0, links: HashMap::new(), top: to, target };
    let source = open_directory(from, c".").map_err(|e| job.failed(target, e))?;
    let sink = open_directory(to, c".").map_err(|e| job.failed(target, e))?;
    let stat = rustix::fs::fstat(&source).map_err(|e| job.failed(target, e))?;
    job.directory(&source, &sink, "", 0)?;
    if !keep_owner {
        own(&sink, &stat).map_err(|e| job.failed(target, e))?;
    }
    attributes(source.as_fd(), sink.as_fd()).map_err(|e| job.failed(target, e))
}

struct Job<'a> {
    entries: u32,
    /// Where the first name of a file with several was copied to, by device and inode number.
    links: HashMap<(u64, u64), CString>,
    top: BorrowedFd<'a>,
    target: &'a str,
}

impl Job<'_> {
    fn failed(&self, path: &str, errno: Errno) -> Failure {
        let target = self.target;
        Failure::system(format!("mount {target:?}: tmpcopyup cannot copy {path:?}: {}", describe(errno)))
    }

    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &str, depth: u32) -> Step {
        if depth > DEPTH_MOST {
            return Err(Failure::request(format!(
                "mount {:?}: tmpcopyup copies {DEPTH_MOST} levels of directories at most",
                self.target
            )));
        }
        let list = Dir::read_from(from).map_err(|e| self.failed(path, e))?;
        for entry in list {
            let entry = entry.map_err(|e| self.failed(path, e))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MOST {
                return Err(Failure::request(format!(
                    "mount {:?}: tmpcopyup copies {ENTRIES_MOST} files at most",
                    self.target
                )));
            }
            // For messages and for hard links, which are looked up in the copy by this path.
            let mut below = path.as_bytes().to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.to_bytes());
            let shown = String::from_utf8_lossy(&below).into_owned();
            let Ok(below) = CString::new(below) else { continue };
            self.entry(from, to, name, &below, &shown, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        path: &CStr,
        shown: &str,
        depth: u32,
    ) -> Step {
        let fail = |job: &Self| {
            let failure = job.failed(shown, Errno::IO);
            move |errno: Errno| Failure {
                message: failure.message.replace(&describe(Errno::IO), &describe(errno)),
                ..failure.clone()
            }
        };
        let fail = fail(self);
        let stat = match rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Somebody who shares the image removed it meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(&fail)?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return rustix::fs::linkat(self.top, first, to, name, AtFlags::empty()).map_err(&fail);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match kind {
            FileType::Directory => {
                let source = open_directory(from.as_fd(), name).map_err(&fail)?;
                rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(&fail)?;
                let sink = open_directory(to.as_fd(), name).map_err(&fail)?;
                let path = path.to_str().unwrap_or(shown).to_owned();
                self.directory(&source, &sink, &path, depth + 1)?;
                finish(&source, &sink, &stat, mode).map_err(fail)
            }
            FileType::RegularFile => regular(from, to, name, &stat, mode).map_err(fail),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(from, name, Vec::new()).map_err(&fail)?;
                rustix::fs::symlinkat(&text, to, name).map_err(&fail)?;
                own_at(to, name, &stat).map_err(fail)
            }
            _ => {
                rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev).map_err(&fail)?;
                own_at(to, name, &stat).map_err(&fail)?;
                // The owner's change clears set-id bits, and the file mode creation mask cut the mode.
                rustix::fs::chmodat(to, name, mode, AtFlags::empty()).map_err(fail)
            }
        }
    }
}

fn open_directory(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn regular(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat, mode: Mode) -> Result<(), Errno> {
    // Whatever was put in its place meanwhile must neither hold us up nor be followed.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
    let now = rustix::fs::fstat(&source)?;
    if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Errno::STALE);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let sink = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    while rustix::fs::sendfile(&sink, &source, None, 1 << 30)? > 0 {}
    finish(&source, &sink, stat, mode)
}

/// Owner before mode: changing the owner clears set-id bits (chown(2)). Extended attributes come after both, for
/// the same reason.
fn finish(source: &OwnedFd, sink: &OwnedFd, stat: &Stat, mode: Mode) -> Result<(), Errno> {
    own(sink, stat)?;
    rustix::fs::fchmod(sink, mode)?;
    attributes(source.as_fd(), sink.as_fd())?;
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    };
    rustix::fs::futimens(sink, &times)
}

/// An owner that a user namespace has no number for cannot be given; the file stays its root's.
fn unless_unmapped(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::INVAL | Errno::OVERFLOW) => Ok(()),
        other => other,
    }
}

fn own(sink: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    if (stat.st_uid, stat.st_gid) == (0, 0) {
        return Ok(());
    }
    unless_unmapped(rustix::fs::fchown(
        sink,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    ))
}

fn own_at(to: &OwnedFd, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    unless_unmapped(rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
}

/// Extended attributes, as far as a tmpfs of this kernel takes them (`user.` since Linux 6.6) and this process may
/// give them.
fn attributes(source: BorrowedFd<'_>, sink: BorrowedFd<'_>) -> Result<(), Errno> {
    let size = match rustix::fs::flistxattr_query(source) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(size) => size.min(XATTR_MOST),
        Err(errno) => return Err(errno),
    };
    let mut names = vec![0; size];
    let length = match rustix::fs::flistxattr(source, &mut names[..]) {
        Ok(length) => length,
        // More were added meanwhile; what is there counts as having none.
        Err(Errno::RANGE) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut value = vec![0; XATTR_MOST];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let size = match rustix::fs::fgetxattr(source, name, &mut value[..]) {
            Ok(size) => size,
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        };
        match rustix::fs::fsetxattr(sink, name, &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
