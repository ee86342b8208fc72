//! The device-mapper: devices that are made of a table of targets (include/uapi/linux/dm-ioctl.h, interface 4.0).
//!
//! Names and tables are passed on as they are; what they mean is the caller's affair. No program is run, and udev is
//! told to leave the devices alone: it makes no links for them and does not look into them.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::io;

/// Where the devices are controlled. Opening it loads the module where the node is there and the module is not.
pub const CONTROL: &str = "/dev/mapper/control";

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

const HEADER: usize = size_of::<Header>();
/// `struct dm_target_spec`: start and length in sectors, a status, the offset of the next one, the target's type.
const SPEC: usize = 40;
const _: () = assert!(HEADER == 312);

/// The longest name of a device (`DM_NAME_LEN`, with the NUL).
pub const NAME_MAX: usize = 127;
/// Room for the lines of a table; ours have one or a few.
const ROOM: usize = 16 << 10;

const DEV_CREATE: u32 = 3;
const DEV_REMOVE: u32 = 4;
const DEV_SUSPEND: u32 = 6;
const DEV_STATUS: u32 = 7;
const TABLE_LOAD: u32 = 9;
const TABLE_STATUS: u32 = 12;
const TARGET_MSG: u32 = 14;

const READ_ONLY: u32 = 1;
const STATUS_TABLE: u32 = 1 << 4;
const BUFFER_FULL: u32 = 1 << 8;

/// The upper half of `event_nr` reaches udev's rules with the event: no links, no look at the content, no rules of
/// others, no fallback of the library (`DM_UDEV_DISABLE_*_FLAG` of libdevmapper.h), and that this is the event that counts
/// (`DM_UDEV_PRIMARY_SOURCE_FLAG`).
const LEAVE_ALONE: u32 = (0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40) << 16;

/// One target of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Length in sectors of 512 bytes.
    pub sectors: u64,
    /// For example `thin`.
    pub kind: String,
    /// What the target takes, or what it says of itself.
    pub text: String,
}

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub major: u32,
    /// The N of `/dev/dm-N`.
    pub minor: u32,
    /// How many have it open.
    pub users: i32,
}

/// Which text of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// As it was loaded.
    Table,
    /// As it is now.
    Status,
}

/// The opened control device.
#[derive(Debug)]
pub struct Control(OwnedFd);

impl Control {
    /// Opens it.
    ///
    /// # Errors
    /// `ENOENT` or `ENXIO`, `ENODEV` where the kernel has no device-mapper.
    pub fn open() -> io::Result<Self> {
        let fd = rustix::fs::open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self(fd))
    }

    /// A device by its name; none where there is no such one.
    pub fn device(&self, name: &str) -> io::Result<Option<Device>> {
        let mut call = Call::new(name, 0)?;
        match call.send(self, DEV_STATUS) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
            Err(error) => return Err(error),
        }
        let header = call.header();
        Ok(Some(device(&header)))
    }

    /// Makes a device of one target, ready for use. What was made of it is taken back where it fails.
    ///
    /// # Errors
    /// `EBUSY` where the name is taken.
    pub fn create(&self, name: &str, target: &Target, read_only: bool) -> io::Result<Device> {
        Call::new(name, 0)?.send(self, DEV_CREATE)?;
        let made = self.load(name, target, read_only);
        if made.is_err() {
            let _ = self.remove(name);
        }
        made
    }

    fn load(&self, name: &str, target: &Target, read_only: bool) -> io::Result<Device> {
        if target.kind.is_empty() || target.kind.len() > 15 || target.text.contains('\0') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut load = Call::new(name, SPEC + target.text.len() + 8)?;
        load.change(|header| {
            header.target_count = 1;
            header.flags = if read_only { READ_ONLY } else { 0 };
        });
        let length = u32::try_from(SPEC + target.text.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        let spec = load.data();
        spec[8..16].copy_from_slice(&target.sectors.to_ne_bytes());
        spec[20..24].copy_from_slice(&length.next_multiple_of(8).to_ne_bytes());
        spec[24..24 + target.kind.len()].copy_from_slice(target.kind.as_bytes());
        spec[SPEC..SPEC + target.text.len()].copy_from_slice(target.text.as_bytes());
        load.send(self, TABLE_LOAD)?;
        // Without the suspend flag it is a resume.
        let mut resume = Call::new(name, 0)?;
        resume.change(|header| header.event_nr = LEAVE_ALONE);
        resume.send(self, DEV_SUSPEND)?;
        Ok(device(&resume.header()))
    }

    /// Takes a device away. What is not there is no error.
    ///
    /// # Errors
    /// `EBUSY` while somebody has it open.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut call = Call::new(name, 0)?;
        call.change(|header| header.event_nr = LEAVE_ALONE);
        match call.send(self, DEV_REMOVE) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            other => other,
        }
    }

    /// Says something to a device's first target.
    pub fn message(&self, name: &str, text: &str) -> io::Result<()> {
        if text.contains('\0') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // `struct dm_target_msg`: a sector, and the text with its NUL.
        let mut call = Call::new(name, 8 + text.len() + 1)?;
        call.data()[8..8 + text.len()].copy_from_slice(text.as_bytes());
        call.send(self, TARGET_MSG)
    }

    /// The first target of a device; none where it has no table.
    pub fn target(&self, name: &str, which: Text) -> io::Result<Option<Target>> {
        let mut call = Call::new(name, ROOM)?;
        call.change(|header| header.flags = if which == Text::Table { STATUS_TABLE } else { 0 });
        call.send(self, TABLE_STATUS)?;
        let header = call.header();
        if header.flags & BUFFER_FULL != 0 {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        if header.target_count == 0 {
            return Ok(None);
        }
        let data = call.data();
        let mut sectors = [0; 8];
        sectors.copy_from_slice(&data[8..16]);
        let words = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
        };
        let (kind, text) = (words(&data[24..SPEC]), words(&data[SPEC..]));
        Ok(Some(Target { sectors: u64::from_ne_bytes(sectors), kind, text }))
    }
}

