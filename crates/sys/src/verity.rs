//! fs-verity: a file that can no longer be written, and whose every read is checked against a Merkle tree
//! (Documentation/filesystems/fsverity.rst). The kernel's word alone; whether a digest is the wanted one, others say.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// `FS_IOC_ENABLE_VERITY`: `_IOW('f', 133, struct fsverity_enable_arg)`.
const ENABLE: libc::Ioctl = 0x4080_6685;
/// `FS_IOC_MEASURE_VERITY`: `_IOWR('f', 134, struct fsverity_digest)`.
const MEASURE: libc::Ioctl = 0xc004_6686_u32 as libc::Ioctl;
/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA256: u32 = 1;
/// The longest digest there is, of SHA-512.
const DIGEST_MOST: usize = 64;

/// `struct fsverity_enable_arg` of `linux/fsverity.h`.
#[repr(C)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest` with room for every digest.
#[repr(C)]
struct Digest {
    algorithm: u16,
    size: u16,
    digest: [u8; DIGEST_MOST],
}

/// Seals a file, with SHA-256 in blocks of 4096 bytes. It has to be open for reading only, here and everywhere.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the kernel or the file system has none; `EEXIST` for a file that is sealed already.
pub fn enable(file: BorrowedFd<'_>) -> io::Result<()> {
    let arg = EnableArg {
        version: 1,
        hash_algorithm: SHA256,
        block_size: 4096,
        salt_size: 0,
        salt_ptr: 0,
        sig_size: 0,
        reserved1: 0,
        sig_ptr: 0,
        reserved2: [0; 11],
    };
    // SAFETY: the kernel reads one fsverity_enable_arg, which lives for the call and points nowhere.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), ENABLE, std::ptr::from_ref(&arg)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The algorithm (`FS_VERITY_HASH_ALG_*`) and digest of a sealed file.
///
/// # Errors
/// `ENODATA` for a file that is not sealed, and those of [`enable`].
pub fn measure(file: BorrowedFd<'_>) -> io::Result<(u16, Vec<u8>)> {
    let mut digest = Digest { algorithm: 0, size: DIGEST_MOST as u16, digest: [0; DIGEST_MOST] };
    // SAFETY: the kernel writes at most the `size` bytes that follow the header, which are there and live for the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), MEASURE, std::ptr::from_mut(&mut digest)) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let size = usize::from(digest.size).min(DIGEST_MOST);
    Ok((digest.algorithm, digest.digest[..size].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_have_the_kernels_size() {
        assert_eq!(std::mem::size_of::<EnableArg>(), 128);
        assert_eq!(std::mem::offset_of!(Digest, digest), 4);
    }
}
