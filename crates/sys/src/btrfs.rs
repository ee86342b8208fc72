//! Subvolumes of btrfs (include/uapi/linux/btrfs.h, kernel 6.18). Names are single components; nothing is resolved
//! but by the kernel, below the descriptor that is given.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`, with its unions as the bytes that they are.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

const MAGIC: u32 = 0x94;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// The longest name of a subvolume (`BTRFS_SUBVOL_NAME_MAX` is more; a directory entry is not).
const NAME_MAX: usize = 255;

/// `_IOW(0x94, number, size)` of asm-generic/ioctl.h, which x86-64 and arm64 share.
const fn write_request(number: u32, size: usize) -> u32 {
    (1 << 30) | ((size as u32) << 16) | (MAGIC << 8) | number
}

const SUBVOL_CREATE: u32 = write_request(14, size_of::<VolArgs>());
const SNAP_DESTROY: u32 = write_request(15, size_of::<VolArgs>());
const SNAP_CREATE_V2: u32 = write_request(23, size_of::<VolArgsV2>());
const SUBVOL_SETFLAGS: u32 = write_request(26, size_of::<u64>());

/// The number of the inode that every subvolume's root has (`BTRFS_FIRST_FREE_OBJECTID`).
pub const ROOT_INODE: u64 = 256;

/// Makes an empty subvolume in `parent`. Its root has the mode 0777 less the umask.
pub fn create(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    fill(&mut args.name, name)?;
    ioctl(parent, SUBVOL_CREATE, &mut args)
}

/// Makes a subvolume in `parent` that begins as `source`, which is one, too.
pub fn snapshot(
    source: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &[u8],
    read_only: bool,
) -> io::Result<()> {
    let mut args = VolArgsV2 {
        fd: i64::from(source.as_raw_fd()),
        transid: 0,
        flags: if read_only { READ_ONLY } else { 0 },
        unused: [0; 4],
        name: [0; 4040],
    };
    fill(&mut args.name, name)?;
    ioctl(parent, SNAP_CREATE_V2, &mut args)
}

/// Says whether a subvolume may be written to; `subvolume` is its root.
pub fn set_read_only(subvolume: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let mut flags = if read_only { READ_ONLY } else { 0 };
    ioctl(subvolume, SUBVOL_SETFLAGS, &mut flags)
}

/// Removes a subvolume with all that is in it, but for subvolumes of its own: with those it is `ENOTEMPTY`.
pub fn destroy(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    fill(&mut args.name, name)?;
    ioctl(parent, SNAP_DESTROY, &mut args)
}

fn fill(to: &mut [u8], name: &[u8]) -> io::Result<()> {
    let plain = !name.is_empty() && name.len() <= NAME_MAX && !name.contains(&b'/') && !name.contains(&0);
    if !plain || name == b"." || name == b".." {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    to[..name.len()].copy_from_slice(name);
    Ok(())
}

fn ioctl<T>(fd: BorrowedFd<'_>, request: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: each request above is paired by its caller with the type whose size is encoded in it, all of whose bytes are
    // initialized, and which has no padding (asserted below); the kernel reads, and for some writes, exactly that many
    // bytes of it, and keeps no pointer.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096);
