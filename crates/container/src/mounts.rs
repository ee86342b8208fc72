//! The mounts of a container, by the new mount API (open_tree(2), fsopen(2), move_mount(2)): each is made
//! detached, given all its attributes, and only then attached to a target that was resolved within the root.

use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::{Mount, MountSource};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::collections::VecDeque;
use std::fs;
use sys::mount::{Attributes, attr, propagation, set_attributes};

/// Sources that propagate both ways, opened while the mounts of this namespace still have the node's as peers.
/// Everything else is cut off right after ([`crate::root::detach_from_node`]); what is opened here is attached nowhere
/// and keeps its peers.
pub fn open_shared(mounts: &[Mount]) -> Step<VecDeque<OwnedFd>> {
    let is_shared = |m: &&Mount| u64::from(m.propagation) & propagation::SHARED != 0;
    let binds = mounts.iter().filter(is_shared).filter_map(|m| match &m.source {
        MountSource::Bind { path, recursive } => Some((m, path, *recursive)),
        _ => None,
    });
    binds.map(|(mount, path, recursive)| open_source(&mount.target, path, recursive)).collect()
}

/// Makes every mount of the plan, in order. `shared` is what [`open_shared`] gave for the same plan.
pub fn make(root: BorrowedFd<'_>, mounts: &[Mount], mut shared: VecDeque<OwnedFd>) -> Step {
    for mount in mounts {
        match &mount.source {
            MountSource::Bind { path, recursive } => {
                let opened = if u64::from(mount.propagation) & propagation::SHARED != 0 {
                    shared.pop_front()
                } else {
                    None
                };
                let source = match opened {
                    Some(source) => source,
                    None => open_source(&mount.target, path, *recursive)?,
                };
                bind(root, mount, path, source)?;
            }
            MountSource::Filesystem { kind, source, options } => {
                filesystem(root, mount, kind, source, options)?
            }
            MountSource::Cgroup => cgroups(root, mount)?,
        }
    }
    Ok(())
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

fn open_source(target: &str, path: &str, recursive: bool) -> Step<OwnedFd> {
    clone_mount(CWD, path, recursive).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Failure::request(format!(
            "mount {target:?}: the source {path:?} does not exist on the node; make it, or mount another path"
        )),
        errno => Failure::system(format!("mount {target:?}: cannot bind {path:?}: {}", describe(errno))),
    })
}

fn bind(root: BorrowedFd<'_>, mount: &Mount, path: &str, source: OwnedFd) -> Step {
    let target = &mount.target;
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(Failure::request(format!("mount {target:?}: idmapped mounts are not built yet")));
    }
    let kind = beneath::kind(&source).tried(|| format!("mount {target:?}: cannot examine {path:?}"))?;
    let point = mount_point(root, target, kind == FileType::Directory)?;
    refuse_hidden_proc(&point, target)?;
    set(source.as_fd(), mount.set, mount.clear, 0, false, target)?;
    set(source.as_fd(), mount.set_recursive, mount.clear_recursive, 0, true, target)?;
    attach(&source, &point).tried(|| format!("mount {target:?}: cannot attach {path:?}"))?;
    // Propagation is set on the attached mount: a slave needs its peer group, which a detached clone of a
    // shared mount keeps, and private is the default of `spec`.
    if mount.propagation != 0 {
        let (kind, recursive) = split_propagation(mount.propagation);
        set(source.as_fd(), 0, 0, kind, recursive, target)?;
    }
    Ok(())
}

/// A link of the image may lead a volume onto a file of `/proc`, and with it what is written there later
/// (CVE-2025-52881). Paths that name `/proc` themselves were judged when the plan was made.
fn refuse_hidden_proc(point: &OwnedFd, target: &str) -> Step {
    /// `PROC_SUPER_MAGIC` of `linux/magic.h`.
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let system =
        rustix::fs::fstatfs(point).tried(|| format!("mount {target:?}: cannot examine the mount point"))?;
    if system.f_type as u64 == PROC_SUPER_MAGIC && !target.starts_with("/proc/") {
        return Err(Failure::request(format!(
            "mount {target:?}: the image has a link there that leads into /proc; that is refused"
        )));
    }
    Ok(())
}

fn filesystem(root: BorrowedFd<'_>, mount: &Mount, kind: &str, source: &str, options: &[String]) -> Step {
    let target = &mount.target;
    // The image may have a link at /proc, /sys or /dev; `mount_point` resolves it inside, and a kernel file
    // system on another path than asked for is refused (CVE-2019-19921, CVE-2023-27561).
    if matches!(kind, "proc" | "sysfs") {
        refuse_links(root, target)?;
    }
    let point = mount_point(root, target, true)?;
    let fs = new_filesystem(kind, source, options).map_err(|(what, errno)| {
        Failure::system(format!(
            "mount {target:?}: cannot make a {kind} file system ({what}): {}",
            describe(errno)
        ))
    })?;
    let made = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .tried(|| format!("mount {target:?}: cannot make a {kind} mount"))?;
    if mount.tmpcopyup {
        return Err(Failure::request(format!("mount {target:?}: tmpcopyup is not built yet")));
    }
    set(made.as_fd(), mount.set | mount.set_recursive, mount.clear, 0, false, target)?;
    attach(&made, &point).tried(|| format!("mount {target:?}: cannot attach the {kind} mount"))?;
    if mount.propagation != 0 {
        let (kind, recursive) = split_propagation(mount.propagation);
        set(made.as_fd(), 0, 0, kind, recursive, target)?;
    }
    Ok(())
}

