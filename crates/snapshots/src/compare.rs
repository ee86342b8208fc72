//! Compares a committed layer with the same archive unpacked once more: the way to find a byte that the disk turned.
//!
//! It reads and never writes. Content is read from the disk where the kernel lets it: pages that are in memory and
//! clean are dropped first, for the memory may be right where the disk is not.

use layers::tree::{At, Step, is_dir, open_below, walk};
use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use types::{Error, Result};

/// Bytes that are read at once from each of the two files.
const PART: usize = 128 << 10;
/// The most that the kernel lists or gives (XATTR_LIST_MAX, XATTR_SIZE_MAX; xattr(7)).
const XATTR_MAX: usize = 64 << 10;

/// What differs first between a committed layer and a fresh tree, in words; `None` where nothing does. Times of
/// directories are not compared: those that no archive names are as old as their unpacking.
pub(crate) fn difference(committed: BorrowedFd<'_>, fresh: BorrowedFd<'_>) -> Result<Option<String>> {
    let mut found = of_roots(committed, fresh)?;
    let mut parent: Option<(Vec<u8>, OwnedFd)> = None;
    let mut entries = 0_u64;
    let walked = walk(fresh, &mut |step| {
        let Step::Entry(at, stat) = step else { return Ok(()) };
        entries += 1;
        if found.is_none() {
            found = entry(committed, &mut parent, &at, stat)?;
        }
        Ok(())
    });
    walked.map_err(Error::from)?;
    if found.is_some() {
        return Ok(found);
    }
    // All that the archive makes is there. What is there besides?
    let mut others = 0_u64;
    let walked = walk(committed, &mut |step| {
        others += u64::from(matches!(step, Step::Entry(..)));
        Ok(())
    });
    walked.map_err(Error::from)?;
    if others == entries {
        return Ok(None);
    }
    let walked = walk(committed, &mut |step| {
        if let Step::Entry(at, _) = step
            && found.is_none()
        {
            found = missing_in(fresh, &at);
        }
        Ok(())
    });
    walked.map_err(Error::from)?;
    Ok(found.or_else(|| Some(format!("it has {others} entries, and its archive makes {entries}"))))
}

fn missing_in(fresh: BorrowedFd<'_>, at: &At<'_>) -> Option<String> {
    let there = open_below(fresh, Path::new(OsStr::from_bytes(at.parent)))
        .and_then(|dir| rustix::fs::statat(dir, at.name, AtFlags::SYMLINK_NOFOLLOW));
    there.err().map(|_| format!("{} is there, and its archive has no such entry", shown(at)))
}

fn of_roots(committed: BorrowedFd<'_>, fresh: BorrowedFd<'_>) -> Result<Option<String>> {
    let look =
        |dir| rustix::fs::fstat(dir).map_err(|e| crate::layout::failed("look at", "a layer's root", e));
    let (one, other) = (look(committed)?, look(fresh)?);
    if let Some(what) = of_stats(&one, &other) {
        return Ok(Some(format!("its root {what}")));
    }
    let attributes =
        |dir| xattrs(dir).map_err(|e| crate::layout::failed("read attributes of", "a layer's root", e));
    Ok((attributes(committed)? != attributes(fresh)?)
        .then(|| "its root has other extended attributes".to_owned()))
}

fn shown(at: &At<'_>) -> String {
    format!("/{}", String::from_utf8_lossy(&at.path()).escape_debug())
}

