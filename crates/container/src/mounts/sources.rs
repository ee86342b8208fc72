//! Sources of binds that are opened before the child can or must open them itself: by the supervisor for a
//! container with a user namespace, and while the mounts still have the node's as peers for those that
//! propagate both ways.

use super::clone_mount;
use crate::beneath;
use crate::failure::{Failure, Step, Tried, describe};
use crate::idmap::Mappings;
use crate::plan::{Idmap, LaunchPlan, Mount, MountSource, Namespace, RootSource};
use crate::root::{self, Attach, Parts};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::mount::{Attributes, propagation, set_attributes};

/// Detached mounts, by the index of the mount in the plan.
#[derive(Debug, Default)]
pub struct Sources {
    root: Option<OwnedFd>,
    /// What the root consists of.
    parts: Option<Parts>,
    binds: Vec<Option<Opened>>,
    /// Images that are mounted, as far as the supervisor opened them.
    volumes: Vec<(usize, Volume)>,
}

/// An image that is mounted.
#[derive(Debug)]
pub(super) enum Volume {
    /// What it consists of.
    Parts(Parts),
    /// All of it.
    Whole(OwnedFd),
}

#[derive(Debug)]
struct Opened {
    mount: OwnedFd,
    /// By the supervisor, in the node's mount namespace.
    outside: bool,
}

/// Opens what the first process of a container cannot open itself: devices of its root, which its cgroup forbids; and in
/// a user namespace the node's mounts and paths, over which it has no privileges.
///
/// The kernel lets a process attach a mount that was detached in another mount namespace, if it is privileged
/// over its own (`do_move_mount` in fs/namespace.c); idmapping needs privileges over the file system.
pub fn prepare(plan: &LaunchPlan) -> Step<Sources> {
    let mut sources = Sources::default();
    if plan.root.source.needs_devices() || !plan.root.ids.is_empty() {
        sources.parts = Some(Parts::open(&plan.root.source, &plan.root.ids)?);
    }
    let user_namespace = plan.namespaces.user != Namespace::Inherit;
    for (index, mount) in plan.mounts.iter().enumerate() {
        let MountSource::Image { source, .. } = &mount.source else { continue };
        let ids = super::image::ids(mount);
        if user_namespace {
            let whole = root::detached(source, &ids, Attach::Elsewhere)?;
            sources.volumes.push((index, Volume::Whole(whole)));
        } else if source.needs_devices() || !ids.is_empty() {
            sources.volumes.push((index, Volume::Parts(Parts::open(source, &ids)?)));
        }
    }
    if !user_namespace {
        return Ok(sources);
    }
    let closed = closed_to_the_child(plan)?;
    let source = &plan.root.source;
    let made =
        sources.parts.take().map(|parts| root::assemble(source, parts, Attach::Elsewhere)).transpose()?;
    sources.root = match source {
        _ if made.is_some() => made,
        RootSource::Directory(path) if closed.root => match clone_mount(CWD, path, true) {
            Ok(root) => Some(root),
            // A supervisor without privileges has nothing to add.
            Err(Errno::PERM) => return Ok(sources),
            // The child says what is wrong with it.
            Err(_) => None,
        },
        RootSource::Directory(_) => None,
        RootSource::Overlay { .. } | RootSource::Filesystem(_) => {
            Some(root::detached(source, &plan.root.ids, Attach::Elsewhere)?)
        }
    };
    let mut mappings = Mappings::default();
    for (index, mount) in plan.mounts.iter().enumerate() {
        let MountSource::Bind { path, recursive } = &mount.source else { continue };
        let source = if mount.idmap != Idmap::Off {
            match clone_mount(CWD, path, *recursive) {
                Err(Errno::PERM) => None,
                source => {
                    let clone = source.map_err(|errno| refused(&mount.target, path, errno))?;
                    mappings.apply(&plan.namespaces, mount, clone.as_fd())?;
                    Some(clone)
                }
            }
        } else if closed.binds.contains(&index) {
            clone_mount(CWD, path, *recursive).ok()
        } else {
            None
        };
        if let Some(mount) = source {
            sources.put(index, Opened { mount, outside: true });
        }
    }
    Ok(sources)
}

/// What [`closed_to_the_child`] found.
struct Closed {
    root: bool,
    binds: Vec<usize>,
}

