//! The cgroup view of a container. With a cgroup namespace its own group is the root of every hierarchy; without
//! one its own groups of version 1 are bound, and version 2 is shown as a whole, as runc has it.

use super::{Context, Late, clone_mount, propagate, set};
use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::mountinfo;
use crate::plan::{Mount, Namespace};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::fs;
use sys::mount::attr;

/// A line of `/proc/self/cgroup` (cgroups(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Membership {
    /// `cpu,cpuacct`, `name=systemd`; empty for cgroup v2.
    names: String,
    /// Of this process, as its cgroup namespace sees it.
    path: String,
}

/// Mounts the hierarchies of version 1 where there are any, else that of version 2.
pub(super) fn make(context: &Context<'_>, mount: &Mount, late: &mut Late) -> Step {
    let memberships = memberships()?;
    let old: Vec<_> = memberships.iter().filter(|m| !m.names.is_empty()).collect();
    if old.is_empty() {
        return unified(context, mount);
    }
    let target = mount.target.trim_end_matches('/');
    let writable = attributes(mount) & !attr::RDONLY;
    let point = super::mount_point(context.root, target, true)?;
    let options = ["mode=755".to_owned(), "size=1m".to_owned()];
    let made = super::filesystem::make(context, "tmpfs", "cgroup", &options, writable).map_err(
        |(what, errno)| {
            Failure::system(format!("mount {target:?}: cannot make a tmpfs ({what}): {}", describe(errno)))
        },
    )?;
    super::attach(&made, &point).tried(|| format!("mount {target:?}: cannot attach the tmpfs"))?;
    propagate(made.as_fd(), &mount.propagation, target)?;
    for membership in old {
        hierarchy(context, mount, made.as_fd(), membership)?;
    }
    if readonly(mount) {
        late.add(made, target);
    }
    Ok(())
}

fn readonly(mount: &Mount) -> bool {
    (mount.set | mount.set_recursive) & attr::RDONLY != 0
}

/// `base` is the tmpfs, which nobody else has written to.
fn hierarchy(context: &Context<'_>, mount: &Mount, base: BorrowedFd<'_>, membership: &Membership) -> Step {
    let names = &membership.names;
    let name = names.strip_prefix("name=");
    let folder = name.unwrap_or(names);
    // The file that lists the groups is not the image's, and still: nothing may leave the mount.
    if folder.contains('/') || matches!(folder, "" | "." | "..") {
        return Err(Failure::system(format!(
            "the cgroup hierarchy {names:?} has a name that is no folder's"
        )));
    }
    let place = format!("{}/{folder}", mount.target.trim_end_matches('/'));
    let point =
        beneath::make_in(base, folder, true).tried(|| format!("mount {place:?}: cannot make its folder"))?;
    let made = if *context.cgroup == Namespace::Inherit {
        Err(Errno::PERM)
    } else {
        let options = match name {
            Some(_) => vec!["none".into(), names.clone()],
            None => names.split(',').map(str::to_owned).collect(),
        };
        super::filesystem::make(context, "cgroup", "cgroup", &options, attributes(mount))
            .map_err(|(_, errno)| errno)
    };
    match made {
        Ok(made) => finish(mount, &place, &made, &point)?,
        Err(Errno::PERM | Errno::BUSY) => bind_own(mount, &place, &point, membership)?,
        Err(errno) => return Err(refused(&place, errno)),
    }
    if folder.contains(',') {
        for alias in folder.split(',') {
            match rustix::fs::symlinkat(folder, base, alias) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(Failure::system(format!(
                        "cannot link {alias} to {place}: {}",
                        describe(errno)
                    )));
                }
            }
        }
    }
    Ok(())
}

fn attributes(mount: &Mount) -> u64 {
    attr::NOSUID | attr::NODEV | attr::NOEXEC | ((mount.set | mount.set_recursive) & attr::RDONLY)
}

fn finish(mount: &Mount, place: &str, made: &OwnedFd, point: &OwnedFd) -> Step {
    super::attach(made, point).tried(|| format!("mount {place:?}: cannot attach the cgroups"))?;
    propagate(made.as_fd(), &mount.propagation, place)
}

fn refused(place: &str, errno: Errno) -> Failure {
    Failure::system(format!("mount {place:?}: cannot mount the cgroups: {}", describe(errno)))
}

