//! The walk that writes an image.

use crate::directory::{self, Entry};
use crate::error::{Error, Result};
use crate::format::{self, BLOCK, COMPACT, Content, EXTENDED, Inode, SLOT, SUPER, SUPER_SIZE, Superblock};
use crate::source::{self, Attributes};
use crate::space::Space;
use crate::xattr::{self, Known};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What became of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Size of the image.
    pub bytes: u64,
    /// Inodes in it.
    pub inodes: u64,
}

/// Writes the tree below `tree` to `image`, a new, empty file that is open for reading and writing. Nothing is synced.
///
/// `uuid` becomes the file system's; overlayfs tells its layers apart by it.
///
/// # Errors
/// Those of reading and writing; what the format has no place for; a tree that changes meanwhile.
pub fn write(tree: BorrowedFd<'_>, image: BorrowedFd<'_>, uuid: [u8; 16]) -> Result<Written> {
    Writer::begin(tree, image)?.run(uuid)
}

/// The root's inode follows the superblock: its number has 16 bits only.
const ROOT_PLACE: u64 = (SUPER + SUPER_SIZE) as u64;

/// What content is copied with.
const BUFFER: usize = 256 << 10;

/// An inode that has its place.
struct Placed {
    place: u64,
    inode: Inode,
    compact: bool,
    /// The attributes that follow it.
    xattrs: Vec<u8>,
}

impl Placed {
    fn nid(&self) -> u64 {
        self.place / SLOT
    }

    /// How much of the content is in blocks, and what lies after the inode.
    fn split(&self) -> (u64, u64) {
        let inline = matches!(self.inode.content, Content::Inline { .. });
        let tail = if inline { self.inode.size % BLOCK } else { 0 };
        (self.inode.size - tail, tail)
    }
}

/// A directory on the way down.
struct Level {
    dir: Placed,
    id: (u64, u64),
    names: std::vec::IntoIter<Vec<u8>>,
    entries: Vec<Entry>,
    subdirectories: u32,
    /// Length of the path before this level's name was added.
    cut: usize,
}

/// An inode with several names.
struct Linked {
    placed: Placed,
    names: u32,
    kind: u8,
}

struct Writer<'a> {
    image: BorrowedFd<'a>,
    current: OwnedFd,
    path: Vec<u8>,
    levels: Vec<Level>,
    linked: HashMap<(u64, u64), Linked>,
    space: Space,
    known: Known,
    attributes: Attributes,
    buffer: Vec<u8>,
    time: (i64, u32),
    inodes: u32,
}

impl<'a> Writer<'a> {
    fn begin(tree: BorrowedFd<'_>, image: BorrowedFd<'a>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let wrap = |e| Error::system("open", b"", e);
        let current = rustix::fs::openat(tree, ".", flags, Mode::empty()).map_err(wrap)?;
        let stat = rustix::fs::fstat(&current).map_err(wrap)?;
        let mut writer = Self {
            image,
            current,
            path: Vec::new(),
            levels: Vec::new(),
            linked: HashMap::new(),
            space: Space::new(0),
            known: Known::default(),
            attributes: Attributes::new(),
            buffer: vec![0; BUFFER],
            time: mtime(&stat, b"")?,
            inodes: 0,
        };
        writer.enter(&stat, 0)?;
        Ok(writer)
    }

    fn run(mut self, uuid: [u8; 16]) -> Result<Written> {
        while let Some(level) = self.levels.last_mut() {
            match level.names.next() {
                Some(name) => self.meet(&name)?,
                None => self.leave()?,
            }
        }
        // A name outside of the tree would be counted by the file system that it lies in, and not here.
        for linked in std::mem::take(&mut self.linked).into_values() {
            let mut placed = linked.placed;
            if placed.inode.links != linked.names {
                placed.inode.links = linked.names;
                source::put(self.image, &placed.inode.encode(placed.compact), placed.place)?;
            }
        }
        let blocks = u32::try_from(self.space.total())
            .map_err(|_| Error::unsupported(b"", "it has more than 16 TiB"))?;
        let bytes = u64::from(blocks) * BLOCK;
        rustix::fs::ftruncate(self.image, bytes)
            .map_err(|e| Error::system("set the size of the image of", b"", e))?;
        let superblock = Superblock {
            root: (ROOT_PLACE / SLOT) as u16,
            inodes: u64::from(self.inodes),
            time: self.time,
            blocks,
            uuid,
        };
        let mut first = [0; BLOCK as usize];
        first.copy_from_slice(&source::tail(self.image, 0, BLOCK, b"")?);
        superblock.put(&mut first);
        source::put(self.image, &first, 0)?;
        Ok(Written { bytes, inodes: u64::from(self.inodes) })
    }

