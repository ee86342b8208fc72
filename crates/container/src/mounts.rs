//! The mounts of a container, by the new mount API (open_tree(2), fsopen(2), move_mount(2)): each is made
//! detached, given all its attributes, and only then attached to a target that was resolved within the root.

mod bind;
mod cgroup;
mod copy_up;
mod filesystem;
mod image;
mod sources;

pub use sources::{Sources, prepare};

use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::idmap::Mappings;
use crate::plan::{LaunchPlan, MountSource, Namespace};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use sys::mount::{Attributes, attr, propagation, set_attributes};

/// What the mounts of one container have in common.
struct Context<'a> {
    root: BorrowedFd<'a>,
    /// The container is in a user namespace of its own.
    user_namespace: bool,
    cgroup: &'a Namespace,
    pid: &'a Namespace,
}

/// Mounts that become read-only when everything is in them.
#[must_use = "a read-only tmpfs is writable until `finish`"]
#[derive(Debug, Default)]
pub struct Late {
    mounts: Vec<(OwnedFd, String)>,
}

impl Late {
    fn add(&mut self, mount: OwnedFd, target: &str) {
        self.mounts.push((mount, target.to_owned()));
    }

    /// To be called after devices and links were made.
    pub fn finish(self) -> Step {
        for (mount, target) in self.mounts {
            set(mount.as_fd(), attr::RDONLY, 0, false, &target)?;
        }
        Ok(())
    }
}

/// Makes every mount of the plan below `root`, in order.
pub fn make(root: BorrowedFd<'_>, plan: &LaunchPlan, mut sources: Sources) -> Step<Late> {
    let context = Context {
        root,
        user_namespace: plan.namespaces.user != Namespace::Inherit,
        cgroup: &plan.namespaces.cgroup,
        pid: &plan.namespaces.pid,
    };
    let mut mappings = Mappings::default();
    let mut late = Late::default();
    for (index, mount) in plan.mounts.iter().enumerate() {
        match &mount.source {
            MountSource::Bind { path, recursive } => {
                let source = sources.take(index, mount, path, *recursive)?;
                bind::bind(&context, &mut mappings, &plan.namespaces, mount, path, source)?;
            }
            MountSource::Filesystem { kind, options, .. } if kind == "cgroup2" && options.is_empty() => {
                cgroup::unified(&context, mount)?;
            }
            MountSource::Filesystem { kind, source, options } => {
                filesystem::mount(&context, mount, kind, source, options, &mut late)?;
            }
            MountSource::Cgroup => cgroup::make(&context, mount, &mut late)?,
            MountSource::Remount { bind, options } => bind::remount(&context, mount, *bind, options)?,
            MountSource::Image { source, folder, image } => {
                let opened = sources.take_volume(index);
                image::mount(&context, mount, &image::Wanted { source, folder, image }, opened)?;
            }
        }
    }
    Ok(late)
}

/// A detached copy of the mount at `path` below `dir`; an empty path is what `dir` refers to.
pub fn clone_mount(dir: BorrowedFd<'_>, path: &str, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir, path, flags)
}

/// Attaches a detached mount on top of what `target` refers to.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// The mount point at `target`, made where it is missing.
///
/// The image's links are followed within the root, but not into `/proc`: a volume there would take what is written to
/// the kernel later (CVE-2019-16884, CVE-2025-52881). A path that has no link says itself where it leads, and
/// was judged when the plan was made; so only one with links costs a second look.
fn mount_point(root: BorrowedFd<'_>, target: &str, directory: bool) -> Step<OwnedFd> {
    match without_links(root, target) {
        Ok(point) => return Ok(point),
        // Only the last name is missing, mostly.
        Err(Errno::NOENT) => {
            let (parent, name) = beneath::split(target)?;
            if let Ok(parent) = without_links(root, parent)
                && let Ok(point) = beneath::make_in(parent.as_fd(), name, directory)
            {
                return Ok(point);
            }
        }
        Err(Errno::LOOP) => {}
        Err(errno) => return Err(Failure::request(format!("mount {target:?}: {}", describe(errno)))),
    }
    let made =
        if directory { beneath::make_directory(root, target) } else { beneath::make_file(root, target) };
    let point =
        made.map_err(|failure| Failure { message: format!("mount {target:?}: {failure}"), ..failure })?;
    /// `PROC_SUPER_MAGIC` of `linux/magic.h`.
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let system =
        rustix::fs::fstatfs(&point).tried(|| format!("mount {target:?}: cannot examine the mount point"))?;
    if system.f_type as u64 == PROC_SUPER_MAGIC {
        return Err(Failure::request(format!(
            "mount {target:?}: the image has a link there that leads into /proc; that is refused"
        )));
    }
    Ok(point)
}

/// The mount point at `target`, which may have no link in it.
fn real_mount_point(root: BorrowedFd<'_>, target: &str) -> Step<OwnedFd> {
    let found = match without_links(root, target) {
        Err(Errno::NOENT) => {
            return beneath::make_real_directory(root, target)
                .map_err(|failure| Failure { message: format!("mount {target:?}: {failure}"), ..failure });
        }
        found => found,
    };
    found.map_err(|errno| match errno {
        Errno::LOOP => {
            Failure::request(format!("mount {target:?}: the image has a link there; that is refused"))
        }
        errno => Failure::system(format!("mount {target:?}: {}", describe(errno))),
    })
}

fn without_links(root: BorrowedFd<'_>, target: &str) -> Result<OwnedFd, Errno> {
    let path = target.trim_start_matches('/');
    rustix::fs::openat2(
        root,
        if path.is_empty() { "." } else { path },
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )
}

/// A read-only, empty directory that is mounted nowhere.
pub(crate) fn empty_directory() -> Step<OwnedFd> {
    let make = || {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "size", "0")?;
        fsconfig_set_string(&fs, "nr_inodes", "2")?;
        fsconfig_set_string(&fs, "mode", "0555")?;
        fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().tried(|| "cannot make an empty file system for masked paths".into())
}

fn set(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool, target: &str) -> Step {
    if set == 0 && clear == 0 {
        return Ok(());
    }
    // Access times are one field: setting a mode needs the field cleared (mount_setattr(2)).
    let clear = if set & attr::ATIME_MASK != 0 { clear | attr::ATIME_MASK } else { clear };
    set_attributes(mount, c"", Attributes { set, clear, recursive, ..Attributes::default() })
        .tried(|| format!("mount {target:?}: cannot set its attributes (set {set:#x}, clear {clear:#x})"))
}

/// One change after the other, on a mount that is attached.
fn propagate(mount: BorrowedFd<'_>, changes: &[u32], target: &str) -> Step {
    for change in changes {
        let (kind, recursive) = split_propagation(*change);
        set_attributes(mount, c"", Attributes { propagation: kind, recursive, ..Attributes::default() })
            .tried(|| format!("mount {target:?}: cannot set its propagation"))?;
    }
    Ok(())
}

/// A propagation type of mount(2) in the form that mount_setattr(2) wants, and whether it is recursive.
pub fn split_propagation(flags: u32) -> (u64, bool) {
    let flags = u64::from(flags);
    (flags & !propagation::RECURSIVE, flags & propagation::RECURSIVE != 0)
}
