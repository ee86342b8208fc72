//! Images as the kernel and the programs of Debian's erofs-utils read them.
//!
//! Needs root, and a kernel with erofs; without them each test says that it skipped.

mod corners;
mod look;
mod random;
mod tree;
