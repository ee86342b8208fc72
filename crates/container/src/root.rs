//! The root of a container: made in its own mount namespace, entered with `pivot_root(2)`.

use crate::failure::{Failure, Step, Tried, describe};
use crate::mountinfo;
use crate::mounts::{self, Sources};
use crate::plan::{Root, RootSource};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use sys::mount::{Attributes, attr, propagation, set_attributes};

/// Cuts the new mount namespace off from the node's: nothing that is mounted or unmounted here shows there, always.
/// Slave, so that host-to-container propagation of volumes works; sources that are to propagate both ways were
/// opened before ([`crate::mounts::Sources::open_early`]) and keep their peers.
pub fn detach_from_node() -> Step {
    set_attributes(
        CWD,
        c"/",
        Attributes { propagation: propagation::SLAVE, recursive: true, ..Attributes::default() },
    )
    .tried(|| "cannot make the mounts of the new namespace private".into())
}

/// Makes the root mount and attaches it where it hides nothing that is needed; the descriptor is the root.
pub fn mount(root: &Root, sources: &mut Sources) -> Step<OwnedFd> {
    let (made, place) = match &root.source {
        // Only the supervisor can mount an overlay of directories that the user namespace does not own.
        source @ RootSource::Overlay { .. } => match sources.take_root()? {
            Some(made) => (made, "/"),
            None => (detached(source)?, overlay_place(source)?),
        },
        source @ RootSource::Directory(path) => match detached(source) {
            Ok(made) => (made, path.as_str()),
            Err(failure) => (sources.take_root()?.ok_or(failure)?, "/"),
        },
    };
    move_mount(&made, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .tried(|| format!("cannot attach the root at {place:?}"))?;
    propagate_below(&made, root.propagation)?;
    Ok(made)
}

/// The root as a mount that is attached nowhere.
pub(crate) fn detached(source: &RootSource) -> Step<OwnedFd> {
    match source {
        RootSource::Overlay { lower, upper, work } => {
            overlay_place(source)?;
            overlay(lower, upper, work)
        }
        RootSource::Directory(path) => mounts::clone_mount(CWD, path, true).map_err(|errno| match errno {
            Errno::NOENT => Failure::request(format!("the root {path:?} does not exist")),
            errno => Failure::system(format!("cannot bind the root {path:?}: {}", describe(errno))),
        }),
    }
}

fn overlay_place(source: &RootSource) -> Step<&str> {
    let RootSource::Overlay { lower, upper, .. } = source else { return Ok("/") };
    let place = if upper.is_empty() { lower.first() } else { Some(upper) };
    place.map(String::as_str).ok_or_else(|| Failure::system("the image has no layers"))
}

/// A recursive propagation reaches what is mounted below the root on the node; the mounts that the plan makes there
/// later have their own. The root itself gets its propagation last, for pivot_root(2) takes no shared one, and what is
/// unbindable could not be masked.
fn propagate_below(root: &OwnedFd, wanted: u32) -> Step {
    let (kind, recursive) = mounts::split_propagation(wanted);
    if !recursive {
        return Ok(());
    }
    let change = |propagation, recursive| {
        set_attributes(root.as_fd(), c"", Attributes { propagation, recursive, ..Attributes::default() })
            .tried(|| "cannot set the propagation below the root".into())
    };
    change(kind, true)?;
    if kind & (propagation::SHARED | propagation::UNBINDABLE) != 0 {
        change(propagation::SLAVE, false)
    } else {
        Ok(())
    }
}

fn overlay(lower: &[String], upper: &str, work: &str) -> Step<OwnedFd> {
    match overlay_by_fsconfig(lower, upper, work) {
        // "lowerdir+" came with Linux 6.7. Until 6.5 overlayfs took any key and refused the whole at the end.
        Err(("lowerdir+" | "create", Errno::INVAL)) => overlay_joined(lower, upper, work),
        Err((key, errno)) => {
            Err(Failure::system(format!("cannot mount the overlay ({key}): {}", describe(errno))))
        }
        Ok(fd) => Ok(fd),
    }
}

fn overlay_by_fsconfig(lower: &[String], upper: &str, work: &str) -> Result<OwnedFd, (&'static str, Errno)> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| ("fsopen", e))?;
    fsconfig_set_string(&fs, "source", "overlay").map_err(|e| ("source", e))?;
    for dir in lower {
        fsconfig_set_string(&fs, "lowerdir+", dir.as_str()).map_err(|e| ("lowerdir+", e))?;
    }
    if !upper.is_empty() {
        fsconfig_set_string(&fs, "upperdir", upper).map_err(|e| ("upperdir", e))?;
        fsconfig_set_string(&fs, "workdir", work).map_err(|e| ("workdir", e))?;
        // A container's writable layer is not meant to survive a power cut; syncing it at every copy-up and
        // at umount costs the pod path dearly (overlayfs documentation, "Volatile mount").
        fsconfig_set_flag(&fs, "volatile").map_err(|e| ("volatile", e))?;
    }
    fsconfig_create(&fs).map_err(|e| ("create", e))?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(|e| ("fsmount", e))
}

/// Before Linux 6.7 all lower directories are one string. fsconfig(2) takes 256 bytes, mount(2) a page; each
/// directory is therefore named by a descriptor, and the mount is made at its place and picked up again.
fn overlay_joined(lower: &[String], upper: &str, work: &str) -> Step<OwnedFd> {
    let mut held = Vec::with_capacity(lower.len());
    let mut options = String::from("lowerdir=");
    for (at, dir) in lower.iter().enumerate() {
        let fd = rustix::fs::open(
            dir.as_str(),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .tried(|| format!("cannot open the layer {dir:?}"))?;
        if at > 0 {
            options.push(':');
        }
        options.push_str(&format!("/proc/self/fd/{}", fd.as_raw_fd()));
        held.push(fd);
    }
    if !upper.is_empty() {
        options.push_str(&format!(",upperdir={upper},workdir={work},volatile"));
    }
    if options.len() > 4095 {
        return Err(Failure::request(
            "the image has too many layers for this kernel; Linux 6.7 and later have no such limit",
        ));
    }
    let place = if upper.is_empty() { &lower[0] } else { upper };
    let text =
        std::ffi::CString::new(options).map_err(|_| Failure::system("a layer's path has a NUL byte"))?;
    rustix::mount::mount("overlay", place, "overlay", MountFlags::empty(), text.as_c_str())
        .tried(|| "cannot mount the overlay".into())?;
    let picked = mounts::clone_mount(CWD, place, false).tried(|| "cannot pick up the overlay".into())?;
    unmount(place, UnmountFlags::DETACH).tried(|| "cannot move the overlay".into())?;
    Ok(picked)
}

/// Enters the root, leaves the node's behind, and sets the final propagation and read-only state.
pub fn enter(fd: &OwnedFd, root: &Root) -> Step {
    if root.readonly {
        set_attributes(fd.as_fd(), c"", Attributes { set: attr::RDONLY, ..Attributes::default() })
            .tried(|| "cannot make the root read-only".into())?;
    }
    rustix::process::fchdir(fd).tried(|| "cannot enter the root".into())?;
    if root.no_pivot {
        cover_kernel_mounts(fd)?;
        move_mount(CWD, ".", CWD, "/", MoveMountFlags::empty())
            .tried(|| "cannot move the root to /".into())?;
        rustix::process::chroot(".").tried(|| "cannot chroot".into())?;
    } else {
        // pivot_root(".", "."): the old root lands on top of the new one and is unmounted (pivot_root(2), NOTES).
        rustix::process::pivot_root(".", ".").tried(|| "cannot pivot into the root".into())?;
        unmount(".", UnmountFlags::DETACH).tried(|| "cannot leave the node's root".into())?;
    }
    rustix::process::chdir("/").tried(|| "cannot change to / of the container".into())?;
    let wanted = if root.propagation == 0 {
        (propagation::PRIVATE | propagation::RECURSIVE) as u32
    } else {
        root.propagation
    };
    // Volumes have the propagation that their own mounts asked for, and what else lies below has it already.
    let (kind, _) = mounts::split_propagation(wanted);
    set_attributes(CWD, c"/", Attributes { propagation: kind, ..Attributes::default() })
        .tried(|| "cannot set the propagation of the root".into())
}

/// Without pivot_root(2) the node's mounts stay below the root, out of reach by path. A whole `/proc` or `/sys` among them
/// would let the container mount another one without the masks of its own (`mount_too_revealing` in fs/namespace.c;
/// runc does the same, `msMoveRoot`).
fn cover_kernel_mounts(root: &OwnedFd) -> Step {
    let own = rustix::fs::readlink(format!("/proc/self/fd/{}", root.as_raw_fd()), Vec::new())
        .tried(|| "cannot find the root's own path".into())?;
    let own = own.to_string_lossy().into_owned();
    let mut whole = mountinfo::read()?;
    whole.retain(|entry| entry.root == "/" && matches!(entry.kind.as_str(), "proc" | "sysfs"));
    // What is mounted last is on top.
    for entry in whole.iter().rev() {
        let inside = entry.place.strip_prefix(&own).is_some_and(|rest| own == "/" || rest.starts_with('/'));
        if inside {
            continue;
        }
        match unmount(entry.place.as_str(), UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::INVAL | Errno::PERM) => {
                let cover = mounts::empty_directory()?;
                move_mount(&cover, "", CWD, entry.place.as_str(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .tried(|| format!("cannot cover the node's {:?}", entry.place))?;
            }
            Err(errno) => {
                return Err(Failure::system(format!(
                    "cannot unmount the node's {:?}: {}",
                    entry.place,
                    describe(errno)
                )));
            }
        }
    }
    Ok(())
}
