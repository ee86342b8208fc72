//! New file systems: made detached with all attributes, filled if asked, then attached.

use super::{Context, Late, copy_up, mount_point, propagate, set};
use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::{Mount, Namespace};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::ffi::CString;
use sys::mount::attr;

/// Makes and attaches one.
pub(super) fn mount(
    context: &Context<'_>,
    mount: &Mount,
    kind: &str,
    source: &str,
    options: &[String],
    late: &mut Late,
) -> Step {
    let target = &mount.target;
    let wanted = mount.set | mount.set_recursive;
    // A read-only tmpfs, and a read-only /dev, are filled before they become so (runc `rootfs_linux.go`,
    // `mountPropagate`).
    let becomes_readonly = wanted & attr::RDONLY != 0 && (kind == "tmpfs" || is_dev(target));
    let attributes = if becomes_readonly { wanted & !attr::RDONLY } else { wanted };
    let (point, options) = place(context, target, kind, options)?;
    let label = label(target, kind, &options)?;
    if options.iter().any(|option| option.len() > VALUE_MOST) {
        return long(context, mount, kind, source, &options, &point);
    }
    let made = match make(context, kind, source, &options, attributes) {
        Ok(made) => made,
        Err((_, errno)) if instead(context, kind, errno).is_some() => {
            return bind_instead(context, mount, kind, &point);
        }
        Err((what, errno)) => {
            return Err(Failure::system(format!(
                "mount {target:?}: cannot make a {kind} file system ({what}): {}",
                describe(errno)
            )));
        }
    };
    if mount.tmpcopyup {
        let keep_owner = options.iter().any(|o| o.starts_with("uid=") || o.starts_with("gid="));
        copy_up::copy(point.as_fd(), made.as_fd(), target, keep_owner)?;
    }
    super::attach(&made, &point).tried(|| format!("mount {target:?}: cannot attach the {kind} mount"))?;
    if let Some(label) = label {
        // The file system takes no `context` (runc does the same).
        let root = rustix::fs::openat(
            &made,
            ".",
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .tried(|| format!("mount {target:?}: cannot open it"))?;
        rustix::fs::fsetxattr(&root, "security.selinux", label.as_bytes(), XattrFlags::empty())
            .tried(|| format!("mount {target:?}: cannot label it"))?;
    }
    propagate(made.as_fd(), &mount.propagation, target)?;
    if becomes_readonly {
        late.add(made, target);
    }
    Ok(())
}

/// fsconfig(2) takes values of 255 bytes (`strndup_user` in fs/fsopen.c); an option within that certainly fits.
const VALUE_MOST: usize = 255;

/// mount(2) takes a page of options in one string, such as the directories of an overlay. It is given the mount
/// point's descriptor, too.
fn long(
    context: &Context<'_>,
    mount: &Mount,
    kind: &str,
    source: &str,
    options: &[String],
    point: &OwnedFd,
) -> Step {
    let target = &mount.target;
    if mount.tmpcopyup {
        return Err(Failure::request(format!(
            "mount {target:?}: tmpcopyup with such long options is not possible"
        )));
    }
    let text = CString::new(options.join(",")).ok().filter(|text| text.as_bytes().len() < 4096).ok_or_else(
        || Failure::request(format!("mount {target:?}: its options are longer than 4095 bytes")),
    )?;
    let place = format!("/proc/self/fd/{}", point.as_raw_fd());
    let (flags, wanted) = (MountFlags::empty(), mount.set | mount.set_recursive);
    rustix::mount::mount(source, place.as_str(), kind, flags, text.as_c_str())
        .tried(|| format!("mount {target:?}: cannot mount a {kind} file system ({})", options.join(",")))?;
    let made =
        beneath::open_path(context.root, target).tried(|| format!("mount {target:?}: cannot open it"))?;
    // Where somebody else changed the path meanwhile, it is no mount's root, which mount_setattr(2) refuses.
    set(made.as_fd(), wanted, 0, false, target)?;
    propagate(made.as_fd(), &mount.propagation, target)
}

fn is_dev(target: &str) -> bool {
    target.trim_end_matches('/') == "/dev"
}

/// Opens or makes the mount point. A tmpfs takes the mode of the directory that it covers, unless told otherwise
/// (runc and crun do so).
fn place(
    context: &Context<'_>,
    target: &str,
    kind: &str,
    options: &[String],
) -> Step<(OwnedFd, Vec<String>)> {
    let mut options = options.to_vec();
    // A proc or sysfs anywhere else than asked for would take others in (CVE-2019-19921, CVE-2023-27561).
    if matches!(kind, "proc" | "sysfs") {
        return Ok((super::real_mount_point(context.root, target)?, options));
    }
    let ours = kind == "tmpfs" && !options.iter().any(|option| option.starts_with("mode="));
    let there = if ours { beneath::open_path(context.root, target).ok() } else { None };
    let point = mount_point(context.root, target, true)?;
    if there.is_some() {
        let stat = rustix::fs::statat(&point, "", rustix::fs::AtFlags::EMPTY_PATH)
            .tried(|| format!("mount {target:?}: cannot examine the mount point"))?;
        options.push(format!("mode={:o}", stat.st_mode & 0o7777));
    }
    Ok((point, options))
}

/// `context=` needs SELinux; where it is for a file system that does not take it, the label comes back.
fn label(target: &str, kind: &str, options: &[String]) -> Step<Option<String>> {
    /// `SELINUX_MAGIC` of `linux/magic.h`.
    const SELINUX_MAGIC: u64 = 0xf97c_ff8c;
    let Some(label) = options.iter().find_map(|option| option.strip_prefix("context=")) else {
        return Ok(None);
    };
    let there = rustix::fs::statfs("/sys/fs/selinux").map(|s| s.f_type as u64 & 0xffff_ffff == SELINUX_MAGIC);
    if !there.unwrap_or(false) {
        return Err(Failure::request(format!(
            "mount {target:?}: the label {label:?} needs SELinux, which this machine has not enabled; take linux.mountLabel out"
        )));
    }
    Ok((kind == "mqueue").then(|| label.to_owned()))
}

pub(super) fn make(
    context: &Context<'_>,
    kind: &str,
    source: &str,
    options: &[String],
    attributes: u64,
) -> Result<OwnedFd, (String, Errno)> {
    let options: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .filter(|option| !(kind == "mqueue" && option.starts_with("context=")))
        .collect();
    let made = match new(kind, source, &options) {
        // A device that cannot be written takes no writable mount.
        Err((_, Errno::ROFS | Errno::ACCESS)) if attributes & attr::RDONLY != 0 => {
            let mut again = options.clone();
            again.push("ro");
            new(kind, source, &again)?
        }
        // The terminals' group has no number in this user namespace; the kernel says so at the option or, before
        // Linux 6.7, at the end. They belong to the user's own group then.
        Err((_, Errno::INVAL)) if kind == "devpts" && context.user_namespace => {
            let again: Vec<&str> = options.iter().copied().filter(|o| !o.starts_with("gid=")).collect();
            new(kind, source, &again)?
        }
        other => other?,
    };
    // The bits of fsmount(2) and mount_setattr(2) are the same. Given here, they count when the kernel compares with
    // what the user namespace sees already (`mount_too_revealing` in fs/namespace.c).
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(&made, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|errno| ("fsmount".to_owned(), errno))
}

fn new(kind: &str, source: &str, options: &[&str]) -> Result<OwnedFd, (String, Errno)> {
    let at = |what: &str| {
        let what = what.to_owned();
        move |errno| (what, errno)
    };
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("fsopen"))?;
    if !source.is_empty() {
        fsconfig_set_string(&fs, "source", source).map_err(at("source"))?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&fs, key, value),
            None => fsconfig_set_flag(&fs, *option),
        }
        .map_err(at(option))?;
    }
    fsconfig_create(&fs).map_err(at("create"))?;
    Ok(fs)
}