fn new_filesystem(kind: &str, source: &str, options: &[String]) -> Result<OwnedFd, (String, Errno)> {
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
            None => fsconfig_set_flag(&fs, option.as_str()),
        }
        .map_err(at(option))?;
    }
    fsconfig_create(&fs).map_err(at("create"))?;
    Ok(fs)
}

/// The cgroup view of the container: its cgroup namespace makes its own group the root of every hierarchy.
fn cgroups(root: BorrowedFd<'_>, mount: &Mount) -> Step {
    let hierarchies = own_hierarchies()?;
    let target = mount.target.trim_end_matches('/');
    let readonly = mount.set & attr::RDONLY;
    let plain = |target: String, kind: &str, options: Vec<String>| Mount {
        target,
        source: MountSource::Filesystem { kind: kind.into(), source: "cgroup".into(), options },
        set: attr::NOSUID | attr::NODEV | attr::NOEXEC | readonly,
        clear: 0,
        set_recursive: 0,
        clear_recursive: 0,
        propagation: 0,
        tmpcopyup: false,
        idmap: crate::plan::Idmap::Off,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    };
    if hierarchies.is_empty() {
        let unified = plain(target.into(), "cgroup2", Vec::new());
        return make(root, &[unified], VecDeque::new());
    }
    let mut base = plain(target.into(), "tmpfs", vec!["mode=755".into(), "size=1m".into()]);
    base.set &= !attr::RDONLY;
    make(root, &[base], VecDeque::new())?;
    for names in &hierarchies {
        let folder = names.strip_prefix("name=").unwrap_or(names);
        let options = if names.starts_with("name=") {
            vec!["none".into(), names.clone()]
        } else {
            names.split(',').map(str::to_owned).collect()
        };
        make(root, &[plain(format!("{target}/{folder}"), "cgroup", options)], VecDeque::new())?;
        if folder.contains(',') {
            let dir = beneath::make_directory(root, target)?;
            for alias in folder.split(',') {
                match rustix::fs::symlinkat(folder, &dir, alias) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => {
                        return Err(Failure::system(format!(
                            "cannot link {target}/{alias}: {}",
                            describe(errno)
                        )));
                    }
                }
            }
        }
    }
    if readonly != 0 {
        let base = beneath::open_path(root, target).tried(|| format!("mount {target:?}"))?;
        set(base.as_fd(), attr::RDONLY, 0, 0, false, target)?;
    }
    Ok(())
}

/// The v1 hierarchies of this process as `/proc/self/cgroup` lists them (cgroups(7)): `cpu,cpuacct`,
/// `name=systemd`. Empty on a machine with cgroup v2 only.
fn own_hierarchies() -> Step<Vec<String>> {
    let text = fs::read_to_string("/proc/self/cgroup").tried(|| "cannot read /proc/self/cgroup".into())?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|names| !names.is_empty())
        .map(str::to_owned)
        .collect())
}

fn mount_point(root: BorrowedFd<'_>, target: &str, directory: bool) -> Step<OwnedFd> {
    let made =
        if directory { beneath::make_directory(root, target) } else { beneath::make_file(root, target) };
    made.map_err(|failure| Failure { message: format!("mount {target:?}: {failure}"), ..failure })
}

fn refuse_links(root: BorrowedFd<'_>, target: &str) -> Step {
    let path = target.trim_start_matches('/');
    let found = rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS,
    );
    match found {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::LOOP) => {
            Err(Failure::request(format!("mount {target:?}: the image has a link there; that is refused")))
        }
        Err(errno) => Err(Failure::system(format!("mount {target:?}: {}", describe(errno)))),
    }
}

fn set(mount: BorrowedFd<'_>, set: u64, clear: u64, propagation: u64, recursive: bool, target: &str) -> Step {
    if set == 0 && clear == 0 && propagation == 0 {
        return Ok(());
    }
    // Access times are one field: setting a mode needs the field cleared (mount_setattr(2)).
    let clear = if set & attr::ATIME_MASK != 0 { clear | attr::ATIME_MASK } else { clear };
    set_attributes(mount, c"", Attributes { set, clear, propagation, recursive, user_namespace: None })
        .tried(|| format!("mount {target:?}: cannot set its attributes ({set:#x})"))
}

/// A propagation type of mount(2) in the form that mount_setattr(2) wants, and whether it is recursive.
pub fn split_propagation(flags: u32) -> (u64, bool) {
    let flags = u64::from(flags);
    (flags & !propagation::RECURSIVE, flags & propagation::RECURSIVE != 0)
}
