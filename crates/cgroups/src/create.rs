//! Making a group in every hierarchy.
//!
//! The common case is one mkdirat(2) per hierarchy, since the groups above are there. Never changes limits
//! of groups that exist, except that v2 groups above are told to hand controllers down.

use crate::error::Error;
use crate::layout::{Hierarchy, Layout, Mode, Version};
use crate::path;
use rustix::fs::{Access, AtFlags, Mode as FileMode, OFlags};
use rustix::io::Errno;

/// Controllers that containers need. `cpuset` and others are handed down only where the machine has them.
pub(crate) const WANTED: [&str; 6] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"];

/// True when the group is there in at least one hierarchy.
pub(crate) fn exists(layout: &Layout, group: &str) -> Result<bool, Error> {
    for hierarchy in &layout.hierarchies {
        match hierarchy.open(group, "", OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => return Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(Error::io("open the cgroup", hierarchy.shown(group, ""), errno)),
        }
    }
    Ok(false)
}

/// Whether the group above can be written in every hierarchy.
pub(crate) fn may_make(layout: &Layout, group: &str) -> bool {
    let above = path::parent(group).unwrap_or("");
    layout.hierarchies.iter().all(|hierarchy| {
        let opened = hierarchy.open(above, "", OFlags::RDONLY | OFlags::DIRECTORY);
        opened.is_ok_and(|dir| rustix::fs::accessat(&dir, ".", Access::WRITE_OK, AtFlags::empty()).is_ok())
    })
}

/// Makes the group everywhere, or nowhere.
pub(crate) fn create(layout: &Layout, group: &str) -> Result<(), Error> {
    let mut made = Vec::new();
    let result =
        layout.hierarchies.iter().try_for_each(|hierarchy| create_in(layout, hierarchy, group, &mut made));
    if result.is_err() {
        for (hierarchy, place) in made.iter().rev() {
            // Another process may have put something below it meanwhile; then it is no longer ours to remove.
            if let Err(errno) =
                rustix::fs::unlinkat(&hierarchy.root, hierarchy.place(place), rustix::fs::AtFlags::REMOVEDIR)
            {
                tracing::warn!(path = %hierarchy.shown(place, "").display(), %errno, "could not take back a cgroup that was just made");
            }
        }
    }
    result
}

fn create_in<'a>(
    layout: &Layout,
    hierarchy: &'a Hierarchy,
    group: &str,
    made: &mut Vec<(&'a Hierarchy, String)>,
) -> Result<(), Error> {
    let mut tries = 3;
    while !mkdirs(hierarchy, group, made)? {
        // Someone removes the groups above at the same time, the kubelet for example.
        tries -= 1;
        if tries == 0 {
            return Err(Error::io("make the cgroup", hierarchy.shown(group, ""), Errno::NOENT));
        }
    }
    if hierarchy.version == Version::V1 && hierarchy.controllers.iter().any(|name| name == "cpuset") {
        fill_cpuset(hierarchy, group)?;
    }
    if layout.mode == Mode::V2 {
        hand_down(layout, hierarchy, group, &WANTED)?;
    }
    Ok(())
}

/// True when the group is there now.
fn mkdirs<'a>(
    hierarchy: &'a Hierarchy,
    group: &str,
    made: &mut Vec<(&'a Hierarchy, String)>,
) -> Result<bool, Error> {
    if mkdir(hierarchy, group)? {
        made.push((hierarchy, group.to_owned()));
        return Ok(true);
    }
    if is_there(hierarchy, group)? {
        return Ok(true);
    }
    // Something above is missing: from the top down.
    for end in group.match_indices('/').map(|(at, _)| at).chain([group.len()]) {
        if mkdir(hierarchy, &group[..end])? {
            made.push((hierarchy, group[..end].to_owned()));
        }
    }
    is_there(hierarchy, group)
}

/// True when it was made, false when it is there already or something above is missing.
fn mkdir(hierarchy: &Hierarchy, group: &str) -> Result<bool, Error> {
    // A path string is safe here: cgroup file systems hold no symlinks, and `path::relative` leaves no `..`.
    match rustix::fs::mkdirat(&hierarchy.root, hierarchy.place(group), FileMode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::io("make the cgroup", hierarchy.shown(group, ""), errno)),
    }
}

/// Makes one group below one that is there, in one hierarchy; one that is there already is an error.
pub(crate) fn make_one(hierarchy: &Hierarchy, group: &str) -> Result<(), Error> {
    rustix::fs::mkdirat(&hierarchy.root, hierarchy.place(group), FileMode::from_raw_mode(0o755))
        .map_err(|errno| Error::io("make the cgroup", hierarchy.shown(group, ""), errno))?;
    if hierarchy.version == Version::V1 && hierarchy.controllers.iter().any(|name| name == "cpuset") {
        // Nothing is in it yet, so the undo cannot be refused for long.
        fill_cpuset(hierarchy, group).inspect_err(|_| {
            let _ = crate::remove::rmdir(hierarchy, group);
        })?;
    }
    Ok(())
}

fn is_there(hierarchy: &Hierarchy, group: &str) -> Result<bool, Error> {
    match hierarchy.open(group, "", OFlags::PATH | OFlags::DIRECTORY) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::io("open the cgroup", hierarchy.shown(group, ""), errno)),
    }
}

/// A new v1 cpuset is empty, and nothing can enter it (ENOSPC) until it has CPUs and memory nodes
/// (kernel Documentation/admin-guide/cgroup-v1/cpusets.rst, 2.1). It gets those of the group above.
fn fill_cpuset(hierarchy: &Hierarchy, group: &str) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fill_cpuset_file(hierarchy, group, file)?;
    }
    Ok(())
}

