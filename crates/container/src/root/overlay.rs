//! An overlay as a mount that is attached nowhere, whatever the kernel can take: descriptors of mounts (Linux 6.15),
//! one path after the other (6.7), or all in one string.

use super::elsewhere::elsewhere;
use super::source::{Attach, Place, attach_at};
use super::way::{Way, is_tried};
use crate::failure::{Failure, Step, Tried, describe};
use crate::mounts;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, unmount,
};

/// What is to be made.
pub(super) struct Wanted<'a> {
    /// Topmost first, never empty.
    pub lower: Vec<Place>,
    /// Empty for a read-only one.
    pub upper: &'a str,
    pub work: &'a str,
    /// What `upper` and `work` lie in, and where it can be attached.
    pub disk: Option<(OwnedFd, String)>,
    pub options: &'a [String],
}

/// The same by paths alone.
struct Paths<'a> {
    lower: Vec<&'a str>,
    upper: String,
    work: String,
    options: &'a [String],
}

type Tally<T> = Result<T, (&'static str, Errno)>;

pub(super) fn make(wanted: &Wanted<'_>, attach: Attach) -> Step<OwnedFd> {
    let mounted = wanted.disk.is_some() || wanted.lower.iter().any(|l| matches!(l, Place::Mount(..)));
    // What attaches nothing comes first.
    let made = match mounted {
        true if is_tried(Way::Descriptors) => by_descriptors(wanted),
        false if is_tried(Way::OneByOne) => one_by_one(&paths(wanted)),
        _ => Err(("layers", Errno::INVAL)),
    };
    match made {
        Ok(fd) => Ok(fd),
        // Linux 6.13 takes descriptors for layers, 6.15 those of O_PATH and of mounts that are attached nowhere, 6.7 one
        // path after the other. Before 6.5 overlayfs took strings alone (`legacy_parse_param` in fs/fs_context.c), any key
        // among them, and refused the whole at the end.
        Err(("layers" | "create", Errno::INVAL | Errno::BADF | Errno::OPNOTSUPP)) => match attach {
            Attach::Here => attached(wanted),
            Attach::Elsewhere => elsewhere(|| attached(wanted)),
        },
        Err((key, errno)) => Err(failed(key, errno)),
    }
}

fn failed(key: &str, errno: Errno) -> Failure {
    Failure::system(format!("cannot mount the overlay ({key}): {}", describe(errno)))
}

fn paths<'a>(wanted: &'a Wanted<'_>) -> Paths<'a> {
    let lower = wanted.lower.iter().map(|(Place::Path(path) | Place::Mount(_, path))| path.as_str());
    let within = |name: &str| match &wanted.disk {
        Some((_, place)) => format!("{place}/{name}"),
        None => name.to_owned(),
    };
    let (upper, work) = if wanted.upper.is_empty() {
        (String::new(), String::new())
    } else {
        (within(wanted.upper), within(wanted.work))
    };
    Paths { lower: lower.collect(), upper, work, options: wanted.options }
}

fn begin(options: &[String]) -> Tally<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| ("fsopen", e))?;
    fsconfig_set_string(&fs, "source", "overlay").map_err(|e| ("source", e))?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&fs, key, value),
            None => fsconfig_set_flag(&fs, option.as_str()),
        }
        .map_err(|e| ("options", e))?;
    }
    Ok(fs)
}

fn end(fs: &OwnedFd, writable: bool) -> Tally<OwnedFd> {
    if writable {
        // A container's writable layer is not meant to survive a power cut; syncing it at every copy-up and
        // at umount costs the pod path dearly (overlayfs documentation, "Volatile mount").
        fsconfig_set_flag(fs, "volatile").map_err(|e| ("volatile", e))?;
    }
    fsconfig_create(fs).map_err(|e| ("create", e))?;
    fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(|e| ("fsmount", e))
}

fn by_descriptors(wanted: &Wanted<'_>) -> Tally<OwnedFd> {
    let fs = begin(wanted.options)?;
    for layer in &wanted.lower {
        match layer {
            Place::Path(path) => fsconfig_set_string(&fs, "lowerdir+", path.as_str()),
            Place::Mount(mount, _) => fsconfig_set_fd(&fs, "lowerdir+", mount.as_fd()),
        }
        .map_err(|e| ("layers", e))?;
    }
    if !wanted.upper.is_empty() {
        for (key, name) in [("upperdir", wanted.upper), ("workdir", wanted.work)] {
            match &wanted.disk {
                None => fsconfig_set_string(&fs, key, name).map_err(|e| ("upper", e))?,
                Some((disk, _)) => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let dir = rustix::fs::openat(disk, name, flags, Mode::empty())
                        .map_err(|e| ("the writable layer's disk", e))?;
                    fsconfig_set_fd(&fs, key, dir.as_fd()).map_err(|e| ("layers", e))?;
                }
            }
        }
    }
    end(&fs, !wanted.upper.is_empty())
}