/// Compares one entry of the fresh tree with what the committed one has there.
fn entry(
    committed: BorrowedFd<'_>,
    parent: &mut Option<(Vec<u8>, OwnedFd)>,
    at: &At<'_>,
    fresh: &Stat,
) -> std::result::Result<Option<String>, layers::Error> {
    if parent.as_ref().is_none_or(|(path, _)| path != at.parent) {
        let dir = match open_below(committed, Path::new(OsStr::from_bytes(at.parent))) {
            Ok(dir) => dir,
            // Its parent was compared before it, and found to be no directory or not there.
            Err(_) => return Ok(Some(format!("{} cannot be reached", shown(at)))),
        };
        *parent = Some((at.parent.to_vec(), dir));
    }
    let Some((_, dir)) = parent.as_ref() else { return Ok(None) };
    let there = match rustix::fs::statat(dir, at.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Some(format!("{} is missing", shown(at)))),
        Err(error) => return Ok(Some(format!("{} cannot be looked at ({error})", shown(at)))),
    };
    if let Some(what) = of_stats(&there, fresh) {
        return Ok(Some(format!("{} {what}", shown(at))));
    }
    let kind = FileType::from_raw_mode(fresh.st_mode);
    match kind {
        FileType::Symlink => {
            let read = |dir: BorrowedFd<'_>| rustix::fs::readlinkat(dir, at.name, Vec::new());
            match (read(dir.as_fd()), read(at.dir)) {
                (Ok(one), Ok(other)) if one == other => Ok(None),
                (Err(error), _) => Ok(Some(format!("{} cannot be read ({error})", shown(at)))),
                (_, Err(error)) => Err(at.failed("read the link", error)),
                _ => Ok(Some(format!("{} leads elsewhere", shown(at)))),
            }
        }
        FileType::RegularFile | FileType::Directory => {
            let fresh_file = open(at.dir, at.name).map_err(|e| at.failed("open", e))?;
            let file = match open(dir.as_fd(), at.name) {
                Ok(file) => file,
                Err(error) => return Ok(Some(format!("{} cannot be opened ({error})", shown(at)))),
            };
            let wanted = xattrs(fresh_file.as_fd()).map_err(|e| at.failed("read attributes of", e))?;
            if xattrs(file.as_fd()).ok() != Some(wanted) {
                return Ok(Some(format!("{} has other extended attributes", shown(at))));
            }
            if kind == FileType::Directory {
                return Ok(None);
            }
            Ok(contents(&file, &fresh_file, at)?.map(|what| format!("{} {what}", shown(at))))
        }
        _ => Ok(None),
    }
}

pub(crate) fn open(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn of_stats(one: &Stat, other: &Stat) -> Option<String> {
    if FileType::from_raw_mode(one.st_mode) != FileType::from_raw_mode(other.st_mode) {
        return Some("is of another type".into());
    }
    if one.st_mode != other.st_mode {
        return Some(format!("has the mode {:o} in place of {:o}", one.st_mode, other.st_mode));
    }
    if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid) {
        return Some(format!(
            "belongs to {}:{} in place of {}:{}",
            one.st_uid, one.st_gid, other.st_uid, other.st_gid
        ));
    }
    if is_dir(one) {
        return None;
    }
    if one.st_size != other.st_size {
        return Some(format!("has {} bytes in place of {}", one.st_size, other.st_size));
    }
    if one.st_nlink != other.st_nlink {
        return Some(format!("has {} names in place of {}", one.st_nlink, other.st_nlink));
    }
    if one.st_rdev != other.st_rdev {
        return Some("is another device".into());
    }
    if (one.st_mtime, one.st_mtime_nsec) != (other.st_mtime, other.st_mtime_nsec) {
        return Some("was changed at another time".into());
    }
    None
}

/// Attributes that a layer has: the image's own, and those by which overlayfs knows what is hidden.
pub(crate) fn xattrs(file: BorrowedFd<'_>) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(file, list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for name in list[..length].split(|&byte| byte == 0) {
        let ours =
            name == b"security.capability" || name.starts_with(b"user.") || name == b"trusted.overlay.opaque";
        if ours {
            let mut value = vec![0; XATTR_MAX];
            let length = rustix::fs::fgetxattr(file, name, value.as_mut_slice())?;
            value.truncate(length);
            found.insert(name.to_vec(), value);
        }
    }
    Ok(found)
}

