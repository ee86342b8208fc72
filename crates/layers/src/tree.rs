//! Walks and removes directory trees by descriptor.
//!
//! It follows no link, crosses no mount, holds one directory open at a time however deep the tree is, and keeps
//! at most a batch of names per level: a container may have made the tree, as deep and as wide as it liked.
//! It never goes up through a `..` that is not the directory it came from.

use crate::error::{Error, Result, Shown};
use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names of subdirectories that one level keeps before it goes down.
const BATCH: usize = 1024;

/// Something met on the way.
pub struct At<'a> {
    /// The directory that holds it.
    pub dir: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// Its parent's path from the top, for messages and for re-finding it; `/` between names.
    pub parent: &'a [u8],
}

impl At<'_> {
    /// The path from the top.
    pub fn path(&self) -> Vec<u8> {
        let mut path = self.parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(self.name.to_bytes());
        path
    }

    /// A failure that names it.
    pub fn failed(&self, action: &'static str, source: Errno) -> Error {
        Error::system(action, Shown(&self.path()), source)
    }
}

/// One step of a walk. Everything in a directory is met before any of its subdirectories is entered.
pub enum Step<'a> {
    /// An entry of any kind.
    Entry(At<'a>, &'a Stat),
    /// A directory that was met before is entered now.
    Enter(At<'a>),
    /// A directory was left: everything in it has been met.
    Leave(At<'a>),
}

struct Level {
    name: CString,
    id: (u64, u64),
    todo: Vec<CString>,
    /// Where reading goes on once `todo` is done; `None` when all was read.
    resume: Option<i64>,
    /// Length of the path before this level's name was added.
    cut: usize,
}

fn open(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Whether this is a directory.
pub fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Meets everything below `root`. What vanishes meanwhile is passed over; a directory that is moved away while
/// the walk is in it ends the walk with `ESTALE`.
pub fn walk(root: BorrowedFd<'_>, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    let top = |e| Error::system("read the directory", "at the top of a tree", e);
    let mut current = open(root, c".").map_err(top)?;
    let stat = rustix::fs::fstat(&current).map_err(top)?;
    let device = stat.st_dev;
    let mut path: Vec<u8> = Vec::new();
    let mut levels = vec![Level {
        name: CString::default(),
        id: identity(&stat),
        todo: Vec::new(),
        resume: Some(0),
        cut: 0,
    }];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.todo.pop() {
            let child = match open(current.as_fd(), &name) {
                Ok(child) => child,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(Error::system("open the directory", Shown(&path), e)),
            };
            let stat = rustix::fs::fstat(&child).map_err(top)?;
            if stat.st_dev != device {
                continue;
            }
            visit(Step::Enter(At { dir: current.as_fd(), name: &name, parent: &path }))?;
            let cut = path.len();
            if cut > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            current = child;
            levels.push(Level { name, id: identity(&stat), todo: Vec::new(), resume: Some(0), cut });
        } else if let Some(position) = level.resume.take() {
            read(&current, level, position, &path, visit)?;
        } else {
            let Some(done) = levels.pop() else { break };
            let Some(above) = levels.last() else { break };
            let up = open(current.as_fd(), c"..").map_err(top)?;
            if identity(&rustix::fs::fstat(&up).map_err(top)?) != above.id {
                return Err(Error::system("go back from the directory", Shown(&path), Errno::STALE));
            }
            current = up;
            path.truncate(done.cut);
            visit(Step::Leave(At { dir: current.as_fd(), name: &done.name, parent: &path }))?;
        }
    }
    Ok(())
}

fn read(
    current: &OwnedFd,
    level: &mut Level,
    position: i64,
    path: &[u8],
    visit: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let failed = |e| Error::system("read the directory", Shown(path), e);
    let mut dir = Dir::read_from(current).map_err(failed)?;
    if position != 0 {
        dir.seek(position).map_err(failed)?;
    }
    while let Some(entry) = dir.read() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let at = At { dir: current.as_fd(), name, parent: path };
        let stat = match rustix::fs::statat(current, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(at.failed("look at", e)),
        };
        visit(Step::Entry(at, &stat))?;
        if is_dir(&stat) {
            level.todo.push(name.to_owned());
            if level.todo.len() >= BATCH {
                level.resume = Some(entry.offset());
                break;
            }
        }
    }
    Ok(())
}

/// Removes `name` from `parent`, whatever it is, with everything below it. What is gone is no error.
/// Immutable and append-only marks (a container may have had the capability to set them) are taken off.
pub fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let shown = || Shown(name.as_bytes()).to_string();
    let Ok(cname) = CString::new(name.as_bytes()) else {
        return Err(Error::system("remove", shown(), Errno::INVAL));
    };
    // A directory may need another pass: removing while reading can pass over entries.
    for _ in 0..16 {
        match unlink(parent, &cname, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(e) => return Err(Error::system("remove", shown(), e)),
        }
        let dir = match open(parent, &cname) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(Error::system("open the directory", shown(), e)),
        };
        walk(dir.as_fd(), &mut |step| match step {
            Step::Entry(at, stat) if !is_dir(stat) => match unlink(at.dir, at.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
                Err(e) => Err(at.failed("remove", e)),
            },
            Step::Leave(at) => match unlink(at.dir, at.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(()),
                Err(e) => Err(at.failed("remove the directory", e)),
            },
            Step::Entry(..) | Step::Enter(..) => Ok(()),
        })?;
        match unlink(parent, &cname, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(e) => return Err(Error::system("remove the directory", shown(), e)),
        }
    }
    Err(Error::system("remove", shown(), Errno::NOTEMPTY))
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::PERM) => {
            unprotect(dir);
            if let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                && matches!(
                    FileType::from_raw_mode(stat.st_mode),
                    FileType::RegularFile | FileType::Directory
                )
                && let Ok(file) = rustix::fs::openat(
                    dir,
                    name,
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
                    Mode::empty(),
                )
            {
                unprotect(file.as_fd());
            }
            rustix::fs::unlinkat(dir, name, flags)
        }
        other => other,
    }
}

/// Takes `chattr +i` and `+a` off, as far as that is possible (ioctl_iflags(2)).
fn unprotect(file: BorrowedFd<'_>) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(file) {
        let marks = IFlags::IMMUTABLE | IFlags::APPEND;
        if flags.intersects(marks)
            && let Err(error) = rustix::fs::ioctl_setflags(file, flags.difference(marks))
        {
            tracing::warn!(%error, "cannot take the immutable mark off");
        }
    }
}

/// The directory that `path` names below `root`, meeting no link.
pub fn open_below(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    crate::resolve::open_dir(root, path)
}
