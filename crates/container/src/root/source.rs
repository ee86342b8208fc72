//! Turns a [`RootSource`] into a mount that is attached nowhere, in two parts: [`Parts`] are what devices have to be
//! opened for and ids are mapped of, and [`assemble`] puts them together. So a supervisor can do the first
//! before the container's cgroup forbids devices, and nothing is ever in the node's mount table.

use super::elsewhere::elsewhere;
use super::overlay;
use super::way::{Way, is_tried};
use crate::failure::{Failure, Step, Tried, describe};
use crate::idmap::Mappings;
use crate::mounts;
use crate::plan::{ErofsImage, Filesystem, Layer, RootIds, RootSource};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use sys::mount::{Attributes, propagation, set_attributes};

/// Whether mounts may be attached for a moment, as older kernels need it: before 6.15 an overlay's layers have to be in
/// the caller's mount namespace (`clone_private_mount` in fs/namespace.c), and before 6.7 an overlay of many
/// directories can only be made at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// The mount namespace is the container's, and cut off from the node's.
    Here,
    /// It is the node's, or may be: nothing is ever attached in it, nor in one that its mounts have peers in. A child does
    /// it in a mount namespace of its own, or a thread where the caller has several.
    Elsewhere,
}

/// Mounts that a source consists of, attached nowhere.
#[derive(Debug, Default)]
pub struct Parts {
    /// By the layer's index.
    lower: Vec<Option<OwnedFd>>,
    /// An overlay's disk, or all of what is no overlay.
    whole: Option<OwnedFd>,
}

impl Parts {
    /// Opens images and file systems, and maps ids. Attaches nothing.
    pub fn open(source: &RootSource, ids: &RootIds) -> Step<Self> {
        let mut mappings = Mappings::default();
        let mut map = |mount: OwnedFd| -> Step<OwnedFd> {
            mappings.apply_root(ids, mount.as_fd())?;
            // A copy of a mount of the node's is a peer of it: what were mounted on it, wherever that is, were seen there.
            let slave = Attributes { propagation: propagation::SLAVE, ..Attributes::default() };
            set_attributes(mount.as_fd(), c"", slave)
                .tried(|| "cannot cut a layer off from the node".into())?;
            Ok(mount)
        };
        let mut parts = Self::default();
        match source {
            RootSource::Overlay { lower, disk, .. } => {
                for layer in lower {
                    parts.lower.push(match layer {
                        Layer::Directory(_) if ids.is_empty() => None,
                        Layer::Directory(path) => Some(map(directory(path, false)?)?),
                        Layer::Erofs(image) => Some(map(self::image(image)?)?),
                    });
                }
                parts.whole = disk.as_ref().map(filesystem).transpose()?;
            }
            // What is mounted below a root stays below it, but only the root itself is mapped.
            RootSource::Directory(path) if !ids.is_empty() => {
                parts.whole = Some(map(directory(path, false)?)?)
            }
            RootSource::Directory(_) => {}
            RootSource::Filesystem(disk) => parts.whole = Some(map(filesystem(disk)?)?),
        }
        Ok(parts)
    }
}

/// The whole as a mount that is attached nowhere.
pub fn detached(source: &RootSource, ids: &RootIds, attach: Attach) -> Step<OwnedFd> {
    assemble(source, Parts::open(source, ids)?, attach)
}

/// Puts parts together.
pub fn assemble(source: &RootSource, parts: Parts, attach: Attach) -> Step<OwnedFd> {
    match source {
        RootSource::Directory(path) => parts.whole.map_or_else(|| directory(path, true), Ok),
        RootSource::Filesystem(disk) => {
            let whole = parts.whole.ok_or_else(|| Failure::system("the root's disk was not mounted"))?;
            if disk.directory.is_empty() { Ok(whole) } else { part_of(disk, whole, attach) }
        }
        RootSource::Overlay { lower, upper, work, disk, options } => {
            let mut opened = parts.lower.into_iter();
            let lower = lower.iter().map(|layer| match (opened.next().flatten(), layer) {
                (Some(mount), Layer::Directory(path)) => Ok(Place::Mount(mount, path.clone())),
                (None, Layer::Directory(path)) => Ok(Place::Path(path.clone())),
                (Some(mount), Layer::Erofs(image)) => Ok(Place::Mount(mount, parent(&image.path)?)),
                (None, Layer::Erofs(image)) => {
                    Err(Failure::system(format!("the layer {:?} was not mounted", image.path)))
                }
            });
            let lower = lower.collect::<Step<Vec<_>>>()?;
            if lower.is_empty() {
                return Err(Failure::system("the image has no layers"));
            }
            let disk = match (disk, parts.whole) {
                (None, _) => None,
                (Some(disk), Some(mount)) => Some((mount, disk.place.clone())),
                (Some(disk), None) => {
                    return Err(Failure::system(format!(
                        "the writable layer's disk {:?} was not mounted",
                        disk.source
                    )));
                }
            };
            overlay::make(&overlay::Wanted { lower, upper, work, disk, options }, attach)
        }
    }
}

/// A layer: by its path, or a mount and the directory where it can be attached.
pub(super) enum Place {
    Path(String),
    Mount(OwnedFd, String),
}

fn parent(path: &str) -> Step<String> {
    match path.rsplit_once('/') {
        Some((folder, name)) if !folder.is_empty() && !name.is_empty() => Ok(folder.to_owned()),
        _ => {
            Err(Failure::request(format!("the layer {path:?} is not an absolute path of a file in a folder")))
        }
    }
}