fn fill_cpuset_file(hierarchy: &Hierarchy, group: &str, file: &str) -> Result<String, Error> {
    let now = hierarchy.read(group, file)?.unwrap_or_default();
    // At the root of the mount there is nothing above to copy from; the depth is bounded by `path::relative`.
    if !now.trim().is_empty() || group.is_empty() {
        return Ok(now);
    }
    let above = fill_cpuset_file(hierarchy, path::parent(group).unwrap_or(""), file)?;
    if !above.trim().is_empty() {
        hierarchy.write(group, file, above.trim())?;
    }
    Ok(above)
}

/// Writes the wanted controllers to `cgroup.subtree_control` of every group above `group`, from the top.
///
/// A group can only have what its parent handed down, so when the nearest one has all, all have.
pub(crate) fn hand_down(
    layout: &Layout,
    hierarchy: &Hierarchy,
    group: &str,
    wanted: &[&str],
) -> Result<(), Error> {
    let wanted: Vec<&str> =
        wanted.iter().copied().filter(|name| hierarchy.controllers.iter().any(|have| have == name)).collect();
    if wanted.is_empty() || missing(hierarchy, path::parent(group).unwrap_or(""), &wanted)?.is_empty() {
        return Ok(());
    }
    let above = [0].into_iter().chain(group.match_indices('/').map(|(at, _)| at)).map(|end| &group[..end]);
    for place in above {
        // When we nest, what lies above our own group is not ours, but our own group itself must hand down.
        let missing = missing(hierarchy, place, &wanted)?;
        if missing.is_empty() {
            continue;
        }
        match write_controllers(hierarchy, place, &missing) {
            Ok(()) => {}
            // cgroups(7): EBUSY is a group with processes; EOPNOTSUPP one of the threaded kind.
            Err(Errno::BUSY)
                if step_aside(layout, hierarchy, place)?
                    && write_controllers(hierarchy, place, &missing).is_ok() => {}
            Err(Errno::BUSY | Errno::OPNOTSUPP) => {
                return Err(Error::InnerProcesses { path: hierarchy.shown(place, ""), controllers: missing });
            }
            // A delegated group: what lies above it belongs to who delegated it (cgroups(7), "Delegation"), and has handed down
            // what it wanted to. A limit that needs more says so itself.
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                let path = hierarchy.shown(place, "cgroup.subtree_control");
                tracing::debug!(path = %path.display(), missing, "controllers are not ours to hand down here");
            }
            Err(errno) => return Err(hierarchy.refused(place, "cgroup.subtree_control", &missing, errno)),
        }
    }
    Ok(())
}

/// Asked for together, one controller that is not there refuses all: then one by one, taking what there is.
///
/// Not in a group with processes, which refuses only those that count for whole processes. It would take `cpu` or `pids`, and
/// no process could be in the groups below it any more (EOPNOTSUPP; cgroup-v2.rst, "Threads").
fn write_controllers(hierarchy: &Hierarchy, place: &str, missing: &str) -> Result<(), Errno> {
    let write = |controllers| hierarchy.try_write(place, "cgroup.subtree_control", controllers);
    match write(missing) {
        Err(Errno::NOENT | Errno::INVAL) => {}
        done => return done,
    }
    let read = |file| hierarchy.read(place, file).ok().flatten();
    let offered = read("cgroup.controllers").unwrap_or_default();
    let is_offered = |one: &str| offered.split_whitespace().any(|name| one.trim_start_matches('+') == name);
    if !missing.split(' ').any(is_offered) {
        return Ok(());
    }
    // The root of all groups has no type, and may have both.
    if read("cgroup.type").is_some() && read("cgroup.procs").is_some_and(|list| !list.trim().is_empty()) {
        return Err(Errno::BUSY);
    }
    for one in missing.split(' ') {
        if let Err(errno) = write(one) {
            let path = hierarchy.shown(place, "cgroup.subtree_control");
            tracing::debug!(path = %path.display(), controller = one, %errno, "a controller is not handed down");
        }
    }
    Ok(())
}

/// `+cpu +memory` for those of `wanted` that the group does not hand down yet.
fn missing(hierarchy: &Hierarchy, group: &str, wanted: &[&str]) -> Result<String, Error> {
    let have = hierarchy.read(group, "cgroup.subtree_control")?.unwrap_or_default();
    let lacks = |name: &&&str| !have.split_whitespace().any(|h| h == **name);
    Ok(wanted.iter().filter(lacks).map(|name| format!("+{name}")).collect::<Vec<_>>().join(" "))
}

/// Where a runtime that was started in a group of its own makes room: it alone is in the group that is to hand
/// controllers down, so it moves itself into a group below. False, and nothing done, in any other case: the processes
/// of others are not moved.
fn step_aside(layout: &Layout, hierarchy: &Hierarchy, place: &str) -> Result<bool, Error> {
    const LEAF: &str = "runtime";
    let own = layout.own_now()?;
    let full = hierarchy.place(place);
    let is_own = own.iter().any(|(h, own)| std::ptr::eq(*h, hierarchy) && own == full.trim_end_matches('/'));
    let alone = || -> Result<bool, Error> {
        let pid = rustix::process::getpid().as_raw_pid().to_string();
        Ok(hierarchy.read(place, "cgroup.procs")?.is_some_and(|list| list.trim() == pid))
    };
    if !is_own || !alone()? {
        return Ok(false);
    }
    let leaf = if place.is_empty() { LEAF.to_owned() } else { format!("{place}/{LEAF}") };
    mkdir(hierarchy, &leaf)?;
    hierarchy.write(&leaf, "cgroup.procs", "0")?;
    tracing::info!(path = %hierarchy.shown(&leaf, "").display(), "moved into a cgroup below our own, to let it hand controllers down");
    Ok(true)
}
