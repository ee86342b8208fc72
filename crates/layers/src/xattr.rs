//! Which extended attributes a layer may set, and how they are set and copied.
//!
//! `trusted.*` never comes from an archive: `trusted.overlay.redirect` and its kin would steer the overlay. As in
//! containerd (archive/tar_unix.go, `setxattr`) such an attribute is passed over with a warning.

use crate::error::{Error, Result, Shown};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// Marks a directory that hides what lower layers have in it (Linux Documentation/filesystems/overlayfs.rst).
pub const OPAQUE: &str = "trusted.overlay.opaque";

const CAPABILITY: &[u8] = b"security.capability";

/// The most that the kernel lists or gives (XATTR_LIST_MAX, XATTR_SIZE_MAX; xattr(7)).
const MOST: usize = 64 << 10;

enum Verdict {
    Set,
    Skip,
    Warn,
}

fn judge(name: &[u8]) -> Verdict {
    if name == CAPABILITY || name.starts_with(b"user.") {
        Verdict::Set
    } else if name.starts_with(b"trusted.") {
        Verdict::Warn
    } else {
        // security.selinux and other labels are this machine's to give. ACLs (system.*) are in no builder's
        // layers, and a default ACL would change every file made after it.
        Verdict::Skip
    }
}

/// Refuses file capabilities that the kernel would refuse, whatever kind of entry has them: what is neither of
/// version 2 nor of version 3 (security/commoncap.c, `validheader`).
pub fn check(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> std::result::Result<(), String> {
    let Some(value) = xattrs.get(CAPABILITY) else { return Ok(()) };
    // The revision is the top byte of a little-endian word (capabilities(7), "File capability extended attribute
    // versioning").
    match (value.len(), value.get(3)) {
        (20, Some(2)) | (24, Some(3)) => Ok(()),
        _ => Err("has file capabilities in a form that Linux does not take".to_owned()),
    }
}

/// Sets what may be set on an open file or directory.
pub fn set(fd: impl AsFd, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>, path: impl Fn() -> String) -> Result<()> {
    for (name, value) in xattrs {
        match judge(name) {
            Verdict::Set => {}
            Verdict::Skip => {
                tracing::debug!(path = path(), name = %Shown(name), "extended attribute passed over");
                continue;
            }
            Verdict::Warn => {
                tracing::warn!(path = path(), name = %Shown(name), "no layer may set this attribute; passed over");
                continue;
            }
        }
        match rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            // As containerd: a file system without attributes still holds the layer.
            Err(Errno::OPNOTSUPP) => {
                tracing::warn!(path = path(), name = %Shown(name), "the file system has no such attributes");
            }
            Err(error) => return Err(Error::system("set an extended attribute of", path(), error)),
        }
    }
    Ok(())
}

/// The attributes of an open file or directory that a layer may have.
pub fn get(fd: impl AsFd) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = vec![0; MOST];
    let length = match rustix::fs::flistxattr(&fd, list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for name in list[..length].split(|&b| b == 0) {
        if !name.is_empty() && matches!(judge(name), Verdict::Set) {
            let mut value = vec![0; MOST];
            let length = rustix::fs::fgetxattr(&fd, name, value.as_mut_slice())?;
            value.truncate(length);
            found.insert(name.to_vec(), value);
        }
    }
    Ok(found)
}

/// Takes the attributes away that a layer may have: an entry replaces those that a lower layer gave.
pub fn clear(fd: impl AsFd) -> rustix::io::Result<()> {
    for name in get(&fd)?.keys() {
        match rustix::fs::fremovexattr(&fd, name.as_slice()) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a directory hides what lower layers have in it.
pub fn is_opaque(dir: impl AsFd) -> bool {
    let mut value = [0; 4];
    matches!(rustix::fs::fgetxattr(dir, OPAQUE, &mut value), Ok(1) if value[0] == b'y')
}

/// Makes a directory hide what lower layers have in it.
pub fn set_opaque(dir: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
}
