//! Copies files and whole trees with everything a layer can say of them: owner, mode, attributes, times, links.
//!
//! It never copies `trusted.*` attributes nor labels, and never follows a link.

use crate::error::{Error, Result};
use crate::tree::{self, At, Step};
use crate::xattr;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a new file gets from the system where nobody asks for more: found out once for a tree, so that owner and mode
/// need not be set where they are right from the start.
#[derive(Debug, Clone, Copy)]
pub struct Birth {
    /// The permission bits that neither the umask nor a default ACL takes away.
    kept: u32,
    /// New files belong to root and its group.
    root: bool,
}

impl Birth {
    /// Nothing is known: owner and mode are set always.
    pub const UNKNOWN: Self = Self { kept: 0, root: false };

    /// Tries it with a file that never gets a name. Only for a tree in which every directory is made by the same
    /// means: a set-gid bit or a default ACL below would change what is found here.
    pub fn find(root: impl AsFd) -> Self {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(root, c".", flags, Mode::from_raw_mode(0o777));
        match file.and_then(rustix::fs::fstat) {
            Ok(stat) => Self { kept: stat.st_mode & 0o777, root: stat.st_uid == 0 && stat.st_gid == 0 },
            // Not every file system can (open(2), O_TMPFILE).
            Err(_) => Self::UNKNOWN,
        }
    }

    /// The mode to ask for at creation, for a file that is to have `mode`. Nothing may be set-id before it has its
    /// owner.
    pub fn mode(self, mode: u32) -> Mode {
        Mode::from_raw_mode(mode & 0o777)
    }

    /// Whether a file that was made with [`Self::mode`] still needs its owner set.
    pub fn lacks_owner(self, uid: u32, gid: u32) -> bool {
        !(self.root && uid == 0 && gid == 0)
    }

    /// Whether it still needs its mode set.
    pub fn lacks_mode(self, mode: u32) -> bool {
        mode & 0o7777 != mode & self.kept
    }

    /// Sets what is still needed. The owner first: changing it drops set-id bits (chown(2)).
    pub fn complete(self, fd: impl AsFd, uid: u32, gid: u32, mode: u32) -> rustix::io::Result<()> {
        if self.lacks_owner(uid, gid) {
            rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        if self.lacks_mode(mode) {
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))?;
        }
        Ok(())
    }
}

/// Access and modification time set to one value, as unpacking does: nobody read the file yet.
pub fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The times of a stat.
pub fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Owner and mode of an open file or directory. The owner first: changing it drops set-id bits (chown(2)).
pub fn own(fd: impl AsFd, uid: u32, gid: u32, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))
}

/// Owner, mode and times of a device or pipe that `name` in `dir` was just made to be. By a path descriptor:
/// such a file must not be opened, and a link in its place must not be followed.
pub fn own_special(
    dir: impl AsFd,
    name: impl rustix::path::Arg,
    (uid, gid, mode): (u32, u32, u32),
    kind: FileType,
    times: &Timestamps,
) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != kind {
        return Err(Errno::STALE);
    }
    rustix::fs::chownat(&file, c"", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
    // fchmod takes no path descriptor, and fchmodat2 is of Linux 6.6; the link in /proc leads to the inode itself.
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    rustix::fs::chmodat(rustix::fs::CWD, &link, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
    rustix::fs::utimensat(rustix::fs::CWD, &link, times, AtFlags::empty())
}

/// Gives an open directory the owner, mode, attributes and times of another.
pub fn dir_attributes(from: impl AsFd, to: impl AsFd, shown: impl Fn() -> String) -> Result<()> {
    let failed = |e| Error::system("copy the attributes of", shown(), e);
    let stat = rustix::fs::fstat(&from).map_err(failed)?;
    xattr::clear(&to).map_err(failed)?;
    own(&to, stat.st_uid, stat.st_gid, stat.st_mode).map_err(failed)?;
    xattr::set(&to, &xattr::get(&from).map_err(failed)?, &shown)?;
    rustix::fs::futimens(&to, &times_of(&stat)).map_err(failed)
}

/// Copies one entry that is no directory. The new name must be free.
pub fn entry(at: &At<'_>, stat: &Stat, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let failed = |e| at.failed("copy", e);
    let kind = FileType::from_raw_mode(stat.st_mode);
    let times = times_of(stat);
    match kind {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let from = rustix::fs::openat(at.dir, at.name, flags, Mode::empty()).map_err(failed)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
            content(&from, &file).map_err(failed)?;
            own(&file, stat.st_uid, stat.st_gid, stat.st_mode).map_err(failed)?;
            xattr::set(&file, &xattr::get(&from).map_err(failed)?, || {
                String::from_utf8_lossy(&at.path()).into()
            })?;
            rustix::fs::futimens(&file, &times).map_err(failed)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(at.dir, at.name, Vec::new()).map_err(failed)?;
            rustix::fs::symlinkat(&target, to, name).map_err(failed)?;
            let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
            rustix::fs::chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
        }
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice | FileType::Socket => {
            rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev).map_err(failed)?;
            own_special(to, name, (stat.st_uid, stat.st_gid, stat.st_mode), kind, &times).map_err(failed)
        }
        FileType::Directory | FileType::Unknown => Err(failed(Errno::ISDIR)),
    }
}