fn directory(path: &str, recursive: bool) -> Step<OwnedFd> {
    mounts::clone_mount(CWD, path, recursive).map_err(|errno| match errno {
        Errno::NOENT => Failure::request(format!("the root {path:?} does not exist")),
        errno => Failure::system(format!("cannot bind the root {path:?}: {}", describe(errno))),
    })
}

/// An image, mounted read-only: the file itself where the kernel can, else by a loop device.
pub fn image(image: &ErofsImage) -> Step<OwnedFd> {
    let path = &image.path;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path.as_str(), flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Failure::request(format!("the layer {path:?} is not there; pull the image again")),
        errno => Failure::system(format!("cannot open the layer {path:?}: {}", describe(errno))),
    })?;
    if let Some(wanted) = &image.verity {
        let found = sys::verity::measure(file.as_fd())
            .tried(|| format!("cannot measure the layer {path:?} (fs-verity)"))?;
        if found != *wanted {
            return Err(Failure::request(format!(
                "the layer {path:?} is not what was unpacked: fs-verity measures {}, and {} was recorded; pull the \
                 image again",
                hex(&found.1),
                hex(&wanted.1)
            )));
        }
    }
    if !image.by_loop {
        match by_file(file.as_fd()) {
            // Not a block device: no erofs on files.
            Err((_, Errno::NOTBLK)) => {}
            other => return other.map_err(|(what, errno)| refused("erofs", path, what, errno)),
        }
    }
    let device = sys::loop_device::attach(file.as_fd(), true)
        .tried(|| format!("cannot show the layer {path:?} as a loop device"))?;
    new("erofs", &device.path, &[], MountAttrFlags::MOUNT_ATTR_RDONLY)
        .map_err(|(what, errno)| refused("erofs", path, what, errno))
}

/// By its descriptor: it is the file that was measured (`erofs_fc_get_tree` in fs/erofs/super.c, Linux 6.12).
fn by_file(file: BorrowedFd<'_>) -> Result<OwnedFd, (String, Errno)> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    new("erofs", &source, &[], MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Whether this EROFS image can be mounted without a loop device.
pub fn mounts_image_files(image: BorrowedFd<'_>) -> bool {
    by_file(image).is_ok()
}

fn filesystem(disk: &Filesystem) -> Step<OwnedFd> {
    let read_only = disk.options.iter().any(|option| option == "ro");
    let attributes = if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let device = if disk.by_loop {
        let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(disk.source.as_str(), flags, Mode::empty())
            .tried(|| format!("cannot open {:?}", disk.source))?;
        let device = sys::loop_device::attach(file.as_fd(), read_only)
            .tried(|| format!("cannot show {:?} as a loop device", disk.source))?;
        Some(device)
    } else {
        None
    };
    let source = device.as_ref().map_or(disk.source.as_str(), |device| device.path.as_str());
    new(&disk.kind, source, &disk.options, attributes)
        .map_err(|(what, errno)| refused(&disk.kind, &disk.source, what, errno))
}

fn refused(kind: &str, source: &str, what: String, errno: Errno) -> Failure {
    Failure::system(format!("cannot mount {source:?} as {kind} ({what}): {}", describe(errno)))
}

fn new(
    kind: &str,
    source: &str,
    options: &[String],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, (String, Errno)> {
    let at = |what: &str| {
        let what = what.to_owned();
        move |errno| (what, errno)
    };
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("fsopen"))?;
    fsconfig_set_string(&fs, "source", source).map_err(at("source"))?;
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        fsconfig_set_flag(&fs, "ro").map_err(at("ro"))?;
    }
    for option in options.iter().filter(|option| *option != "ro") {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&fs, key, value),
            None => fsconfig_set_flag(&fs, option.as_str()),
        }
        .map_err(at(option))?;
    }
    fsconfig_create(&fs).map_err(at("create"))?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(at("fsmount"))
}

/// One directory of a file system.
fn part_of(disk: &Filesystem, whole: OwnedFd, attach: Attach) -> Step<OwnedFd> {
    let directory = disk.directory.as_str();
    let failed = |errno| {
        Failure::system(format!("cannot take {directory:?} of {:?}: {}", disk.source, describe(errno)))
    };
    let cloned = match is_tried(Way::Descriptors) {
        true => mounts::clone_mount(whole.as_fd(), directory, false),
        false => Err(Errno::INVAL),
    };
    match cloned {
        // Before Linux 6.15 what is attached nowhere cannot be cloned (`may_copy_tree` in fs/namespace.c).
        Err(Errno::INVAL) if attach == Attach::Elsewhere => {
            elsewhere(|| part_of_attached(disk, &whole).map_err(failed))
        }
        Err(Errno::INVAL) => part_of_attached(disk, &whole).map_err(failed),
        other => other.map_err(failed),
    }
}

fn part_of_attached(disk: &Filesystem, whole: &OwnedFd) -> Result<OwnedFd, Errno> {
    attach_at(whole.as_fd(), &disk.place)?;
    let part = mounts::clone_mount(whole.as_fd(), &disk.directory, false);
    unmount(disk.place.as_str(), UnmountFlags::DETACH)?;
    part
}

pub(super) fn attach_at(mount: BorrowedFd<'_>, place: &str) -> Result<(), Errno> {
    move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut all, byte| {
        // Writing to a string cannot fail.
        let _ = write!(all, "{byte:02x}");
        all
    })
}
