//! What is written down of a device or data set in the folder that it belongs to, before it is made and until after it is
//! gone. It makes and removes nothing but these files.

use crate::layout::{failed, open_dir};
use crate::usage::Usage;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// The file with a [`Device`] in it.
pub const DEVICE: &str = "device.json";
/// The file with the [`Usage`] of a layer's whole tree.
pub const TREE: &str = "tree.json";
/// Far above what any of them takes.
const MOST: u64 = 64 << 10;

/// One thin device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name in the device-mapper while it is active.
    pub name: String,
    /// Its number in the pool.
    pub id: u32,
    /// Its length.
    pub sectors: u64,
    /// The tree that it began with: what is not its own.
    pub below: Usage,
}

/// Writes a file of a folder in one step, and syncs both.
pub fn write(dir: BorrowedFd<'_>, name: &str, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::with_source(ErrorKind::Internal, format!("cannot write {name}"), e))?;
    let new = format!("{name}.new");
    let write = || -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, &new, flags, Mode::RUSR | Mode::WUSR)?;
        layers::copy::write_all(&file, &json)?;
        rustix::fs::fsync(&file)?;
        rustix::fs::renameat(dir, &new, dir, name)?;
        rustix::fs::fsync(dir)
    };
    write().map_err(|e| failed("write the file", name, e))
}

/// Reads a file of a folder; none where it is not there.
pub fn read<T: DeserializeOwned>(dir: BorrowedFd<'_>, name: &str) -> Result<Option<T>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed("open the file", name, error)),
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MOST), &mut bytes)
        .map_err(|e| Error::with_source(ErrorKind::Internal, format!("cannot read {name}"), e))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::with_source(ErrorKind::Internal, format!("the file {name} of a snapshot is damaged"), e)
    })
}

/// The device of the folder `name` in `parent`; none where there is no such folder.
pub fn of(parent: &OwnedFd, name: &str, path: &Path) -> Result<Option<Device>> {
    let dir = match open_dir(parent, name) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed("open", path.join(name), error)),
    };
    read(dir.as_fd(), DEVICE)
        .map_err(|error| error.context(format!("cannot tell the device of {}", path.join(name).display())))
}

/// Removes a file of a folder durably. What is gone is no error.
pub fn forget(dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed("remove the file", name, error)),
    }
    rustix::fs::fsync(dir).map_err(|e| failed("sync the folder of", name, e))
}
