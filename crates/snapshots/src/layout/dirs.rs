//! Single names and open directories: nothing here follows a link, and whatever may not be a name is refused.

use crate::ChainId;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// A failed system call on one of our paths.
pub(crate) fn failed(action: &str, path: impl AsRef<Path>, error: Errno) -> Error {
    let kind = match error {
        Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE => ErrorKind::ResourceExhausted,
        Errno::PERM | Errno::ACCESS => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal,
    };
    let path = path.as_ref().display();
    Error::with_source(kind, format!("cannot {action} {path}"), std::io::Error::from(error))
}

/// Opens a directory by one name, no link followed.
pub(crate) fn open_dir(parent: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Makes a directory with exactly this mode, whatever the umask, and opens it.
pub(crate) fn make_dir(parent: impl AsFd, name: &str, mode: u32) -> rustix::io::Result<OwnedFd> {
    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))?;
    let dir = open_dir(parent, name)?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
    Ok(dir)
}

/// Mode of a layer's root: that of `/` in a container.
pub(crate) const ROOT_MODE: u32 = 0o755;

/// Refuses what may not be a directory's name; ids come from callers that checked them, this is the last gate.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(plain) {
        return Err(Error::invalid(format!("{:?} is not a container id", types::reference::shorten(id))));
    }
    Ok(())
}

/// The layer whose folder is called so: by the digits of its chain id alone, of which an artifact's, a SHA-512, has more than
/// an image's, a SHA-256.
pub(crate) fn chain_of(hex: &str) -> Option<ChainId> {
    let algorithm = if hex.len() > 64 { "sha512" } else { "sha256" };
    ChainId::parse(&format!("{algorithm}:{hex}")).ok()
}

pub(crate) fn missing_layer(chain: &ChainId) -> Error {
    Error::not_found(format!("the layer {chain} is not there; pull the image again"))
}

pub(crate) fn names(dir: &OwnedFd, path: &Path) -> Result<Vec<String>> {
    let wrap = |error| failed("read the directory", path, error);
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(wrap)? {
        let entry = entry.map_err(wrap)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            found.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}