/// What the child cannot open: it keeps this process's user id at first, and has no privileges over the node's files. A
/// detached mount that is not needed is not for free: letting go of it waits for other processors
/// (`namespace_unlock` in fs/namespace.c).
fn closed_to_the_child(plan: &LaunchPlan) -> Step<Closed> {
    let what = || "cannot find out what a container in a user namespace may open".to_owned();
    let own = rustix::thread::capabilities(None).tried(what)?;
    let none = rustix::thread::CapabilitySets { effective: rustix::thread::CapabilitySet::empty(), ..own };
    rustix::thread::set_capabilities(None, none).tried(what)?;
    let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    // Where it is not the rights, the child says what is wrong.
    let is_closed = |path: &str| matches!(open(path), Err(Errno::ACCESS | Errno::PERM));
    // Without what is mounted below it, a directory cannot be had from another user namespace's mounts
    // (`has_locked_children` in fs/namespace.c).
    let is_whole = |path: &str| {
        open(path).is_ok_and(|file| beneath::kind(&file).is_ok_and(|kind| kind == FileType::Directory))
    };
    let root = matches!(&plan.root.source, RootSource::Directory(path) if is_closed(path));
    let needed = |(index, mount): (usize, &Mount)| match &mount.source {
        MountSource::Bind { path, recursive } => {
            (is_closed(path) || (!recursive && is_whole(path))).then_some(index)
        }
        _ => None,
    };
    let binds = plan.mounts.iter().enumerate().filter_map(needed).collect();
    rustix::thread::set_capabilities(None, own).tried(what)?;
    Ok(Closed { root, binds })
}

impl Sources {
    /// What the child opens before it changes anything.
    ///
    /// Sources that propagate both ways, while the mounts of this namespace still have the node's as peers: everything
    /// else is cut off right after ([`crate::root::detach_from_node`]); what is opened here is attached nowhere and
    /// keeps its peers.
    ///
    /// In a user namespace there are no peers to keep, for the copies of the node's mounts are slaves there
    /// (mount_namespaces(7)). Every source is opened while the child still has the user id that it was born with. Its
    /// own copy is preferred to the supervisor's: the flags of the node's mount are locked on it, so that
    /// no process of the container can take back a `nosuid` or `ro`.
    pub fn open_early(&mut self, plan: &LaunchPlan) -> Step {
        let user_namespace = plan.namespaces.user != Namespace::Inherit;
        for (index, mount) in plan.mounts.iter().enumerate() {
            let MountSource::Bind { path, recursive } = &mount.source else { continue };
            if user_namespace {
                let own =
                    if mount.idmap == Idmap::Off { clone_mount(CWD, path, *recursive).ok() } else { None };
                if let Some(mount) = own {
                    self.put(index, Opened { mount, outside: false });
                }
            } else if mount.propagation.iter().any(|kind| u64::from(*kind) & propagation::SHARED != 0) {
                let mount = open(&mount.target, path, *recursive)?;
                self.put(index, Opened { mount, outside: false });
            }
        }
        Ok(())
    }

    fn put(&mut self, index: usize, source: Opened) {
        if self.binds.len() <= index {
            self.binds.resize_with(index + 1, || None);
        }
        self.binds[index] = Some(source);
    }

    /// The root, where the supervisor opened it and the child cannot.
    pub(crate) fn take_root(&mut self) -> Step<Option<OwnedFd>> {
        self.root.take().map(|root| cut_off(root, "the root")).transpose()
    }

    /// What the supervisor opened of the root.
    pub(crate) fn take_parts(&mut self) -> Option<Parts> {
        self.parts.take()
    }

    /// What the supervisor opened of the image that is the mount `index`.
    pub(super) fn take_volume(&mut self, index: usize) -> Option<Volume> {
        let at = self.volumes.iter().position(|(of, _)| *of == index)?;
        Some(self.volumes.swap_remove(at).1)
    }

    /// The source of the mount `index`, and whether it was idmapped already.
    pub(super) fn take(
        &mut self,
        index: usize,
        mount: &Mount,
        path: &str,
        recursive: bool,
    ) -> Step<(OwnedFd, bool)> {
        match self.binds.get_mut(index).and_then(Option::take) {
            Some(Opened { mount: source, outside: false }) => Ok((source, false)),
            Some(Opened { mount: source, outside: true }) => {
                Ok((cut_off(source, &mount.target)?, mount.idmap != Idmap::Off))
            }
            None => Ok((open(&mount.target, path, recursive)?, false)),
        }
    }
}

/// A mount that was detached in the node's namespace is a peer of the node's; here it may only listen.
fn cut_off(source: OwnedFd, what: &str) -> Step<OwnedFd> {
    let slave = Attributes { propagation: propagation::SLAVE, recursive: true, ..Attributes::default() };
    match set_attributes(source.as_fd(), c"", slave) {
        Ok(()) => Ok(source),
        Err(error) => {
            Err(Failure::system(format!("mount {what:?}: cannot cut it off from the node: {error}")))
        }
    }
}

fn open(target: &str, path: &str, recursive: bool) -> Step<OwnedFd> {
    clone_mount(CWD, path, recursive).map_err(|errno| refused(target, path, errno))
}

fn refused(target: &str, path: &str, errno: Errno) -> Failure {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Failure::request(format!(
            "mount {target:?}: the source {path:?} does not exist on the node; make it, or mount another path"
        )),
        errno => Failure::system(format!("mount {target:?}: cannot bind {path:?}: {}", describe(errno))),
    }
}
