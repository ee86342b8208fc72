//! Numbers and records of the format (fs/erofs/erofs_fs.h). Pure: bytes in memory.

/// Of everything. Every kernel takes this one.
pub const BLOCK: u64 = 4096;
/// Where the superblock lies.
pub const SUPER: usize = 1024;
/// `struct erofs_super_block`.
pub const SUPER_SIZE: usize = 128;
/// Inodes lie at multiples of this.
pub const SLOT: u64 = 32;
/// `struct erofs_inode_compact`.
pub const COMPACT: u64 = 32;
/// `struct erofs_inode_extended`.
pub const EXTENDED: u64 = 64;
/// `struct erofs_dirent`.
pub const DIRENT: usize = 12;

const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_SB_CHKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;

/// How an inode's content lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// In blocks from this one on (`EROFS_INODE_FLAT_PLAIN`).
    Plain { block: u32 },
    /// As the former, with the last part of a block after the inode (`EROFS_INODE_FLAT_INLINE`).
    Inline { block: u32 },
    /// A device's number, or 0.
    Device { number: u32 },
}

/// What an inode says.
#[derive(Debug, Clone)]
pub struct Inode {
    pub mode: u16,
    pub links: u32,
    pub size: u64,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    /// A number for `stat` on 32-bit machines.
    pub serial: u32,
    pub content: Content,
    /// Units of the attributes: 0, or 1 for their header and one more for each 4 bytes.
    pub xattr_count: u16,
}

impl Inode {
    /// Whether the short form can hold it; its time is that of the whole image.
    pub fn is_compact(&self, image_time: (i64, u32)) -> bool {
        self.mtime == image_time
            && u16::try_from(self.uid).is_ok()
            && u16::try_from(self.gid).is_ok()
            && u16::try_from(self.links).is_ok()
            && u32::try_from(self.size).is_ok()
    }

    pub fn encode(&self, compact: bool) -> Vec<u8> {
        let (layout, unit): (u16, u32) = match self.content {
            Content::Plain { block } => (0, block),
            Content::Inline { block } => (2, block),
            Content::Device { number } => (0, number),
        };
        let format = layout << 1 | u16::from(!compact);
        let mut bytes = Vec::with_capacity(EXTENDED as usize);
        bytes.extend(format.to_le_bytes());
        bytes.extend(self.xattr_count.to_le_bytes());
        bytes.extend(self.mode.to_le_bytes());
        if compact {
            bytes.extend((self.links as u16).to_le_bytes());
            bytes.extend((self.size as u32).to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(unit.to_le_bytes());
            bytes.extend(self.serial.to_le_bytes());
            bytes.extend((self.uid as u16).to_le_bytes());
            bytes.extend((self.gid as u16).to_le_bytes());
            bytes.extend([0; 4]);
        } else {
            bytes.extend([0; 2]);
            bytes.extend(self.size.to_le_bytes());
            bytes.extend(unit.to_le_bytes());
            bytes.extend(self.serial.to_le_bytes());
            bytes.extend(self.uid.to_le_bytes());
            bytes.extend(self.gid.to_le_bytes());
            bytes.extend(self.mtime.0.to_le_bytes());
            bytes.extend(self.mtime.1.to_le_bytes());
            bytes.extend(self.links.to_le_bytes());
            bytes.extend([0; 16]);
        }
        bytes
    }
}

/// What the superblock says.
#[derive(Debug, Clone)]
pub struct Superblock {
    pub root: u16,
    pub inodes: u64,
    pub time: (i64, u32),
    pub blocks: u32,
    pub uuid: [u8; 16],
}

impl Superblock {
    /// Puts it into block 0, and its checksum, which is that of the rest of the block.
    pub fn put(&self, block: &mut [u8; BLOCK as usize]) {
        let mut bytes = Vec::with_capacity(SUPER_SIZE);
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend((COMPAT_SB_CHKSUM | COMPAT_MTIME).to_le_bytes());
        // Of the block's size the logarithm, and no slots for extensions.
        bytes.extend([BLOCK.trailing_zeros() as u8, 0]);
        bytes.extend(self.root.to_le_bytes());
        bytes.extend(self.inodes.to_le_bytes());
        bytes.extend(self.time.0.to_le_bytes());
        bytes.extend(self.time.1.to_le_bytes());
        bytes.extend(self.blocks.to_le_bytes());
        // Inodes and shared attributes count from the image's start.
        bytes.extend([0; 8]);
        bytes.extend(self.uuid);
        bytes.resize(SUPER_SIZE, 0);
        block[SUPER..SUPER + SUPER_SIZE].copy_from_slice(&bytes);
        let sum = crate::crc32c::of(&block[SUPER..]);
        block[SUPER + 4..SUPER + 8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The kernel's 32-bit form of a device number (`new_encode_dev` in linux/kdev_t.h); `None` where it is too large.
pub fn device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// The type of a directory entry (`FT_*` in linux/fs_types.h) for a file's mode.
pub fn entry_type(mode: u32) -> Option<u8> {
    Some(match mode & 0o170_000 {
        0o100_000 => 1,
        0o040_000 => 2,
        0o020_000 => 3,
        0o060_000 => 4,
        0o010_000 => 5,
        0o140_000 => 6,
        0o120_000 => 7,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_formats_size() {
        let inode = Inode {
            mode: 0o100_644,
            links: 1,
            size: 5,
            uid: 0,
            gid: 0,
            mtime: (7, 0),
            serial: 1,
            content: Content::Plain { block: 0 },
            xattr_count: 0,
        };
        assert!(inode.is_compact((7, 0)) && !inode.is_compact((7, 1)));
        assert_eq!((inode.encode(true).len() as u64, inode.encode(false).len() as u64), (COMPACT, EXTENDED));
        for (uid, links, size) in [(65536, 1, 0), (0, 65536, 0), (0, 1, 1 << 32)] {
            assert!(!Inode { uid, links, size, ..inode.clone() }.is_compact((7, 0)));
        }
    }

    #[test]
    fn device_numbers_are_the_kernels() {
        assert_eq!(device(1, 3), Some(0x103));
        assert_eq!(device(8, 0x12345), Some(0x1230_0845));
        assert_eq!((device(4096, 0), device(0, 1 << 20)), (None, None));
    }
}
