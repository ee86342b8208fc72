//! `mount_setattr(2)`, which rustix does not wrap.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::ffi::CStr;
use std::io;

/// `MOUNT_ATTR_*` of `linux/mount.h`.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Ignore set-user-id bits.
    pub const NOSUID: u64 = 0x2;
    /// No device nodes.
    pub const NODEV: u64 = 0x4;
    /// No program may be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field that holds one of the access-time modes.
    pub const ATIME_MASK: u64 = 0x70;
    /// Access times relative to modification times (the default).
    pub const RELATIME: u64 = 0x0;
    /// No access times.
    pub const NOATIME: u64 = 0x10;
    /// Access times always.
    pub const STRICTATIME: u64 = 0x20;
    /// No access times of directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Idmapped.
    pub const IDMAP: u64 = 0x10_0000;
    /// No symbolic links followed (Linux 5.10).
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Propagation types of `linux/mount.h`.
pub mod propagation {
    /// No propagation.
    pub const PRIVATE: u64 = 1 << 18;
    /// From the peer group only.
    pub const SLAVE: u64 = 1 << 19;
    /// Both ways.
    pub const SHARED: u64 = 1 << 20;
    /// Private, and cannot be bind mounted.
    pub const UNBINDABLE: u64 = 1 << 17;
    /// Recursive; not a propagation type, but written together with one.
    pub const RECURSIVE: u64 = 1 << 14;
}

/// What [`set_attributes`] changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// A propagation type, or 0.
    pub propagation: u64,
    /// The user namespace of an idmapped mount.
    pub user_namespace: Option<BorrowedFd<'a>>,
    /// All mounts below, too.
    pub recursive: bool,
}

/// `struct mount_attr` of `linux/mount.h`, version 0 (32 bytes).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount at `path` below `dir`; an empty path is the mount that `dir` itself refers to (Linux 5.12).
pub fn set_attributes(dir: BorrowedFd<'_>, path: &CStr, change: Attributes<'_>) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: change.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let mut flags = libc::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `path` is NUL-terminated and `attr` is a mount_attr of the size that is told; both live for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(&attr),
            std::mem::size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