/// With all mounts at their places, and by a string where the kernel takes nothing else, in a mount namespace that is not
/// the node's. They leave it again; the overlay has copies of its own.
fn attached(wanted: &Wanted<'_>) -> Step<OwnedFd> {
    let mounts = wanted.lower.iter().filter_map(|layer| match layer {
        Place::Path(_) => None,
        Place::Mount(mount, place) => Some((mount, place)),
    });
    let disk = wanted.disk.iter().map(|(mount, place)| (mount, place));
    let mut places = Vec::new();
    let mut all = mounts.chain(disk);
    let made = all
        .try_for_each(|(mount, place)| {
            attach_at(mount.as_fd(), place).tried(|| format!("cannot attach a layer at {place:?}"))?;
            places.push(place.as_str());
            Ok(())
        })
        .and_then(|()| match places.is_empty() {
            // Path by path was tried already.
            true => joined(&paths(wanted)),
            false => by_paths(&paths(wanted)),
        });
    for place in places.iter().rev() {
        unmount(*place, UnmountFlags::DETACH).tried(|| format!("cannot detach the layer at {place:?}"))?;
    }
    made
}

fn by_paths(paths: &Paths<'_>) -> Step<OwnedFd> {
    if !is_tried(Way::OneByOne) {
        return joined(paths);
    }
    match one_by_one(paths) {
        Err(("layers" | "create", Errno::INVAL)) => joined(paths),
        Err((key, errno)) => Err(failed(key, errno)),
        Ok(fd) => Ok(fd),
    }
}

fn one_by_one(paths: &Paths<'_>) -> Tally<OwnedFd> {
    let fs = begin(paths.options)?;
    for dir in &paths.lower {
        fsconfig_set_string(&fs, "lowerdir+", *dir).map_err(|e| ("layers", e))?;
    }
    if !paths.upper.is_empty() {
        fsconfig_set_string(&fs, "upperdir", paths.upper.as_str()).map_err(|e| ("upperdir", e))?;
        fsconfig_set_string(&fs, "workdir", paths.work.as_str()).map_err(|e| ("workdir", e))?;
    }
    end(&fs, !paths.upper.is_empty())
}

/// Before Linux 6.7 all lower directories are one string. fsconfig(2) takes 256 bytes, mount(2) a page; each
/// directory is therefore named by a descriptor, and the mount is made at its place and picked up again.
fn joined(paths: &Paths<'_>) -> Step<OwnedFd> {
    let mut held = Vec::with_capacity(paths.lower.len());
    let mut options = String::from("lowerdir=");
    for (at, dir) in paths.lower.iter().enumerate() {
        let fd = rustix::fs::open(*dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .tried(|| format!("cannot open the layer {dir:?}"))?;
        if at > 0 {
            options.push(':');
        }
        options.push_str(&format!("/proc/self/fd/{}", fd.as_raw_fd()));
        held.push(fd);
    }
    if !paths.upper.is_empty() {
        options.push_str(&format!(",upperdir={},workdir={},volatile", paths.upper, paths.work));
    }
    for option in paths.options {
        options.push_str(&format!(",{option}"));
    }
    if options.len() > 4095 {
        return Err(Failure::request(
            "the image has too many layers for this kernel; Linux 6.7 and later have no such limit",
        ));
    }
    let place = if paths.upper.is_empty() { paths.lower[0] } else { paths.upper.as_str() };
    let text =
        std::ffi::CString::new(options).map_err(|_| Failure::system("a layer's path has a NUL byte"))?;
    rustix::mount::mount("overlay", place, "overlay", MountFlags::empty(), text.as_c_str())
        .tried(|| "cannot mount the overlay".into())?;
    let picked = mounts::clone_mount(CWD, place, false).tried(|| "cannot pick up the overlay".into());
    unmount(place, UnmountFlags::DETACH).tried(|| "cannot move the overlay".into())?;
    picked
}
