//! Binds of the node's files and directories, and changes of what is mounted already.

use super::{Context, propagate, set};
use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::idmap::Mappings;
use crate::plan::{Mount, Namespaces};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, StatVfsMountFlags};
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fspick};
use sys::mount::attr;

pub(super) fn bind(
    context: &Context<'_>,
    mappings: &mut Mappings,
    own: &Namespaces,
    mount: &Mount,
    path: &str,
    (source, idmapped): (OwnedFd, bool),
) -> Step {
    let target = &mount.target;
    if !idmapped {
        mappings.apply(own, mount, source.as_fd())?;
    }
    let kind = beneath::kind(&source).tried(|| format!("mount {target:?}: cannot examine {path:?}"))?;
    let point = super::mount_point(context.root, target, kind == FileType::Directory)?;
    if context.user_namespace {
        keep_locked(mount, path, &source)?;
    }
    set(source.as_fd(), mount.set, mount.clear, false, target)?;
    set(source.as_fd(), mount.set_recursive, mount.clear_recursive, true, target)?;
    super::attach(&source, &point).tried(|| format!("mount {target:?}: cannot attach {path:?}"))?;
    // Propagation is set on the attached mount: a slave needs its peer group, which a detached clone of a
    // shared mount keeps, and private is the default of `spec`.
    propagate(source.as_fd(), &mount.propagation, target)
}

/// Flags of the node's mount that a user namespace may not take back stay, and asking for it is refused
/// (mount_namespaces(7), "Restrictions on mount namespaces"; runc refuses the same, `rootfs_linux.go`). Said here, as
/// the kernel would not say it for a source that the supervisor opened.
fn keep_locked(mount: &Mount, path: &str, source: &OwnedFd) -> Step {
    let clear = mount.clear | mount.clear_recursive;
    if clear == 0 {
        return Ok(());
    }
    let target = &mount.target;
    let now = rustix::fs::fstatvfs(source)
        .tried(|| format!("mount {target:?}: cannot examine the flags of {path:?}"))?
        .f_flag;
    let locked = [
        (attr::RDONLY, StatVfsMountFlags::RDONLY, "ro"),
        (attr::NOSUID, StatVfsMountFlags::NOSUID, "nosuid"),
        (attr::NODEV, StatVfsMountFlags::NODEV, "nodev"),
        (attr::NOEXEC, StatVfsMountFlags::NOEXEC, "noexec"),
        (attr::NODIRATIME, StatVfsMountFlags::NODIRATIME, "nodiratime"),
    ];
    // A flag that is set again is not taken back.
    let gone = clear & !mount.set;
    for (bit, flag, name) in locked {
        if gone & bit != 0 && now.contains(flag) {
            return Err(Failure::request(format!(
                "mount {target:?}: the node's mount of {path:?} is {name}, which a container in a user namespace cannot take back"
            )));
        }
    }
    Ok(())
}

/// Changes the mount at the target (`remount`).
pub(super) fn remount(context: &Context<'_>, mount: &Mount, bind: bool, options: &[String]) -> Step {
    let target = &mount.target;
    let point = beneath::open_path(context.root, target)
        .map_err(|errno| Failure::request(format!("remount {target:?}: {}", describe(errno))))?;
    set(point.as_fd(), mount.set, mount.clear, false, target)?;
    set(point.as_fd(), mount.set_recursive, mount.clear_recursive, true, target)?;
    if !bind && !options.is_empty() {
        let change = || {
            let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
            let system = fspick(&point, "", flags)?;
            for option in options {
                match option.split_once('=') {
                    Some((key, value)) => fsconfig_set_string(&system, key, value)?,
                    None => fsconfig_set_flag(&system, option.as_str())?,
                }
            }
            fsconfig_reconfigure(&system)
        };
        change().map_err(|errno: rustix::io::Errno| {
            Failure::request(format!("remount {target:?} with {}: {}", options.join(","), describe(errno)))
        })?;
    }
    propagate(point.as_fd(), &mount.propagation, target)
}
