//! Loop devices: a file as a block device (loop(4)). Each goes by itself when its last user does.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::io;

/// `LOOP_CTL_GET_FREE` of `linux/loop.h`.
const CTL_GET_FREE: libc::Ioctl = 0x4c82;
/// `LOOP_CONFIGURE` of `linux/loop.h`, Linux 5.8.
const CONFIGURE: libc::Ioctl = 0x4c0a;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device that is gone when this is dropped and nothing has it mounted.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loopN`.
    pub path: String,
    _device: OwnedFd,
}

/// How many others may take the free device first.
const ATTEMPTS: usize = 64;

/// Shows `file` as a block device. A writable one writes past the page cache where the file system under it can.
///
/// # Errors
/// What `/dev/loop-control`, the device or the kernel says; `EBUSY` when others were faster too often.
pub fn attach(file: BorrowedFd<'_>, read_only: bool) -> io::Result<LoopDevice> {
    let open = |path: &str| rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let control = open("/dev/loop-control")?;
    let flags = if read_only { READ_ONLY | AUTOCLEAR } else { AUTOCLEAR | DIRECT_IO };
    for attempt in 0..ATTEMPTS {
        // SAFETY: the request takes no argument and answers a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = format!("/dev/loop{number}");
        let device = match open(&path) {
            Ok(device) => device,
            // It came a moment ago, and its node is not there yet; or it goes.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NXIO) if attempt + 1 < ATTEMPTS => {
                std::thread::sleep(std::time::Duration::from_millis(2));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match configure(&device, file, flags) {
            Ok(()) => return Ok(LoopDevice { path, _device: device }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            // A file system that has no direct I/O, with a kernel that refuses rather than ignores it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && flags & DIRECT_IO != 0 => {
                match configure(&device, file, flags & !DIRECT_IO) {
                    Ok(()) => return Ok(LoopDevice { path, _device: device }),
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

fn configure(device: &OwnedFd, file: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    // A descriptor is never negative.
    let fd = file.as_raw_fd().cast_unsigned();
    // SAFETY: integers and arrays of integers, for which all-zero is a valid value.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = fd;
    config.info.flags = flags;
    // SAFETY: the kernel reads one loop_config, which lives for the call and has the layout of its header.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, std::ptr::from_ref(&config)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    #[test]
    fn structs_have_the_kernels_size() {
        assert_eq!(std::mem::size_of::<LoopInfo64>(), 232);
        assert_eq!(std::mem::size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_file_reads_as_a_device_that_goes_with_its_last_user() {
        let path = std::env::temp_dir().join(format!("sys-loop-{}", std::process::id()));
        std::fs::write(&path, vec![7; 1 << 16]).expect("write");
        let file = std::fs::File::open(&path).expect("open");
        match attach(file.as_fd(), true) {
            Ok(device) => {
                assert!(std::fs::read(&device.path).expect("read") == vec![7; 1 << 16]);
                let name = device.path.trim_start_matches("/dev/").to_owned();
                drop(device);
                let backing = format!("/sys/block/{name}/loop/backing_file");
                let ours = || std::fs::read_to_string(&backing).is_ok_and(|text| text.contains("sys-loop-"));
                let gone = (0..100).any(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    !ours()
                });
                assert!(gone, "{backing}");
            }
            Err(error) => eprintln!("SKIPPED: loop devices are not to be had here: {error}"),
        }
        std::fs::remove_file(&path).expect("remove");
    }
}
