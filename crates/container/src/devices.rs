//! Device nodes and the customary links of `/dev`, made by descriptor of a directory within the root, wherever a link of
//! the image leads there (CVE-2026-41579, CVE-2026-47766: an image whose `/dev` is a link to the node's).

use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::mounts;
use crate::plan::Device;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Makes each node; one that is there already with the same numbers stays.
pub fn make(root: BorrowedFd<'_>, devices: &[Device]) -> Step {
    // A node has its mode from its first moment: to change it by name later would follow a link that somebody
    // put there meanwhile, where `/dev` is a volume that others share.
    let umask = rustix::process::umask(Mode::empty());
    let made = make_all(root, devices);
    rustix::process::umask(umask);
    made
}

fn make_all(root: BorrowedFd<'_>, devices: &[Device]) -> Step {
    let mut parents: Vec<(String, OwnedFd)> = Vec::new();
    for device in devices {
        let (parent, name) = beneath::split(&device.path)?;
        if (parent, name, device.kind) == ("/dev", "ptmx", 'c') {
            // A node would be the node's own multiplexer; `link` makes the one of the container's devpts.
            continue;
        }
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
            let there = FileType::from_raw_mode(stat.st_mode);
            if there == FileType::RegularFile && stat.st_size == 0 {
                // The place of a device that was bound there once.
                return bind_node(dir, name, kind, number, device);
            }
            if there != kind || stat.st_rdev != number {
                return Err(Failure::request(format!(
                    "device {:?}: something else is there already",
                    device.path
                )));
            }
        }
        // No nodes can be made in a user namespace (mknod(2)).
        Err(Errno::PERM) => return bind_node(dir, name, kind, number, device),
        Err(errno) => {
            return Err(Failure::system(format!(
                "cannot make the device {:?}: {}",
                device.path,
                describe(errno)
            )));
        }
    }
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

/// Shows the node's own device in place of a new one, with the node's owner and mode. What is bound is checked by the
/// descriptor that is bound: type and numbers are those that were asked for.
fn bind_node(dir: BorrowedFd<'_>, name: &str, kind: FileType, number: u64, device: &Device) -> Step {
    let path = &device.path;
    let folder = if kind == FileType::BlockDevice { "block" } else { "char" };
    // The second is udev's, for a device that has another path in the container.
    let places = [path.clone(), format!("/dev/{folder}/{}:{}", device.major, device.minor)];
    let found = places.iter().find_map(|place| {
        let clone = mounts::clone_mount(CWD, place, false).ok()?;
        let stat = rustix::fs::statat(&clone, "", AtFlags::EMPTY_PATH).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == number).then_some(clone)
    });
    let Some(clone) = found else {
        return Err(Failure::request(format!(
            "device {path:?}: a container in a user namespace shows the node's own devices, and the node has no \
             device {}:{} at this path",
            device.major, device.minor
        )));
    };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => {
            return Err(Failure::system(format!("cannot make the device {path:?}: {}", describe(errno))));
        }
    }
    let point =
        rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .tried(|| format!("cannot open {path:?}"))?;
    if beneath::kind(&point).tried(|| format!("cannot examine {path:?}"))? == FileType::Symlink {
        return Err(Failure::request(format!(
            "device {path:?}: the image has a link there; that is refused"
        )));
    }
    mounts::attach(&clone, &point).tried(|| format!("cannot bind the node's device at {path:?}"))
}

/// `/dev/fd`, `stdin`, `stdout`, `stderr`, `core` and `ptmx` (OCI runtime specification, "Default Devices"
/// and "Dev symbolic links"). What is there already stays. With `console`, the file that the terminal is bound to later.
pub fn link(root: BorrowedFd<'_>, console: bool) -> Step {
    let dev = beneath::make_directory(root, "/dev")?;
    if console {
        // While the root and /dev can still be written.
        beneath::make_file(root, "/dev/console")?;
    }
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