    /// One entry of the directory that the walk is in.
    fn meet(&mut self, name: &[u8]) -> Result<()> {
        let cut = self.path.len();
        if cut > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let stat = source::stat(self.current.as_fd(), name, &self.path)?;
        let kind = format::entry_type(stat.st_mode)
            .ok_or_else(|| Error::unsupported(&self.path, "its type is none that it knows"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if self.levels.last().is_some_and(|level| level.id.0 != stat.st_dev) {
                return Err(Error::unsupported(&self.path, "another file system is mounted there"));
            }
            let child = source::open(self.current.as_fd(), name, &stat, &self.path)?;
            self.current = child;
            let nid = self.enter(&stat, cut)?;
            // The level below the new one is the one that holds it.
            let above = self.levels.len().checked_sub(2).and_then(|at| self.levels.get_mut(at));
            if let Some(above) = above {
                above.subdirectories += 1;
                above.entries.push(Entry { name: name.to_vec(), nid, kind });
            }
            return Ok(());
        }
        let nid = self.file(name, &stat, kind)?;
        self.path.truncate(cut);
        if let Some(level) = self.levels.last_mut() {
            level.entries.push(Entry { name: name.to_vec(), nid, kind });
        }
        Ok(())
    }

    /// Reads the names of `current`, whose inode thereby has its size, and gives it a place: what is below has to
    /// know the number.
    fn enter(&mut self, stat: &Stat, cut: usize) -> Result<u64> {
        let names = source::names(&self.current, &self.path)?;
        let mut lengths: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        lengths.extend([&b"."[..], b".."]);
        lengths.sort_unstable();
        let size = directory::size(lengths.into_iter().map(<[u8]>::len));
        let mut inode = self.inode(stat)?;
        inode.size = size;
        // Not known yet, and never more.
        inode.links = u32::try_from(names.len() + 2)
            .map_err(|_| Error::unsupported(&self.path, "it has more than 2^32 names"))?;
        let xattrs = self.xattrs(b"")?;
        let dir = self.place(inode, xattrs)?;
        let nid = dir.nid();
        self.levels.push(Level {
            dir,
            id: source::identity(stat),
            entries: Vec::with_capacity(names.len() + 2),
            names: names.into_iter(),
            subdirectories: 0,
            cut,
        });
        Ok(nid)
    }

    /// Writes the directory that all names of were met, and goes up.
    fn leave(&mut self) -> Result<()> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        let own = level.dir.nid();
        let above = self.levels.last();
        let up = above.map_or(own, |above| above.dir.nid());
        let kind = 2;
        level.entries.push(Entry { name: b".".to_vec(), nid: own, kind });
        level.entries.push(Entry { name: b"..".to_vec(), nid: up, kind });
        level.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let content = directory::encode(&level.entries);
        level.dir.inode.links = 2 + level.subdirectories;
        let (whole, tail) = level.dir.split();
        if content.len() as u64 != whole + tail {
            return Err(Error::changed(&self.path));
        }
        let (blocks, tail) = content.split_at(whole as usize);
        if let Content::Plain { block } | Content::Inline { block } = level.dir.inode.content {
            source::put(self.image, blocks, u64::from(block) * BLOCK)?;
        }
        self.put(&level.dir, tail)?;
        if let Some(above) = self.levels.last() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let wrap = |e| Error::system("go back from the directory", &self.path, e);
            let up = rustix::fs::openat(&self.current, "..", flags, Mode::empty()).map_err(wrap)?;
            if source::identity(&rustix::fs::fstat(&up).map_err(wrap)?) != above.id {
                return Err(Error::changed(&self.path));
            }
            self.current = up;
            self.path.truncate(level.cut);
        }
        Ok(())
    }

    /// Anything but a directory. Answers its number.
    fn file(&mut self, name: &[u8], stat: &Stat, kind: u8) -> Result<u64> {
        let several = stat.st_nlink > 1;
        if several && let Some(linked) = self.linked.get_mut(&source::identity(stat)) {
            if linked.kind != kind {
                return Err(Error::changed(&self.path));
            }
            linked.names += 1;
            return Ok(linked.placed.nid());
        }
        let mut inode = self.inode(stat)?;
        let xattrs = self.xattrs(name)?;
        let placed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.regular(name, stat, inode, xattrs)?,
            FileType::Symlink => {
                let target = source::link(self.current.as_fd(), name, &self.path)?;
                inode.size = target.len() as u64;
                let placed = self.place(inode, xattrs)?;
                let (whole, _) = placed.split();
                let (blocks, tail) = target.split_at(whole as usize);
                if let Content::Plain { block } | Content::Inline { block } = placed.inode.content {
                    source::put(self.image, blocks, u64::from(block) * BLOCK)?;
                }
                self.put(&placed, tail)?;
                placed
            }
            other => {
                let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let is_device = matches!(other, FileType::CharacterDevice | FileType::BlockDevice);
                let number = if is_device { format::device(major, minor) } else { Some(0) };
                let number = number.ok_or_else(|| {
                    Error::unsupported(&self.path, format!("its device number {major}:{minor} is too large"))
                })?;
                inode.content = Content::Device { number };
                let placed = self.place(inode, xattrs)?;
                self.put(&placed, &[])?;
                placed
            }
        };
        let nid = placed.nid();
        if several {
            self.linked.insert(source::identity(stat), Linked { placed, names: 1, kind });
        }
        Ok(nid)
    }

    fn regular(&mut self, name: &[u8], stat: &Stat, mut inode: Inode, xattrs: Vec<u8>) -> Result<Placed> {
        inode.size = stat.st_size.cast_unsigned();
        let placed = self.place(inode, xattrs)?;
        if stat.st_size == 0 {
            self.put(&placed, &[])?;
            return Ok(placed);
        }
        let file = source::open(self.current.as_fd(), name, stat, &self.path)?;
        let (whole, tail) = placed.split();
        if let Content::Plain { block } | Content::Inline { block } = placed.inode.content {
            let to = u64::from(block) * BLOCK;
            source::copy(&file, whole, self.image, to, &mut self.buffer, &self.path)?;
        }
        let tail = source::tail(&file, whole, tail, &self.path)?;
        self.put(&placed, &tail)?;
        Ok(placed)
    }

    /// What a file system says of a file, without its content.
    fn inode(&mut self, stat: &Stat) -> Result<Inode> {
        self.inodes = self
            .inodes
            .checked_add(1)
            .ok_or_else(|| Error::unsupported(&self.path, "there are more than 2^32 files"))?;
        Ok(Inode {
            // The kind and 12 bits.
            mode: (stat.st_mode & 0o177_777) as u16,
            links: u32::try_from(stat.st_nlink)
                .map_err(|_| Error::unsupported(&self.path, "it has more than 2^32 names"))?,
            size: 0,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: mtime(stat, &self.path)?,
            serial: self.inodes,
            content: Content::Plain { block: 0 },
            xattr_count: 0,
        })
    }

    fn xattrs(&mut self, name: &[u8]) -> Result<Vec<u8>> {
        let found = self.attributes.of(self.current.as_fd(), name, &self.path)?;
        let entries = found.iter().map(|(name, value)| xattr::entry(&self.path, name, value));
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let (space, image) = (&mut self.space, self.image);
        self.known.block(&self.path, entries, |bytes| {
            let at = space.bytes(bytes.len() as u64);
            source::put(image, bytes, at)?;
            Ok(at)
        })
    }

    /// Gives an inode and its content their places. The end of the content follows the inode where both fit into
    /// one block.
    fn place(&mut self, mut inode: Inode, xattrs: Vec<u8>) -> Result<Placed> {
        let compact = inode.is_compact(self.time);
        inode.xattr_count = xattr::count(&xattrs).unwrap_or_default();
        let head = if compact { COMPACT } else { EXTENDED } + xattrs.len() as u64;
        let root = self.levels.is_empty();
        let room = if root { BLOCK - ROOT_PLACE } else { BLOCK };
        let tail = inode.size % BLOCK;
        let inline = tail > 0 && head + tail <= room;
        let size = if inline { head + tail } else { head };
        let place = if root {
            self.space = Space::new(ROOT_PLACE + size);
            ROOT_PLACE
        } else {
            self.space.bytes(size)
        };
        if !matches!(inode.content, Content::Device { .. }) {
            let count = if inline { inode.size / BLOCK } else { inode.size.div_ceil(BLOCK) };
            let first = if count == 0 { 0 } else { self.space.blocks(count) };
            let block = u32::try_from(first)
                .ok()
                .filter(|_| self.space.total() <= u64::from(u32::MAX))
                .ok_or_else(|| Error::unsupported(&self.path, "the image would have more than 16 TiB"))?;
            inode.content = if inline { Content::Inline { block } } else { Content::Plain { block } };
        }
        Ok(Placed { place, inode, compact, xattrs })
    }

    /// Writes an inode, its attributes and the end of its content.
    fn put(&self, placed: &Placed, tail: &[u8]) -> Result<()> {
        let mut bytes = placed.inode.encode(placed.compact);
        bytes.extend(&placed.xattrs);
        bytes.extend(tail);
        source::put(self.image, &bytes, placed.place)
    }
}

fn mtime(stat: &Stat, path: &[u8]) -> Result<(i64, u32)> {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec)
        .map_err(|_| Error::unsupported(path, "its time of modification is not one"))?;
    Ok((stat.st_mtime, nanoseconds))
}
