//! Idmapped mounts: the user namespaces that carry their mappings, one for all mounts with equal ones.

use crate::failure::{Failure, Step, Tried};
use crate::plan::{IdMap, Idmap, Mount, Namespace, Namespaces, RootIds};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::fmt::Write;
use sys::mount::{Attributes, attr, set_attributes};

/// Namespaces that were made so far.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    made: Vec<(Vec<IdMap>, Vec<IdMap>, OwnedFd)>,
    joined: Option<OwnedFd>,
}

impl Mappings {
    /// Idmaps `clone`, a detached mount, as `mount` asks.
    pub(crate) fn apply(&mut self, own: &Namespaces, mount: &Mount, clone: BorrowedFd<'_>) -> Step {
        if mount.idmap == Idmap::Off {
            return Ok(());
        }
        let target = &mount.target;
        let namespace = self.namespace_for(own, mount)?;
        let change = Attributes {
            set: attr::IDMAP,
            user_namespace: Some(namespace),
            recursive: mount.idmap == Idmap::Recursive,
            ..Attributes::default()
        };
        set_attributes(clone, c"", change).map_err(|error| {
            let failure = Failure::system(format!("mount {target:?}: cannot make an idmapped mount"));
            match error.raw_os_error() {
                // can_idmap_mount in fs/namespace.c: the file system has no FS_ALLOW_IDMAP, or has a mapping already.
                Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => Failure::request(format!(
                    "{failure}: the source's file system does not support it on this kernel"
                )),
                Some(code) if code == rustix::io::Errno::PERM.raw_os_error() => Failure::request(format!(
                    "{failure}: it needs privileges over the source's file system, and a source that is not idmapped itself"
                )),
                _ => Failure::system(format!("{failure}: {error}")),
            }
        })
    }

    /// Idmaps a mount of the root; does nothing where no ids are mapped.
    pub(crate) fn apply_root(&mut self, ids: &RootIds, mount: BorrowedFd<'_>) -> Step {
        if ids.is_empty() {
            return Ok(());
        }
        let namespace = self.with("/", &ids.uids, &ids.gids)?;
        let change =
            Attributes { set: attr::IDMAP, user_namespace: Some(namespace), ..Attributes::default() };
        set_attributes(mount, c"", change).map_err(|error| {
            Failure::system(format!(
                "cannot map the ids of the root: {error} (its file system has to take idmapped mounts: ext4, xfs, btrfs \
                 and erofs do)"
            ))
        })
    }

    fn namespace_for(&mut self, own: &Namespaces, mount: &Mount) -> Step<BorrowedFd<'_>> {
        let target = &mount.target;
        if !mount.uid_mappings.is_empty() && !mount.gid_mappings.is_empty() {
            return self.with(target, &mount.uid_mappings, &mount.gid_mappings);
        }
        match &own.user {
            // Only the mappings count, so that the container's own namespace need not exist yet.
            Namespace::New => self.with(target, &own.uid_mappings, &own.gid_mappings),
            Namespace::Path(path) => {
                if self.joined.is_none() {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    let file = rustix::fs::open(path.as_str(), flags, Mode::empty())
                        .tried(|| format!("cannot open the user namespace {path:?}"))?;
                    self.joined = Some(file);
                }
                let gone = || Failure::system("the user namespace was not opened");
                Ok(self.joined.as_ref().ok_or_else(gone)?.as_fd())
            }
            Namespace::Inherit => Err(Failure::request(format!(
                "mount {target:?}: an idmapped mount needs mappings, its own or those of the container's user namespace"
            ))),
        }
    }

    fn with(&mut self, target: &str, uids: &[IdMap], gids: &[IdMap]) -> Step<BorrowedFd<'_>> {
        let known = self.made.iter().position(|(u, g, _)| u == uids && g == gids);
        let at = match known {
            Some(at) => at,
            None => {
                let made = sys::userns::with_mappings(&text(uids), &text(gids))
                    .tried(|| format!("mount {target:?}: cannot make a user namespace with its mappings"))?;
                self.made.push((uids.to_vec(), gids.to_vec(), made));
                self.made.len() - 1
            }
        };
        Ok(self.made[at].2.as_fd())
    }
}

/// In the form of `/proc/PID/uid_map`.
fn text(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut all, map| {
        // Writing to a string cannot fail.
        let _ = writeln!(all, "{} {} {}", map.inside, map.outside, map.length);
        all
    })
}
