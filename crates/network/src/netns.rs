//! Network namespaces: pinning one to a file, and working inside one from a thread of its own.
//!
//! A pinned namespace lives as long as the mount, whatever becomes of the processes in it
//! (namespaces(7)). No thread that serves anything else ever changes its namespace: [`run_in`]
//! starts a thread, which ends with the work, so a failure to come back cannot happen.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::LinkNameSpaceType;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// `NSFS_MAGIC` of linux/magic.h: what statfs(2) says of a namespace file.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// What can go wrong with a namespace file.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Errno,
    },
    /// The file is not a namespace.
    #[error("{} is not a network namespace", path.display())]
    NotNamespace {
        /// Which file.
        path: PathBuf,
    },
}

impl From<NetnsError> for Error {
    fn from(error: NetnsError) -> Self {
        let kind = match &error {
            NetnsError::System { source: Errno::PERM | Errno::ACCESS, .. } => ErrorKind::PermissionDenied,
            NetnsError::System { source: Errno::NOENT, .. } => ErrorKind::NotFound,
            NetnsError::System { .. } => ErrorKind::Internal,
            NetnsError::NotNamespace { .. } => ErrorKind::InvalidArgument,
        };
        Error::with_source(kind, error.to_string(), error)
    }
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> NetnsError {
    let path = path.to_owned();
    move |source| NetnsError::System { action, path, source }
}

/// Keeps the namespace `source` (for example `/proc/PID/ns/net`) alive under the file `target`,
/// which is made, mode 0600, if it is not there. The mount goes by descriptor
/// (open_tree(2), move_mount(2); kernel 5.2), so that neither end can be exchanged on the way.
pub fn pin(source: &Path, target: &Path) -> Result<()> {
    let file = rustix::fs::openat(
        CWD,
        target,
        OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .map_err(system("create the namespace file", target))?;
    let pinned = mount_onto(source, target, &file);
    if pinned.is_err() {
        // The file alone means nothing; a failure to remove it leaves an empty file.
        let _ = rustix::fs::unlink(target);
    }
    pinned
}

fn mount_onto(source: &Path, target: &Path, file: &OwnedFd) -> Result<()> {
    // The magic link of /proc is followed once, here; the clone is of the namespace file itself.
    let tree = rustix::mount::open_tree(
        CWD,
        source,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .map_err(system("clone the namespace", source))?;
    if !is_namespace(tree.as_fd()) {
        return Err(NetnsError::NotNamespace { path: source.to_owned() }.into());
    }
    rustix::mount::move_mount(
        &tree,
        "",
        file,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(system("mount the namespace on", target))?;
    Ok(())
}

/// Lets go of a pinned namespace: unmounts, and removes the file. What is gone already is fine.
pub fn unpin(target: &Path) -> Result<()> {
    loop {
        // A lazy unmount: a thread that is inside for a moment must not make this fail.
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {} // mounted twice by a retried pin: again
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => break,
            Err(errno) => return Err(system("unmount the namespace", target)(errno).into()),
        }
    }
    match rustix::fs::unlink(target) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(system("remove the namespace file", target)(errno).into()),
    }
}

fn is_namespace(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|s| s.f_type == NSFS_MAGIC)
}

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace file at `path`. `None` where nothing is there, or only the plain file
    /// that a mount was on: the namespace is gone.
    pub fn open(path: &Path) -> Result<Option<Self>, NetnsError> {
        let fd = match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(system("open the namespace", path)(errno)),
        };
        Ok(is_namespace(fd.as_fd()).then(|| Self { fd, path: path.to_owned() }))
    }

    /// The calling thread's own namespace.
    pub fn own() -> Result<Self, NetnsError> {
        let path = Path::new("/proc/thread-self/ns/net");
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(system("open the namespace", path))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are one namespace: nsfs gives each namespace one inode.
    pub fn same(&self, other: &Netns) -> bool {
        match (rustix::fs::fstat(&self.fd), rustix::fs::fstat(&other.fd)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }

    /// Moves the calling thread into the namespace. For a thread that ends soon, see [`run_in`].
    pub fn enter(&self) -> Result<(), NetnsError> {
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
            |errno| match errno {
                Errno::INVAL => NetnsError::NotNamespace { path: self.path.clone() },
                errno => system("enter the namespace", &self.path)(errno),
            },
        )
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `work` inside the namespace, on a thread that exists for it alone. Blocks until it is done.
pub fn run_in<T, E>(namespace: &Netns, work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: Send + From<NetnsError>,
{
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, move || {
                namespace.enter()?;
                work()
            });
        let failed = |errno| E::from(system("start a thread for the namespace", &namespace.path)(errno));
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(failed(Errno::IO))),
            Err(error) => Err(failed(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))),
        }
    })
}
