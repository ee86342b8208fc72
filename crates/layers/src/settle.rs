//! Answers what a layer left open, from the layers below it: attributes of implied directories, targets of
//! hard links, whether whiteouts hide anything.
//!
//! Names are looked up as overlayfs merges layers, see `lower`. It writes to the new layer only.

use crate::Pending;
use crate::copy;
use crate::error::{Error, REBUILD, Result};
use crate::lower::Lower;
use crate::name::shown;
use crate::resolve::{is_whiteout, open_dir};
use crate::tree::{self, At};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Bytes that are copied up for one layer at most: as much as unpacking may write by default
/// ([`crate::UnpackLimits::max_bytes`]).
const COPY_MAX: u64 = 64 << 30;

/// What was copied up, and the first name that it got in the new layer.
#[derive(Default)]
struct Copied<'p> {
    /// By the name below, which saves the look-up.
    paths: HashMap<&'p Path, &'p Path>,
    /// By device and inode: links to each other below stay so, and are copied once.
    inodes: HashMap<(u64, u64), &'p Path>,
    bytes: u64,
}

/// See [`crate::settle`].
pub fn settle(root: BorrowedFd<'_>, lower: &[OwnedFd], pending: &Pending) -> Result<()> {
    let mut lower = Lower::new(root, lower)?;
    let mut copied = Copied::default();
    for (new, target) in &pending.lower_links {
        link(root, &mut lower, new, target, &mut copied)?;
    }
    for path in &pending.whiteouts {
        unless_needed(root, &mut lower, path)?;
    }
    // Last, because a link that was made changed its directory's time.
    for path in &pending.implied_dirs {
        check(path)?;
        let Some(found) = lower.find(path)?.filter(|found| tree::is_dir(&found.stat)) else { continue };
        let failed = |e| Error::system("open the directory", shown(path, OsStr::new("")), e);
        let to = open_dir(root, path).map_err(failed)?;
        let name = Path::new(path.file_name().unwrap_or_default());
        let from = open_dir(found.parent, name).map_err(failed)?;
        copy::dir_attributes(from, to, || shown(path, OsStr::new("")))?;
    }
    Ok(())
}

/// Takes a whiteout away that hides nothing.
fn unless_needed(root: BorrowedFd<'_>, lower: &mut Lower<'_>, path: &Path) -> Result<()> {
    check(path)?;
    let failed = |e| Error::system("take away the whiteout", shown(path, OsStr::new("")), e);
    let name = path.file_name().unwrap_or_default();
    let dir = match open_dir(root, path.parent().unwrap_or(Path::new(""))) {
        Ok(dir) => dir,
        // A later entry took the place of its directory.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_whiteout(&stat) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(failed(e)),
    }
    if lower.find(path)?.is_some() {
        return Ok(());
    }
    let before = rustix::fs::fstat(&dir).map_err(failed)?;
    rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(failed)?;
    rustix::fs::futimens(&dir, &copy::times_of(&before)).map_err(failed)
}

fn link<'p>(
    root: BorrowedFd<'_>,
    lower: &mut Lower<'_>,
    new: &'p Path,
    target: &'p Path,
    copied: &mut Copied<'p>,
) -> Result<()> {
    let failed = |action, e| Error::system(action, shown(new, OsStr::new("")), e);
    check(new)?;
    check(target)?;
    let (Some(name), Some(target_name)) = (new.file_name(), target.file_name()) else {
        return Err(failed("make the hard link", Errno::INVAL));
    };
    let dir = open_dir(root, new.parent().unwrap_or(Path::new("")))
        .map_err(|e| failed("open the directory of", e))?;
    let before = rustix::fs::fstat(&dir).map_err(|e| failed("look at the directory of", e))?;
    let mut first = copied.paths.get(target).copied();
    if first.is_none() {
        let Some(found) = lower.find(target)?.filter(|found| !tree::is_dir(&found.stat)) else {
            return Err(Error::Refused {
                offset: 0,
                what: format!(
                    "the target {} of the hard link {} is in none of the layers",
                    shown(target, OsStr::new("")),
                    shown(new, OsStr::new(""))
                ),
            });
        };
        let inode = (found.stat.st_dev, found.stat.st_ino);
        first = copied.inodes.get(&inode).copied();
        copied.paths.insert(target, first.unwrap_or(new));
        if first.is_none() {
            copied.inodes.insert(inode, new);
            if rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                // An earlier settling got this far.
                return Ok(());
            }
            copied.bytes = copied.bytes.saturating_add(u64::try_from(found.stat.st_size).unwrap_or(0));
            if copied.bytes > COPY_MAX {
                let what = format!("its hard links into other layers copy more than {COPY_MAX} bytes");
                return Err(Error::TooLarge { what, advice: REBUILD });
            }
            let c = |name: &OsStr| CString::new(name.as_bytes()).map_err(|_| failed("make", Errno::INVAL));
            let (name, target_name) = (c(name)?, c(target_name)?);
            let at = At { dir: found.parent, name: &target_name, parent: target.as_os_str().as_bytes() };
            copy::entry(&at, &found.stat, dir.as_fd(), &name)?;
        }
    }
    if let Some(first) = first {
        let from = open_dir(root, first.parent().unwrap_or(Path::new("")))
            .map_err(|e| failed("open the directory of", e))?;
        match rustix::fs::linkat(&from, first.file_name().unwrap_or_default(), &dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(failed("make the hard link", e)),
        }
    }
    rustix::fs::futimens(&dir, &copy::times_of(&before))
        .map_err(|e| failed("set the time of the directory of", e))
}

/// Pending paths may come back from a file: they are checked as if they were an archive's.
fn check(path: &Path) -> Result<()> {
    let clean = !path.as_os_str().is_empty() && path.components().all(|c| matches!(c, Component::Normal(_)));
    if clean { Ok(()) } else { Err(Error::system("settle", shown(path, OsStr::new("")), Errno::INVAL)) }
}
