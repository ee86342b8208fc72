//! Project quotas: how much the files of one project take, whoever owns them (quotactl(2), ioctl_xfs_fsgetxattr(2)).

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// `FS_IOC_FSGETXATTR` of `linux/fs.h`.
const GET: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
/// `FS_IOC_FSSETXATTR`.
const SET: libc::Ioctl = 0x401c_5820;
/// What is made in the directory belongs to its project.
const PROJINHERIT: u32 = 0x200;
/// `Q_SETQUOTA` for `PRJQUOTA`, as `QCMD` of `linux/quota.h` puts them together.
const SET_QUOTA: u32 = 0x80_0008 << 8 | 2;
/// `Q_GETQUOTA` for `PRJQUOTA`.
const GET_QUOTA: u32 = 0x80_0007 << 8 | 2;
/// `QIF_LIMITS`: those of blocks and those of inodes.
const LIMITS: u32 = 1 | 4;
/// `QIF_DQBLKSIZE`: limits count in these.
const BLOCK: u64 = 1024;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

/// `struct if_dqblk` of `linux/quota.h`.
#[repr(C)]
#[derive(Default)]
struct Limits {
    block_hard: u64,
    block_soft: u64,
    space: u64,
    inode_hard: u64,
    inode_soft: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// `Q_XGETQSTATV` for `PRJQUOTA`, of `linux/dqblk_xfs.h`; ext4 answers it, too.
const GET_STATE: u32 = 0x5808 << 8 | 2;
/// `FS_QUOTA_PDQ_ENFD`.
const PROJECTS_BOUNDED: u16 = 1 << 5;

/// `struct fs_quota_statv` of `linux/dqblk_xfs.h`.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    incore: u32,
    files: [u64; 9],
    time_limits: [i32; 3],
    warn_limits: [u16; 4],
    pad_more: u32,
    reserved: [u64; 7],
}

const _: () = assert!(size_of::<State>() == 160);

/// Whether the file system of `file` holds projects to their bounds. ext4 counts without that, too.
///
/// # Errors
/// `ENOSYS` where projects are not counted, or the kernel is too old to be asked (quotactl_fd(2), Linux 5.14).
pub fn bounds_projects(file: BorrowedFd<'_>) -> io::Result<bool> {
    // FS_QSTATV_VERSION1.
    let mut state = State { version: 1, ..State::default() };
    // SAFETY: the kernel reads the version and fills one fs_quota_statv, whose size is asserted above, and which lives for
    // the call.
    let done = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), GET_STATE, 0, std::ptr::from_mut(&mut state))
    };
    if done == 0 { Ok(state.flags & PROJECTS_BOUNDED != 0) } else { Err(io::Error::last_os_error()) }
}

fn get(file: BorrowedFd<'_>) -> io::Result<FsXattr> {
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel fills one fsxattr, which lives for the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), GET, std::ptr::from_mut(&mut attributes)) };
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

/// The project of a file or directory; 0 where it has none.
pub fn project(file: BorrowedFd<'_>) -> io::Result<u32> {
    get(file).map(|attributes| attributes.project)
}

/// Puts a directory into a project, with all that will be made in it.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system has no projects.
pub fn set_project(dir: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = get(dir)?;
    attributes.project = project;
    attributes.flags |= PROJINHERIT;
    // SAFETY: the kernel reads one fsxattr, which lives for the call.
    let done = unsafe { libc::ioctl(dir.as_raw_fd(), SET, std::ptr::from_ref(&attributes)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The most bytes and the most inodes that a project may take on the file system of `file`; 0 takes that bound away
/// (quotactl_fd(2), Linux 5.14).
///
/// # Errors
/// `ENOSYS` before that, `ESRCH` where projects are not counted.
pub fn set_project_limit(file: BorrowedFd<'_>, project: u32, bytes: u64, inodes: u64) -> io::Result<()> {
    let (block_hard, inode_hard) = (bytes.div_ceil(BLOCK), inodes);
    let limits = Limits { block_hard, inode_hard, valid: LIMITS, ..Limits::default() };
    // SAFETY: the kernel reads one if_dqblk, which lives for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            SET_QUOTA,
            project,
            std::ptr::from_ref(&limits),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a project has neither a file nor a bound on the file system of `file`.
pub fn is_unused(file: BorrowedFd<'_>, project: u32) -> io::Result<bool> {
    let mut limits = Limits::default();
    // SAFETY: the kernel fills one if_dqblk, which lives for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            GET_QUOTA,
            project,
            std::ptr::from_mut(&mut limits),
        )
    };
    if done == 0 {
        let bounded = limits.block_hard != 0 || limits.inode_hard != 0;
        return Ok(limits.space == 0 && limits.inodes == 0 && !bounded);
    }
    match io::Error::last_os_error() {
        // xfs has no record of it.
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_have_the_kernels_size() {
        assert_eq!(std::mem::size_of::<FsXattr>(), 28);
        assert_eq!(std::mem::size_of::<Limits>(), 72);
    }
}
