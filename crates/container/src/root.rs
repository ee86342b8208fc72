//! The root of a container: made in its own mount namespace, entered with `pivot_root(2)`.

use crate::failure::{Failure, Step, Tried, describe};
use crate::mounts;
use crate::plan::{Root, RootSource};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use sys::mount::{Attributes, attr, propagation, set_attributes};

/// Cuts the new mount namespace off from the node's: nothing that is mounted or unmounted here shows there, always.
/// Slave, so that host-to-container propagation of volumes works; sources that are to propagate both ways were
/// opened before ([`crate::mounts::open_shared`]) and keep their peers.
pub fn detach_from_node() -> Step {
    set_attributes(
        CWD,
        c"/",
        Attributes { propagation: propagation::SLAVE, recursive: true, ..Attributes::default() },
    )
    .tried(|| "cannot make the mounts of the new namespace private".into())
}

/// Makes the root mount and attaches it where it hides nothing that is needed; the descriptor is the root.
pub fn mount(root: &Root) -> Step<OwnedFd> {
    let (made, place) = match &root.source {
        RootSource::Overlay { lower, upper, work } => {
            let place = if upper.is_empty() { lower.first() } else { Some(upper) };
            let place = place.ok_or_else(|| Failure::system("the image has no layers"))?;
            (overlay(lower, upper, work)?, place.as_str())
        }
        RootSource::Directory(path) => {
            let clone = mounts::clone_mount(CWD, path, true).map_err(|errno| match errno {
                Errno::NOENT => Failure::request(format!("the root {path:?} does not exist")),
                errno => Failure::system(format!("cannot bind the root {path:?}: {}", describe(errno))),
            })?;
            (clone, path.as_str())
        }
    };
    move_mount(&made, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .tried(|| format!("cannot attach the root at {place:?}"))?;
    Ok(made)
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
    use rustix::fd::AsRawFd;
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
    let (kind, recursive) = mounts::split_propagation(wanted);
    // Volumes keep the propagation that their own mounts asked for, so only the root itself changes here
    // unless the plan says otherwise.
    let recursive = recursive && root.propagation != 0;
    set_attributes(CWD, c"/", Attributes { propagation: kind, recursive, ..Attributes::default() })
        .tried(|| "cannot set the propagation of the root".into())
}
