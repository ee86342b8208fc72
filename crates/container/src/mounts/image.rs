//! Images as mounts: the content of an image, or one folder of it, read-only. Like a root it is put together in the
//! container's own mount namespace; nothing of it is in the node's mount table, and it goes with the container.

use super::sources::Volume;
use super::{Context, attach, clone_mount, mount_point, set};
use crate::failure::{Failure, Step, Tried, describe};
use crate::plan::{Mount, RootIds, RootSource};
use crate::root::{self, Attach, Parts};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// Whose the files of an image volume are.
pub(super) fn ids(mount: &Mount) -> RootIds {
    RootIds { uids: mount.uid_mappings.clone(), gids: mount.gid_mappings.clone() }
}

/// What is mounted, and how it is called in messages.
pub(super) struct Wanted<'a> {
    pub source: &'a RootSource,
    pub folder: &'a str,
    pub image: &'a str,
}

pub(super) fn mount(
    context: &Context<'_>,
    mount: &Mount,
    wanted: &Wanted<'_>,
    opened: Option<Volume>,
) -> Step {
    let (target, image) = (&mount.target, wanted.image);
    let named = |failure: Failure| Failure {
        message: format!("mount {target:?}: cannot mount the image {image:?}: {failure}"),
        ..failure
    };
    let whole = match opened {
        Some(Volume::Whole(whole)) => whole,
        Some(Volume::Parts(parts)) => root::assemble(wanted.source, parts, Attach::Here).map_err(named)?,
        None => {
            let parts = Parts::open(wanted.source, &ids(mount)).map_err(named)?;
            root::assemble(wanted.source, parts, Attach::Here).map_err(named)?
        }
    };
    // The whole is read-only first: for a moment it may be attached.
    set(whole.as_fd(), mount.set, mount.clear, false, target)?;
    let point = mount_point(context.root, target, true)?;
    let made = if wanted.folder.is_empty() {
        whole
    } else {
        let folder = folder(whole.as_fd(), wanted.folder).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Failure::request(format!(
                "mount {target:?}: the image {image:?} has no folder {:?}",
                wanted.folder
            )),
            errno => Failure::system(format!(
                "mount {target:?}: cannot open the folder {:?} of the image {image:?}: {}",
                wanted.folder,
                describe(errno)
            )),
        })?;
        let part = part(&whole, folder.as_fd(), point.as_fd())
            .tried(|| format!("mount {target:?}: cannot take the folder {:?} of {image:?}", wanted.folder))?;
        // A copy of a mount has its flags; said again, for it must not depend on that.
        set(part.as_fd(), mount.set, mount.clear, false, target)?;
        part
    };
    attach(&made, &point).tried(|| format!("mount {target:?}: cannot attach the image {image:?}"))
}

/// A folder of the image. Its links lead where they lead in the image, and never out of it.
fn folder(whole: BorrowedFd<'_>, folder: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        whole,
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The folder as a mount by itself.
fn part(whole: &OwnedFd, folder: BorrowedFd<'_>, point: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    match clone_mount(folder, "", false) {
        // Before Linux 6.15 what is attached nowhere cannot be cloned (`may_copy_tree` in fs/namespace.c).
        Err(Errno::INVAL) => {
            attach(whole, point)?;
            let part = clone_mount(folder, "", false);
            unmount(format!("/proc/self/fd/{}", whole.as_raw_fd()), UnmountFlags::DETACH)?;
            part
        }
        other => other,
    }
}
