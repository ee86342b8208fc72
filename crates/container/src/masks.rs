//! Hiding and freezing paths of the kernel's own file systems. What lies at a path is opened once and
//! mounted over by that descriptor; the sources (an empty tmpfs, the node's `/dev/null`) are opened before
//! the image has any say (CVE-2025-31133, CVE-2025-52565).

use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::mounts;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::FileType;
use rustix::io::Errno;
use sys::mount::{Attributes, attr, set_attributes};

/// Hides each path that exists: directories under an empty read-only tmpfs, files under `/dev/null`.
pub fn hide(root: BorrowedFd<'_>, null: BorrowedFd<'_>, paths: &[String]) -> Step {
    // One file system serves all directories. Its mount is attached at the first, and cloned for the others:
    // a mount that is not attached can be cloned since Linux 6.15 only.
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = existing(root, path)? else { continue };
        let is_directory =
            beneath::kind(&target).tried(|| format!("cannot examine {path:?}"))? == FileType::Directory;
        let cover = match (&empty, is_directory) {
            (_, false) => mounts::clone_mount(null, "", false).tried(|| "cannot bind /dev/null".into())?,
            (Some(first), true) => mounts::clone_mount(first.as_fd(), "", false)
                .tried(|| "cannot clone the empty directory".into())?,
            (None, true) => mounts::empty_directory()?,
        };
        mounts::attach(&cover, &target).tried(|| format!("cannot mask {path:?}"))?;
        if is_directory && empty.is_none() {
            empty = Some(cover);
        }
    }
    Ok(())
}

/// Makes each path that exists read-only, with what is mounted below it.
pub fn freeze(root: BorrowedFd<'_>, paths: &[String]) -> Step {
    for path in paths {
        let Some(target) = existing(root, path)? else { continue };
        let clone =
            mounts::clone_mount(target.as_fd(), "", true).tried(|| format!("cannot bind {path:?}"))?;
        set_attributes(
            clone.as_fd(),
            c"",
            Attributes { set: attr::RDONLY, recursive: true, ..Attributes::default() },
        )
        .tried(|| format!("cannot make {path:?} read-only"))?;
        mounts::attach(&clone, &target).tried(|| format!("cannot make {path:?} read-only"))?;
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &str) -> Step<Option<OwnedFd>> {
    match beneath::open_path(root, path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => {
            Err(Failure::system(format!("cannot open {path:?} to protect it: {}", describe(errno))))
        }
    }
}