/// What the node has already, where a user namespace may not make its own: its owner is not that of the network,
/// IPC or PID namespace that the file system shows (crun falls back in the same way).
fn instead(context: &Context<'_>, kind: &str, errno: Errno) -> Option<&'static str> {
    match (kind, errno) {
        ("sysfs", Errno::PERM) => Some("/sys"),
        ("mqueue", Errno::PERM) => Some("/dev/mqueue"),
        // Another one's processes are not to be shown in place of the container's own.
        ("proc", Errno::PERM) if *context.pid == Namespace::Inherit => Some("/proc"),
        _ => None,
    }
}

fn bind_instead(context: &Context<'_>, mount: &Mount, kind: &str, point: &OwnedFd) -> Step {
    let target = &mount.target;
    let Some(path) = instead(context, kind, Errno::PERM) else { return Ok(()) };
    let source = super::clone_mount(CWD, path, true)
        .tried(|| format!("mount {target:?}: cannot bind the node's {path} in place of a {kind} mount"))?;
    let mut attributes = mount.set | mount.set_recursive;
    if kind == "sysfs" {
        // It is the whole node's, with the cgroups that are mounted in it.
        attributes |= attr::RDONLY;
    }
    set(source.as_fd(), attributes & !attr::ATIME_MASK, 0, true, target)?;
    super::attach(&source, point).tried(|| format!("mount {target:?}: cannot attach the node's {path}"))?;
    propagate(source.as_fd(), &mount.propagation, target)
}
