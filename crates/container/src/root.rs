//! The root of a container: made in its own mount namespace, entered with `pivot_root(2)`.

mod elsewhere;
mod overlay;
mod source;
mod way;

pub use source::{Attach, Parts, assemble, detached, image, mounts_image_files};
#[doc(hidden)]
pub use way::{Way, at_most};

use crate::failure::{Failure, Step, Tried, describe};
use crate::mountinfo;
use crate::mounts::{self, Sources};
use crate::plan::{Layer, Root, RootSource};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
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
    let whole = |parts: Option<Parts>| {
        let parts = parts.map_or_else(|| Parts::open(&root.source, &root.ids), Ok)?;
        assemble(&root.source, parts, Attach::Here)
    };
    let (made, place) = match &root.source {
        // The container's own copy is preferred: the flags of the node's mount are locked on it.
        RootSource::Directory(path) if root.ids.is_empty() => match whole(None) {
            Ok(made) => (made, path.as_str()),
            Err(failure) => (sources.take_root()?.ok_or(failure)?, "/"),
        },
        // Only the supervisor can mount what the user namespace does not own.
        source => match sources.take_root()? {
            Some(made) => (made, "/"),
            None => (whole(sources.take_parts())?, place(source)),
        },
    };
    move_mount(&made, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .tried(|| format!("cannot attach the root at {place:?}"))?;
    propagate_below(&made, root.propagation)?;
    Ok(made)
}

/// Where a root of directories is attached: over one of its own.
fn place(source: &RootSource) -> &str {
    match source {
        RootSource::Overlay { upper, disk: None, .. } if !upper.is_empty() => upper,
        RootSource::Overlay { lower, .. } => match lower.first() {
            Some(Layer::Directory(path)) => path,
            _ => "/",
        },
        RootSource::Directory(path) => path,
        RootSource::Filesystem(_) => "/",
    }
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
