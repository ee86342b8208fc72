//! EROFS images from directories, written without other programs.
//!
//! An image is written in one walk of the tree, by descriptor: no link is followed and no mount is crossed. What
//! it holds in memory are the names of the directories on the way down, and where files with several links lie. The same tree
//! gives the same image, byte for byte. It compresses nothing, and it never changes the tree. What the format cannot
//! hold is refused with a sentence; nothing is left out.
//!
//! The format: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux. Nothing newer than Linux 5.4 is used.
//!
//! ```text
//! block 0   1024 bytes of nothing, the superblock, the root's inode
//! then      blocks of inodes with the ends of their files, blocks of attributes that many inodes share, and blocks of
//!           data, as they come
//! ```
//! The number of an inode (nid) is its place divided by 32, anywhere in the image.

mod crc32c;
mod directory;
mod error;
mod format;
mod image;
mod source;
mod space;
mod xattr;

pub use error::{Error, Result};
pub use image::{Written, write};