/// Shares the blocks where the file system can (FICLONE), else copies in the kernel, else through a buffer. Holes stay
/// holes: a layer may have a file that is nothing but one.
fn content(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let stat = rustix::fs::fstat(from)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    // In units of 512 bytes, whatever the file system's own are (inode(7)).
    if u64::try_from(stat.st_blocks).unwrap_or(u64::MAX).saturating_mul(512) >= size {
        return dense(from, to);
    }
    rustix::fs::ftruncate(to, size)?;
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole up to the end (lseek(2)).
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(begin))?;
        at = begin;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            match rustix::io::pread(from, &mut buffer[..most], at) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    write_all_at(to, &buffer[..count], at)?;
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

fn dense(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let mut copied = false;
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) if copied => return Ok(()),
            // An empty file, or one whose file system cannot say how long it is (copy_file_range(2), BUGS).
            Ok(0) => break,
            Ok(_) => copied = true,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !copied => break,
            Err(e) => return Err(e),
        }
    }
    let mut buffer = vec![0; 128 << 10];
    loop {
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => write_all(to, &buffer[..count])?,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Writes all of it at a place in the file.
pub fn write_all_at(file: impl AsFd, mut data: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(&file, data, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => (data, offset) = (&data[count..], offset + count as u64),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes all of it.
pub fn write_all(file: impl AsFd, mut data: &[u8]) -> rustix::io::Result<()> {
    while !data.is_empty() {
        match rustix::io::write(&file, data) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => data = &data[count..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Copies everything below `from` into the empty directory `to`, and the attributes of `from` itself. Nobody
/// else may change either meanwhile. Hard links within the tree stay hard links.
pub fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let top = |e| Error::system("copy", "the tree", e);
    let mut current = tree::open_below(to, Path::new("")).map_err(top)?;
    let mut linked: HashMap<u64, PathBuf> = HashMap::new();
    tree::walk(from, &mut |step| match step {
        Step::Entry(at, stat) if tree::is_dir(stat) => {
            rustix::fs::mkdirat(&current, at.name, Mode::from_raw_mode(0o700))
                .map_err(|e| at.failed("make", e))
        }
        Step::Entry(at, stat) => {
            if stat.st_nlink > 1 {
                if let Some(first) = linked.get(&stat.st_ino)
                    && link(to, first, current.as_fd(), at.name).is_ok()
                {
                    return Ok(());
                }
                linked.insert(stat.st_ino, PathBuf::from(OsStr::from_bytes(&at.path())));
            }
            entry(&at, stat, current.as_fd(), at.name)
        }
        Step::Enter(at) => {
            let name = Path::new(OsStr::from_bytes(at.name.to_bytes()));
            current =
                tree::open_below(current.as_fd(), name).map_err(|e| at.failed("open the copy of", e))?;
            Ok(())
        }
        Step::Leave(at) => {
            let name = Path::new(OsStr::from_bytes(at.name.to_bytes()));
            let source = tree::open_below(at.dir, name).map_err(|e| at.failed("open", e))?;
            dir_attributes(source, &current, || String::from_utf8_lossy(&at.path()).into())?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            current = rustix::fs::openat(&current, c"..", flags, Mode::empty())
                .map_err(|e| at.failed("leave the copy of", e))?;
            Ok(())
        }
    })?;
    dir_attributes(from, to, || "the tree".to_owned())
}

fn link(root: BorrowedFd<'_>, first: &Path, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let parent = tree::open_below(root, first.parent().unwrap_or(Path::new("")))?;
    rustix::fs::linkat(parent, first.file_name().ok_or(Errno::INVAL)?, dir, name, AtFlags::empty())
}
