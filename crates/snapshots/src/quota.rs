//! How large a container's writable layer may grow: by a project quota where the file system counts projects (ext4 and
//! xfs that were made and mounted for it), else in a file system of that size in a file. It never counts itself.

use crate::layout::{Layout, failed, make_dir};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use types::{Error, ErrorKind, Result};

/// The file with a file system in it, beside `fs`.
pub const IMAGE: &str = "disk";
/// Its directories.
pub const UPPER: &str = "fs";
pub const WORK: &str = "work";

/// Less is of no use: the journal-less ext4 of the smallest size takes as much for itself.
const LEAST: u64 = 1 << 20;

/// A file with content takes a block, which is 4096 bytes nearly everywhere: only who makes files without any, or names
/// and no files, meets the bound of inodes first. Without one a container could take all inodes of the node's disk in a
/// few bytes. Others leave that to who sets it by hand (`overlay.inodes` of containers-storage.conf(5)).
const BYTES_PER_INODE: u64 = 4096;

/// Projects of ours count from here; lower numbers are what people give by hand (projects(5)).
const FIRST_PROJECT: u32 = 0x4000_0000;

/// What this file system can do.
pub enum Quota {
    /// It counts projects; the next number.
    Project(AtomicU32),
    /// It does not, for this reason.
    Image,
}

/// Tries it out on a directory that goes again.
pub fn find(layout: &Arc<Layout>) -> Result<Quota> {
    let draft = layout.draft("quota")?;
    // Others may have projects on the same disk; each begins somewhere else (FNV-1a of the path, 32 bits).
    let hash = layout
        .path()
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let next = AtomicU32::new(FIRST_PROJECT + hash % FIRST_PROJECT);
    let tried = unused(&draft.dir, &next).and_then(|number| {
        if !sys::quota::bounds_projects(draft.dir.as_fd())? {
            return Err(std::io::Error::other(
                "it counts projects and does not bound them (mount option prjquota)",
            ));
        }
        project(&[&draft.dir], number, LEAST)?;
        sys::quota::set_project_limit(draft.dir.as_fd(), number, 0, 0)
    });
    match tried {
        Ok(()) => Ok(Quota::Project(next)),
        Err(error) => {
            tracing::info!(
                path = %layout.path().display(),
                error = %error,
                "no project quota there; a bounded writable layer is a file system in a file"
            );
            Ok(Quota::Image)
        }
    }
}

/// A number that no file has. The bound of a layer that is gone may still be there; then the next one is taken.
fn unused(dir: &OwnedFd, next: &AtomicU32) -> std::io::Result<u32> {
    const ATTEMPTS: usize = 1 << 16;
    for _ in 0..ATTEMPTS {
        let number = next.fetch_add(1, Ordering::Relaxed);
        // 0 is what has no project.
        if number != 0 && sys::quota::is_unused(dir.as_fd(), number)? {
            return Ok(number);
        }
    }
    Err(Errno::NOSPC.into())
}

/// Takes away the bound of a writable layer that goes; its number can be given out again.
pub fn release(layer: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(layer, flags, Mode::empty()) else { return };
    // Failing leaves a number that is passed over.
    match sys::quota::project(dir.as_fd()) {
        Ok(number) if number >= FIRST_PROJECT => {
            let _ = sys::quota::set_project_limit(dir.as_fd(), number, 0, 0);
        }
        _ => {}
    }
}

/// Puts directories into a project, and bounds that.
fn project(dirs: &[&OwnedFd], number: u32, bytes: u64) -> std::io::Result<()> {
    let first = dirs.first().ok_or_else(|| std::io::Error::from(Errno::INVAL))?;
    // The bound is there before anything counts.
    sys::quota::set_project_limit(first.as_fd(), number, bytes, bytes / BYTES_PER_INODE)?;
    dirs.iter().try_for_each(|dir| sys::quota::set_project(dir.as_fd(), number))
}

impl Quota {
    /// Bounds a writable layer that is being made in the folder `path`.
    pub fn bound(&self, path: &Path, dirs: &[&OwnedFd], bytes: u64, owner: Option<(u32, u32)>) -> Result<()> {
        if bytes < LEAST {
            return Err(Error::invalid(format!(
                "a writable layer of {bytes} bytes is too small; {LEAST} are the least"
            )));
        }
        match self {
            Self::Project(next) => {
                let first = dirs.first().ok_or_else(|| Error::internal("there is nothing to bound"))?;
                unused(first, next).and_then(|number| project(dirs, number, bytes)).map_err(|error| {
                    Error::with_source(
                        ErrorKind::Internal,
                        format!("cannot bound the writable layer {} to {bytes} bytes", path.display()),
                        error,
                    )
                })
            }
            Self::Image => image(path, bytes, owner),
        }
    }
}

/// Makes a file with an ext4 in it, which takes no blocks before they are written.
fn image(path: &Path, bytes: u64, owner: Option<(u32, u32)>) -> Result<()> {
    let file = path.join(IMAGE);
    let wrap = |error| failed("make the file", &file, error);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::open(&file, flags, Mode::RUSR | Mode::WUSR).map_err(wrap)?;
    rustix::fs::ftruncate(&open, bytes).map_err(wrap)?;
    drop(open);
    // What the new file system has from the start.
    let seed = path.join("seed");
    let wrap = |error| failed("make the directory", &seed, error);
    rustix::fs::mkdir(&seed, Mode::RWXU).map_err(wrap)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(&seed, flags, Mode::empty()).map_err(wrap)?;
    let upper = make_dir(&top, UPPER, crate::layout::ROOT_MODE).map_err(wrap)?;
    make_dir(&top, WORK, 0o700).map_err(wrap)?;
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(&upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(wrap)?;
    }
    // No journal: a writable layer is not meant to survive a power cut. No block is kept for root, who is in there.
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", "-d"])
        .arg(&seed)
        .arg(&file)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::with_source(
                ErrorKind::FailedPrecondition,
                "a bounded writable layer needs mkfs.ext4, for this file system has no project quota; install \
                 e2fsprogs, or put the snapshots on an ext4 or xfs that is mounted with prjquota",
                error,
            )
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words: String = words.trim().chars().take(500).collect();
        return Err(Error::internal(format!("mkfs.ext4 made no file system in {}: {words}", file.display())));
    }
    layers::tree::remove(
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed("open", path, e))?.as_fd(),
        std::ffi::OsStr::new("seed"),
    )
    .map_err(Error::from)
}
