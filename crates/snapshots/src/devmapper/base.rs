//! The empty file system that every bottom layer begins as: a thin device with an ext4, made once.

use super::pool::Pool;
use crate::layout::{ROOT_MODE, failed, make_dir, open_dir};
use crate::record::{self, DEVICE, Device};
use crate::usage::Usage;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use types::{Error, ErrorKind, Result};

/// Its folder, beside `layers`.
pub const FOLDER: &str = "base";
/// The file that says that it is whole.
const READY: &str = "ready";

/// What mkfs.ext4 is run with. Tables of inodes are zero already in a device that has no blocks yet; the journal is small,
/// for every container writes one anew; nothing is kept for root, who is in there; blocks are the size of pages.
const MKFS: [&str; 10] = [
    "-q",
    "-F",
    "-b",
    "4096",
    "-m",
    "0",
    "-J",
    "size=8",
    "-E",
    "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
];
/// It writes a few MiB.
const MKFS_LIMIT: Duration = Duration::from_secs(300);

/// The base of this size, which is made where it is missing, half made, or of another size.
pub fn open(
    pool: &Pool,
    top: &OwnedFd,
    path: &Path,
    sectors: u64,
    known: impl Fn() -> Result<HashSet<u32>>,
) -> Result<Device> {
    let path = path.join(FOLDER);
    let dir = match make_dir(top, FOLDER, 0o700) {
        Err(Errno::EXIST) => open_dir(top, FOLDER),
        other => other,
    };
    let dir = dir.map_err(|e| failed("open", &path, e))?;
    rustix::fs::fsync(top).map_err(|e| failed("sync the folder of", &path, e))?;
    if let Some(device) = record::read::<Device>(dir.as_fd(), DEVICE)? {
        let ready = record::read::<bool>(dir.as_fd(), READY)? == Some(true);
        if ready && device.sectors == sectors {
            return Ok(device);
        }
        // Layers that began as this one go on without it. A program that was making it may outlive its daemon a little.
        record::forget(dir.as_fd(), READY)?;
        pool.delete(&device, super::LONG).map_err(|e| failed("delete the device of", &path, e))?;
        record::forget(dir.as_fd(), DEVICE)?;
    }
    pool.usable()?;
    let note = |device: &Device| record::write(dir.as_fd(), DEVICE, device);
    let device = pool.make(None, sectors, Usage::default(), note, known)?;
    let disk = pool.activate(&device, false)?;
    format(&disk)?;
    let mount = super::mount(&disk, false)?;
    make_dir(&mount, super::ROOT, ROOT_MODE)
        .and_then(rustix::fs::syncfs)
        .map_err(|e| pool.explain(format!("cannot fill the file system of {disk}"), e.into()))?;
    drop(mount);
    pool.deactivate(&device, super::LONG).map_err(|e| failed("deactivate", &disk, e))?;
    record::write(dir.as_fd(), READY, &true)?;
    Ok(device)
}

fn format(disk: &str) -> Result<()> {
    let mut arguments = MKFS.to_vec();
    arguments.push(disk);
    let said = crate::program::run(OsStr::new("mkfs.ext4"), &arguments, MKFS_LIMIT).map_err(|error| {
        let text = "the snapshotter devmapper needs mkfs.ext4, once; install e2fsprogs";
        if error.kind() == ErrorKind::FailedPrecondition { error.context(text) } else { error }
    })?;
    if said.well() {
        return Ok(());
    }
    Err(Error::internal(format!("mkfs.ext4 made no file system on {disk}: {}", said.words())))
}
