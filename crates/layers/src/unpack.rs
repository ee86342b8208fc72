//! Makes what an archive's entries say, below one root.
//!
//! Nothing that exists is ever opened for writing or given another owner, except directories of this tree: what
//! lies in the way is removed first and made anew. Names are only used as single components of a directory that
//! is open, with no link followed.

use crate::archive::{Archive, Entry, Kind};
use crate::copy::Birth;
use crate::error::{Error, REBUILD, Result, Shown};
use crate::limits::Room;
use crate::name::{self, Name, shown};
use crate::resolve::{Missing, Place, Resolver, is_whiteout, open_dir, weight};
use crate::{Pending, UnpackLimits, Unpacked, WhiteoutMode, copy, tree, xattr};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of paths that are kept until the end of an archive. A layer of a million directories needs about half.
const MOST_REMEMBERED: usize = 256 << 20;

/// What a directory gets at the end, when nothing more is made in it. Until then it has no set-gid bit that what
/// is made in it would inherit.
struct LastWords {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: (i64, u32),
    /// How it was made.
    birth: Birth,
}

/// The state of one unpacking.
pub struct Unpacker {
    pub(crate) resolver: Resolver,
    pub(crate) mode: WhiteoutMode,
    /// Directories that the archive has entries for.
    directories: BTreeMap<PathBuf, LastWords>,
    /// Directories that it has none for.
    pub(crate) implied: BTreeSet<PathBuf>,
    /// Hard links to what only lower layers have: name and target.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Names of lower layers that this layer hides, and directories that it makes opaque.
    pub(crate) hidden: HashSet<PathBuf>,
    /// [`WhiteoutMode::Apply`]: what is this layer's, and every directory that has something of it.
    pub(crate) own: HashSet<PathBuf>,
    remembered: usize,
    bytes: u64,
    inodes: u64,
    /// Bytes of blocks, as long as they are known.
    allocated: Option<u64>,
    birth: Birth,
    room: Room,
}

impl Unpacker {
    pub fn new(root: BorrowedFd<'_>, mode: WhiteoutMode, limits: &UnpackLimits) -> Result<Self> {
        // In a tree of lower layers any directory may have a set-gid bit.
        let birth = if mode == WhiteoutMode::Overlay { Birth::find(root) } else { Birth::UNKNOWN };
        Ok(Self {
            birth,
            room: Room::new(limits),
            resolver: Resolver::new(root)?,
            mode,
            directories: BTreeMap::new(),
            implied: BTreeSet::new(),
            links: BTreeMap::new(),
            hidden: HashSet::new(),
            own: HashSet::new(),
            remembered: 0,
            bytes: 0,
            inodes: 0,
            allocated: (mode == WhiteoutMode::Overlay).then_some(0),
        })
    }

    /// Unpacks the whole archive and reads its stream to the end.
    pub fn run(mut self, mut archive: Archive<'_>) -> Result<Unpacked> {
        while let Some(entry) = archive.next()? {
            self.room.check(self.resolver.root().dir.as_fd(), self.bytes, self.inodes)?;
            let refuse = |why: String| archive.refuse(format!("the entry {} {why}", Shown(&entry.path)));
            xattr::check(&entry.xattrs).map_err(refuse)?;
            match name::classify(&entry.path).map_err(refuse)? {
                Name::Root | Name::Meta => {}
                Name::Opaque(parent) => self.opaque(&parent)?,
                Name::Whiteout(parent, name) => self.whiteout(&parent, name)?,
                Name::Thing(parent, name) => self.make(&mut archive, &entry, &parent, name)?,
            }
        }
        self.last_words()?;
        if !self.implied.is_empty() || !self.links.is_empty() || !self.hidden.is_empty() {
            self.allocated = None;
        }
        let mut whiteouts: Vec<PathBuf> = match self.mode {
            WhiteoutMode::Overlay => self.hidden.into_iter().collect(),
            WhiteoutMode::Apply => Vec::new(),
        };
        whiteouts.sort();
        Ok(Unpacked {
            diff_id: archive.finish()?,
            bytes: self.bytes,
            inodes: self.inodes,
            allocated: self.allocated,
            pending: Pending {
                // Sorted by component: parents come before their children.
                implied_dirs: self.implied.into_iter().collect(),
                lower_links: self.links.into_iter().collect(),
                whiteouts,
            },
        })
    }