/// Where two files of one length differ first.
fn contents(
    file: &OwnedFd,
    fresh: &OwnedFd,
    at: &At<'_>,
) -> std::result::Result<Option<String>, layers::Error> {
    // Only a hint (posix_fadvise(2)); without it memory is compared.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
    let (mut one, mut other) = (vec![0; PART], vec![0; PART]);
    let mut offset = 0_u64;
    loop {
        let wanted = fill(fresh, &mut other, offset).map_err(|e| at.failed("read", e))?;
        let length = match fill(file, &mut one, offset) {
            Ok(length) => length,
            Err(error) => return Ok(Some(format!("cannot be read at byte {offset} ({error})"))),
        };
        if one[..length] != other[..wanted] {
            let same = one[..length].iter().zip(&other[..wanted]).take_while(|(a, b)| a == b).count();
            return Ok(Some(format!("has other content from byte {} on", offset + same as u64)));
        }
        if wanted == 0 {
            return Ok(None);
        }
        offset += wanted as u64;
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn fill(file: impl AsFd, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match rustix::io::pread(&file, &mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

    fn make(root: &Path) {
        fs::create_dir_all(root.join("d/e")).expect("folders");
        fs::write(root.join("d/file"), vec![7; 300_000]).expect("file");
        fs::write(root.join("d/e/small"), "x").expect("file");
        fs::hard_link(root.join("d/file"), root.join("link")).expect("link");
        symlink("d/file", root.join("symlink")).expect("symlink");
        let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        for name in ["d/file", "d/e/small"] {
            fs::File::options()
                .write(true)
                .open(root.join(name))
                .expect("open")
                .set_times(time)
                .expect("times");
        }
        let link = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
        };
        rustix::fs::utimensat(rustix::fs::CWD, root.join("symlink"), &link, AtFlags::SYMLINK_NOFOLLOW)
            .expect("times");
    }

    fn differs(change: impl FnOnce(&Path)) -> Option<String> {
        let dir = tempfile::tempdir_in("/var/tmp").expect("temp dir");
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        for root in [&one, &other] {
            fs::create_dir(root).expect("folder");
            make(root);
        }
        change(&one);
        let open = |path: &Path| fs::File::open(path).expect("open");
        difference(open(&one).as_fd(), open(&other).as_fd()).expect("compare")
    }

    fn keeping_time(path: &Path, change: impl FnOnce(&fs::File)) {
        let file = fs::File::options().write(true).open(path).expect("open");
        change(&file);
        file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).expect("times");
    }

    #[test]
    fn equal_trees_do_not_differ_and_every_change_is_found_and_named() {
        assert_eq!(differs(|_| ()), None);
        let flip = |root: &Path| {
            keeping_time(&root.join("d/file"), |f| f.write_all_at(&[8], 299_999).expect("write"));
        };
        assert_eq!(differs(flip).as_deref(), Some("/link has other content from byte 299999 on"));
        for (change, part) in [
            (
                (|root: &Path| fs::remove_file(root.join("d/e/small")).expect("remove")) as fn(&Path),
                "/d/e/small is missing",
            ),
            (|root| fs::write(root.join("d/e/more"), "x").expect("write"), "/d/e/more is there"),
            (
                |root| keeping_time(&root.join("d/e/small"), |f| f.set_len(0).expect("cut")),
                "0 bytes in place of 1",
            ),
            (|root| fs::write(root.join("d/e/small"), "x").expect("write"), "another time"),
            (
                |root| {
                    fs::set_permissions(root.join("d/e"), PermissionsExt::from_mode(0o700)).expect("mode");
                },
                "/d/e has the mode",
            ),
            (|root| fs::remove_file(root.join("link")).expect("remove"), "missing"),
            (
                |root| {
                    fs::remove_dir_all(root.join("d/e")).expect("remove");
                    fs::write(root.join("d/e"), "").expect("write");
                },
                "/d/e is of another type",
            ),
            // Either that it is missing, or that the link beside it has lost its other name: whichever is met first.
            (|root| fs::remove_dir_all(root.join("d")).expect("remove"), "/"),
            (
                |root| {
                    rustix::fs::setxattr(root.join("d"), "user.x", b"y", rustix::fs::XattrFlags::empty())
                        .expect("attribute");
                },
                "/d has other extended attributes",
            ),
        ] {
            let found = differs(change);
            assert!(found.as_deref().is_some_and(|text| text.contains(part)), "{part}: {found:?}");
        }
    }
}
