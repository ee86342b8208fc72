//! Device nodes and the customary links of `/dev`, made by descriptor of a directory that must be real
//! (CVE-2026-41579, CVE-2026-47766: an image whose `/dev` is a link).

use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::Device;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

/// Makes each node; one that is there already with the same numbers stays.
pub fn make(root: BorrowedFd<'_>, devices: &[Device]) -> Step {
    let mut parents: Vec<(String, OwnedFd)> = Vec::new();
    for device in devices {
        let (parent, name) = beneath::split(&device.path)?;
        if !parents.iter().any(|(path, _)| path == parent) {
            parents.push((parent.to_owned(), beneath::make_directory(root, parent)?));
        }
        let Some((_, dir)) = parents.iter().find(|(path, _)| path == parent) else { continue };
        make_node(dir.as_fd(), name, device)?;
    }
    Ok(())
}

fn make_node(dir: BorrowedFd<'_>, name: &str, device: &Device) -> Step {
    let kind = match device.kind {
        'c' | 'u' => FileType::CharacterDevice,
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        other => {
            return Err(Failure::request(format!(
                "device {:?}: kind {other:?} is none of c, b, p",
                device.path
            )));
        }
    };
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(device.mode & 0o7777), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .tried(|| format!("cannot examine {:?}", device.path))?;
            if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
                return Err(Failure::request(format!(
                    "device {:?}: something else is there already",
                    device.path
                )));
            }
        }
        Err(errno) => {
            return Err(Failure::system(format!(
                "cannot make the device {:?}: {}",
                device.path,
                describe(errno)
            )));
        }
    }
    // The umask of the supervisor may have cut the mode; nodes are never followed as links.
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(device.mode & 0o7777), AtFlags::empty())
        .tried(|| format!("cannot set the mode of {:?}", device.path))?;
    if device.uid != 0 || device.gid != 0 {
        rustix::fs::chownat(
            dir,
            name,
            Some(Uid::from_raw(device.uid)),
            Some(Gid::from_raw(device.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .tried(|| format!("cannot set the owner of {:?}", device.path))?;
    }
    Ok(())
}

/// `/dev/fd`, `stdin`, `stdout`, `stderr`, `core` and `ptmx` (OCI runtime specification, "Default Devices"
/// and "Dev symbolic links"). What is there already stays.
pub fn link(root: BorrowedFd<'_>) -> Step {
    let dev = beneath::make_directory(root, "/dev")?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
        ("ptmx", "pts/ptmx"),
    ] {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(Failure::system(format!("cannot link /dev/{name}: {}", describe(errno))));
            }
        }
    }
    Ok(())
}