    /// Notes that a path is kept, within the budget.
    pub(crate) fn remember(&mut self, path: &Path) -> Result<()> {
        self.remembered += weight(path);
        if self.remembered > MOST_REMEMBERED {
            let what = "it has too many long names".to_owned();
            return Err(Error::TooLarge { what, advice: REBUILD });
        }
        Ok(())
    }

    /// The parent of an entry, made where it is missing.
    pub(crate) fn parent(&mut self, path: &Path) -> Result<Place> {
        let place = self.resolver.dir(path, Missing::Make)?;
        for made in std::mem::take(&mut self.resolver.made) {
            self.remember(&made)?;
            self.inodes += 1;
            self.links.remove(&made);
            if self.mode == WhiteoutMode::Overlay && self.hidden.contains(&made) {
                let failed = |e| Error::system("mark as opaque", shown(&made, OsStr::new("")), e);
                let dir = open_dir(&self.resolver.root().dir, &made).map_err(failed)?;
                xattr::set_opaque(dir).map_err(failed)?;
            } else {
                self.implied.insert(made);
            }
        }
        // `Missing::Make` always ends in a place or in an error.
        place.ok_or_else(|| Error::system("make the directory", shown(path, OsStr::new("")), Errno::NOENT))
    }

    /// Removes what lies at a name, unless a directory is to stay a directory. True when one stays.
    fn clear(&mut self, place: &Place, name: &OsStr, path: &Path, directory: bool) -> Result<bool> {
        let stat = match rustix::fs::statat(&*place.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                self.links.remove(path);
                return Ok(false);
            }
            Err(e) => return Err(Error::system("look at", shown(&place.path, name), e)),
        };
        if tree::is_dir(&stat) && directory {
            return Ok(true);
        }
        tree::remove(place.dir.as_fd(), name)?;
        self.allocated = None;
        // It may have been a directory or a link on the way to the place that is known.
        self.resolver.forget();
        if tree::is_dir(&stat) {
            drop_below(&mut self.directories, path);
            drop_below(&mut self.links, path);
            while let Some(found) = self.implied.range(path.to_owned()..).next().cloned() {
                if !found.starts_with(path) {
                    break;
                }
                self.implied.remove(&found);
            }
        }
        Ok(false)
    }

    fn make(&mut self, archive: &mut Archive<'_>, entry: &Entry, parent: &Path, name: &OsStr) -> Result<()> {
        if let Kind::Hardlink(target) = &entry.kind {
            return self.link(archive, target, parent, name);
        }
        if entry.kind == Kind::Char(0, 0) {
            let what = "is the device 0:0, which overlayfs takes as a whiteout";
            return Err(archive.refuse(format!("the entry {} {what}", Shown(&entry.path))));
        }
        let place = self.parent(parent)?;
        let path = place.path.join(name);
        let made = match &entry.kind {
            Kind::File => self.file(archive, entry, &place, name, &path)?,
            Kind::Directory => self.directory(entry, &place, name, &path)?,
            Kind::Symlink(target) if target.is_empty() => {
                return Err(archive.refuse(format!("the link {} leads nowhere", Shown(&entry.path))));
            }
            Kind::Symlink(target) => self.symlink(entry, target, &place, name, &path)?,
            Kind::Fifo => self.special(entry, FileType::Fifo, 0, &place, name, &path)?,
            Kind::Char(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                self.special(entry, FileType::CharacterDevice, device, &place, name, &path)?
            }
            Kind::Block(major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                self.special(entry, FileType::BlockDevice, device, &place, name, &path)?
            }
            // Handled above: it has neither an owner nor a time of its own.
            Kind::Hardlink(_) => false,
        };
        self.inodes += u64::from(made);
        self.claim(path)
    }

    /// Makes something new at a name. What lies there is looked at only if something does. `None` where a directory
    /// lies there and `directory` says that it is to stay.
    fn create<T>(
        &mut self,
        place: &Place,
        name: &OsStr,
        path: &Path,
        (action, directory): (&'static str, bool),
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<Option<T>> {
        let failed = |e| Error::system(action, shown(&place.path, name), e);
        match make() {
            Ok(made) => {
                self.links.remove(path);
                Ok(Some(made))
            }
            Err(Errno::EXIST) => {
                if self.clear(place, name, path, directory)? {
                    return Ok(None);
                }
                make().map(Some).map_err(failed)
            }
            Err(e) => Err(failed(e)),
        }
    }

    fn file(
        &mut self,
        archive: &mut Archive<'_>,
        entry: &Entry,
        place: &Place,
        name: &OsStr,
        path: &Path,
    ) -> Result<bool> {
        let failed = |action, e| Error::system(action, shown(&place.path, name), e);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let birth = self.birth;
        let open = || rustix::fs::openat(&*place.dir, name, flags, birth.mode(entry.mode));
        let Some(file) = self.create(place, name, path, ("make the file", false), open)? else {
            return Ok(false);
        };
        match &entry.map {
            None => loop {
                let chunk = archive.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                copy::write_all(&file, chunk).map_err(|e| failed("write the file", e))?;
                let count = chunk.len() as u64;
                self.wrote(count)?;
            },
            Some(map) => {
                for part in map {
                    let mut done = 0;
                    while done < part.length {
                        let chunk = archive.chunk_of(part.length - done)?;
                        copy::write_all_at(&file, chunk, part.offset + done)
                            .map_err(|e| failed("write the file", e))?;
                        let count = chunk.len() as u64;
                        done += count;
                        self.wrote(count)?;
                    }
                }
                rustix::fs::ftruncate(&file, entry.size).map_err(|e| failed("set the length of", e))?;
            }
        }
        birth
            .complete(&file, entry.uid, entry.gid, entry.mode)
            .map_err(|e| failed("set the owner or mode of", e))?;
        // Behind the change of owner, which takes capabilities away.
        xattr::set(&file, &entry.xattrs, || shown(&place.path, name))?;
        rustix::fs::futimens(&file, &copy::times(entry.mtime)).map_err(|e| failed("set the time of", e))?;
        // XFS gives back at the close what it allocated beyond the end of a file that grew.
        drop(file);
        if self.allocated.is_some() {
            self.occupies(rustix::fs::statat(&*place.dir, name, AtFlags::SYMLINK_NOFOLLOW));
        }
        Ok(true)
    }

    /// Counts the blocks of what is complete now.
    fn occupies(&mut self, stat: rustix::io::Result<Stat>) {
        // In units of 512 bytes, whatever the file system's own are (inode(7)).
        let more = stat.ok().and_then(|stat| u64::try_from(stat.st_blocks).ok()?.checked_mul(512));
        self.allocated = self.allocated.zip(more).and_then(|(all, more)| all.checked_add(more));
    }

    /// Counts bytes that were written, and sees that there is room for more.
    fn wrote(&mut self, count: u64) -> Result<()> {
        self.bytes += count;
        self.room.check(self.resolver.root().dir.as_fd(), self.bytes, self.inodes)
    }

    fn symlink(
        &mut self,
        entry: &Entry,
        target: &[u8],
        place: &Place,
        name: &OsStr,
        path: &Path,
    ) -> Result<bool> {
        let failed = |e| Error::system("set the owner or time of", shown(&place.path, name), e);
        let dir = place.dir.as_fd();
        self.create(place, name, path, ("make the link", false), || {
            rustix::fs::symlinkat(target, dir, name)
        })?;
        if self.birth.lacks_owner(entry.uid, entry.gid) {
            let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            rustix::fs::chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        rustix::fs::utimensat(dir, name, &copy::times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed)?;
        self.occupies(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        Ok(true)
    }

    fn special(
        &mut self,
        entry: &Entry,
        kind: FileType,
        device: u64,
        place: &Place,
        name: &OsStr,
        path: &Path,
    ) -> Result<bool> {
        let dir = place.dir.as_fd();
        self.create(place, name, path, ("make the device or pipe", false), || {
            rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device)
        })?;
        let times = copy::times(entry.mtime);
        copy::own_special(dir, name, (entry.uid, entry.gid, entry.mode), kind, &times)
            .map_err(|e| Error::system("set the owner, mode or time of", shown(&place.path, name), e))?;
        self.occupies(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        Ok(true)
    }

    /// True for one that was not there.
    fn directory(&mut self, entry: &Entry, place: &Place, name: &OsStr, path: &Path) -> Result<bool> {
        let failed = |action, e| Error::system(action, shown(&place.path, name), e);
        let mode = self.birth.mode(entry.mode);
        let made = self.create(place, name, path, ("make the directory", true), || {
            rustix::fs::mkdirat(&*place.dir, name, mode)
        })?;
        let hides = self.mode == WhiteoutMode::Overlay && self.hidden.contains(path);
        if made.is_none() || hides || !entry.xattrs.is_empty() {
            let dir = open_dir(&place.dir, Path::new(name)).map_err(|e| failed("open the directory", e))?;
            if made.is_none() {
                xattr::clear(&dir).map_err(|e| failed("clear the attributes of", e))?;
            }
            xattr::set(&dir, &entry.xattrs, || shown(&place.path, name))?;
            if hides {
                xattr::set_opaque(&dir).map_err(|e| failed("mark as opaque", e))?;
            }
        }
        self.implied.remove(path);
        self.remember(path)?;
        let birth = if made.is_some() { self.birth } else { Birth::UNKNOWN };
        let Entry { uid, gid, mode, mtime, .. } = *entry;
        self.directories.insert(path.to_owned(), LastWords { uid, gid, mode, mtime, birth });
        Ok(made.is_some())
    }

    fn link(&mut self, archive: &Archive<'_>, target: &[u8], parent: &Path, name: &OsStr) -> Result<()> {
        let refuse = |path: &Path, why: &str| {
            let path = path.as_os_str().as_bytes();
            archive.refuse(format!("the target {} of the hard link {name:?} {why}", Shown(path)))
        };
        let (target_parent, target_name) =
            name::target(target).map_err(|why| refuse(Path::new(OsStr::from_bytes(target)), &why))?;
        let found = self.resolver.dir(&target_parent, Missing::Leave)?;
        let real = found.as_ref().map_or(&target_parent, |place| &place.path).join(target_name);
        let stat = match &found {
            Some(place) => match rustix::fs::statat(&*place.dir, target_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(e) => return Err(Error::system("look at", shown(&place.path, target_name), e)),
            },
            None => None,
        };
        match &stat {
            Some(stat) if tree::is_dir(stat) => return Err(refuse(&real, "is a directory")),
            Some(stat) if is_whiteout(stat) => return Err(refuse(&real, "is deleted by this layer")),
            Some(_) => {}
            None if self.mode == WhiteoutMode::Apply => return Err(refuse(&real, "does not exist")),
            None if real.ancestors().any(|path| self.hidden.contains(path)) => {
                return Err(refuse(&real, "is deleted by this layer"));
            }
            None => {}
        }
        let place = self.parent(parent)?;
        let path = place.path.join(name);
        if path == real {
            return match stat {
                Some(_) => Ok(()),
                None => Err(refuse(&real, "is the link itself")),
            };
        }
        if let (Some(_), Some(from)) = (&stat, &found) {
            // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one more name of the symbolic link.
            let link = || rustix::fs::linkat(&*from.dir, target_name, &*place.dir, name, AtFlags::empty());
            self.create(&place, name, &path, ("make the hard link", false), link)?;
        } else {
            self.clear(&place, name, &path, false)?;
            let real = self.links.get(&real).cloned().unwrap_or(real);
            self.remember(&path)?;
            self.remember(&real)?;
            self.links.insert(path.clone(), real);
        }
        self.claim(path)
    }

    /// Notes that a path and the directories above it are this layer's.
    fn claim(&mut self, path: PathBuf) -> Result<()> {
        if self.mode == WhiteoutMode::Apply {
            for above in path.ancestors().skip(1) {
                if above.as_os_str().is_empty() || self.own.contains(above) {
                    break;
                }
                self.remember(above)?;
                self.own.insert(above.to_owned());
            }
            self.remember(&path)?;
            self.own.insert(path);
        }
        Ok(())
    }

    /// Owners, modes and times of directories, children first.
    fn last_words(&mut self) -> Result<()> {
        let root = self.resolver.root();
        for (path, words) in std::mem::take(&mut self.directories).iter().rev() {
            let failed = |e| Error::system("set the mode or time of", shown(path, OsStr::new("")), e);
            let dir = match open_dir(&root.dir, path) {
                Ok(dir) => dir,
                // A later entry or whiteout took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(failed(e)),
            };
            words.birth.complete(&dir, words.uid, words.gid, words.mode).map_err(failed)?;
            rustix::fs::futimens(&dir, &copy::times(words.mtime)).map_err(failed)?;
            self.occupies(rustix::fs::fstat(&dir));
        }
        self.occupies(rustix::fs::fstat(root.dir.as_fd()));
        Ok(())
    }
}

/// Drops the keys that are `path` or lie below it.
fn drop_below<T>(map: &mut BTreeMap<PathBuf, T>, path: &Path) {
    while let Some((found, _)) = map.range(path.to_owned()..).next() {
        if !found.starts_with(path) {
            break;
        }
        let found = found.clone();
        map.remove(&found);
    }
}