fn device(header: &Header) -> Device {
    // The kernel gives it in the form of `huge_encode_dev`, which is that of dev_t here.
    Device {
        major: rustix::fs::major(header.dev),
        minor: rustix::fs::minor(header.dev),
        users: header.open_count,
    }
}

/// A header with what follows it, aligned as the header.
struct Call(Vec<u64>);

impl Call {
    fn new(name: &str, data: usize) -> io::Result<Self> {
        if name.is_empty() || name.len() > NAME_MAX || name.contains(['/', '\0']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let words = (HEADER + data).div_ceil(8);
        let mut call = Self(vec![0; words]);
        let size = u32::try_from(words * 8).map_err(|_| io::ErrorKind::InvalidInput)?;
        call.change(|header| {
            header.version = [4, 0, 0];
            header.data_size = size;
            header.data_start = HEADER as u32;
            header.name[..name.len()].copy_from_slice(name.as_bytes());
        });
        Ok(call)
    }

    fn header(&self) -> Header {
        // SAFETY: the buffer is at least a header long and aligned to eight bytes, as the header is; it consists of
        // integers, for which all bytes are valid.
        unsafe { std::ptr::read(self.0.as_ptr().cast::<Header>()) }
    }

    fn change(&mut self, change: impl FnOnce(&mut Header)) {
        let mut header = self.header();
        change(&mut header);
        // SAFETY: as in `header`; the buffer is borrowed mutably.
        unsafe { std::ptr::write(self.0.as_mut_ptr().cast::<Header>(), header) }
    }

    /// What follows the header.
    fn data(&mut self) -> &mut [u8] {
        let length = self.0.len() * 8 - HEADER;
        // SAFETY: the buffer has this many initialized bytes behind its first `HEADER`, any value of a byte is fine in it,
        // and it is borrowed mutably for as long as the slice is.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast::<u8>().add(HEADER), length) }
    }

    fn send(&mut self, control: &Control, number: u32) -> io::Result<()> {
        // `_IOWR(0xfd, number, struct dm_ioctl)` of asm-generic/ioctl.h, which x86-64 and arm64 share.
        let request = (3 << 30) | ((HEADER as u32) << 16) | (0xfd << 8) | number;
        // SAFETY: the kernel reads and writes `data_size` bytes, which is the length of the buffer, keeps no pointer,
        // and what it writes are bytes of integers and text.
        let done = unsafe { libc::ioctl(control.0.as_raw_fd(), request as _, self.0.as_mut_ptr()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_cut_or_take_apart_are_refused() {
        for name in ["", "a/b", "a\0b", &"x".repeat(128)] {
            assert!(Call::new(name, 0).is_err(), "{name:?}");
        }
        let mut call = Call::new("pool", 13).expect("a call");
        assert_eq!(call.header().data_size, 312 + 16);
        assert_eq!(call.data().len(), 16);
        assert_eq!(&call.header().name[..5], b"pool\0");
    }

    #[test]
    fn a_device_is_made_read_and_taken_away() {
        let control = match Control::open() {
            Ok(control) => control,
            Err(error) => return eprintln!("SKIPPED: there is no device-mapper here: {error}"),
        };
        let name = format!("corten-sys-{}", std::process::id());
        let zero = Target { sectors: 8, kind: "zero".into(), text: String::new() };
        match control.create(&name, &zero, true) {
            Ok(made) => {
                assert_eq!(control.device(&name).expect("status").map(|d| d.minor), Some(made.minor));
                assert_eq!(control.target(&name, Text::Table).expect("table"), Some(zero.clone()));
                let again = control.create(&name, &zero, true).expect_err("the name is taken");
                assert_eq!(again.raw_os_error(), Some(libc::EBUSY));
            }
            Err(error) => eprintln!("SKIPPED: this kernel has no target of zeros: {error}"),
        }
        control.remove(&name).expect("remove");
        control.remove(&name).expect("gone is fine");
        assert_eq!(control.device(&name).expect("status"), None);
    }
}