/// cgroup v2. Without a cgroup namespace the mount shows the whole tree, in which `/proc/self/cgroup` names the
/// container's group, as runc and crun have it: privileged containers that manage the node rely on it. In a user namespace
/// a writable one is of the own group only (CVE-2023-25809).
pub(super) fn unified(context: &Context<'_>, mount: &Mount) -> Step {
    let place = &mount.target;
    let point = super::mount_point(context.root, place, true)?;
    if readonly(mount) || *context.cgroup != Namespace::Inherit || !context.user_namespace {
        match super::filesystem::make(context, "cgroup2", "cgroup", &[], attributes(mount) | mount.set) {
            Ok(made) => return finish(mount, place, &made, &point),
            Err((_, Errno::PERM | Errno::BUSY)) => {}
            Err((_, errno)) => return Err(refused(place, errno)),
        }
    }
    if readonly(mount) && *context.cgroup == Namespace::Inherit {
        // The same view in a user namespace, which may not mount the hierarchy (runc `mountCgroupV2`).
        let whole =
            mountinfo::read()?.into_iter().find(|entry| entry.kind == "cgroup2").ok_or_else(|| {
                Failure::system(format!("mount {place:?}: this machine has no cgroup v2 hierarchy"))
            })?;
        return bind(mount, place, &point, &whole.place);
    }
    let own = memberships()?.into_iter().find(|m| m.names.is_empty()).ok_or_else(|| {
        Failure::system(format!("mount {place:?}: this machine has no cgroup v2 hierarchy"))
    })?;
    bind_own(mount, place, &point, &own)
}

/// Binds the own group's directory of a hierarchy from where the node has it mounted.
fn bind_own(mount: &Mount, place: &str, point: &OwnedFd, own: &Membership) -> Step {
    let source = directory(&mountinfo::read()?, own).ok_or_else(|| {
        Failure::system(format!(
            "mount {place:?}: the container's group {:?} is in none of the node's cgroup mounts",
            own.path
        ))
    })?;
    // CVE-2023-25809: the root of the hierarchy, writable, would be the whole machine's.
    if !readonly(mount) && own.path == "/" {
        return Err(Failure::request(format!(
            "mount {place:?}: a writable cgroup mount would show the whole machine's groups; \
             give the container a cgroup namespace or a group of its own, or mount it read-only (\"ro\")"
        )));
    }
    bind(mount, place, point, &source)
}

fn bind(mount: &Mount, place: &str, point: &OwnedFd, source: &str) -> Step {
    let clone =
        clone_mount(CWD, source, false).tried(|| format!("mount {place:?}: cannot bind {source:?}"))?;
    set(clone.as_fd(), attributes(mount), 0, false, place)?;
    finish(mount, place, &clone, point)
}

/// Where the group of `own` is found below the node's mounts.
fn directory(mounts: &[mountinfo::Entry], own: &Membership) -> Option<String> {
    let fits = |entry: &&mountinfo::Entry| {
        if own.names.is_empty() {
            return entry.kind == "cgroup2";
        }
        let has = |name: &str| entry.options.split(',').any(|option| option == name);
        entry.kind == "cgroup" && own.names.split(',').all(has)
    };
    mounts.iter().filter(fits).find_map(|entry| {
        let below = match entry.root.as_str() {
            "/" => own.path.as_str(),
            root => own.path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
        };
        // A path that goes up is of another cgroup namespace (cgroup_namespaces(7)).
        let up = below.split('/').any(|part| part == "..");
        (!up).then(|| format!("{}{}", entry.place.trim_end_matches('/'), below.trim_end_matches('/')))
    })
}

fn memberships() -> Step<Vec<Membership>> {
    let text = fs::read_to_string("/proc/thread-self/cgroup")
        .tried(|| "cannot read /proc/thread-self/cgroup".into())?;
    Ok(text.lines().filter_map(membership).collect())
}

fn membership(line: &str) -> Option<Membership> {
    let mut fields = line.splitn(3, ':').skip(1);
    Some(Membership { names: fields.next()?.to_owned(), path: fields.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(root: &str, place: &str, kind: &str, options: &str) -> mountinfo::Entry {
        mountinfo::Entry {
            root: root.into(),
            place: place.into(),
            kind: kind.into(),
            options: options.into(),
        }
    }

    #[test]
    fn the_own_group_is_found_below_mounts_of_the_whole_and_of_a_part() {
        let mounts = [
            entry("/", "/sys/fs/cgroup/cpu", "cgroup", "rw,cpu,cpuacct"),
            entry("/pod", "/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
            entry("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd"),
            entry("/../..", "/sys/fs/cgroup/unified", "cgroup2", "rw"),
        ];
        let find = |line: &str| directory(&mounts, &membership(line).expect("a line"));
        assert_eq!(find("4:cpu,cpuacct:/a/b").as_deref(), Some("/sys/fs/cgroup/cpu/a/b"));
        assert_eq!(find("3:memory:/pod/a").as_deref(), Some("/sys/fs/cgroup/memory/a"));
        assert_eq!(find("3:memory:/podother").as_deref(), None);
        assert_eq!(find("1:name=systemd:/a:b").as_deref(), Some("/sys/fs/cgroup/systemd/a:b"));
        assert_eq!(find("4:cpu:/../x"), None);
        assert_eq!(find("0::/"), None);
    }
}
