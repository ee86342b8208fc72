//! From a cleaned path of an archive to a directory descriptor below the root.
//!
//! The common case is one `openat2` that meets no symbolic link. Where the layer made a link out of a parent
//! (`lib -> usr/lib`, then `lib/x`), the links are followed here, one component at a time and with the root as
//! the end of every `..`, as containerd's `fs.RootPath` does; the kernel never follows one. A directory that is
//! exchanged for a link meanwhile is either opened before, or found to be a link: nothing outside is reached.

use crate::error::{Error, REBUILD, Result};
use crate::name::{self, shown};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// As many links as the kernel follows in one path (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// The longest path that `openat2` takes, without its NUL.
const MOST_BYTES: usize = 4095;
/// Directories that stay open: an archive comes back to those above the one that it is in.
const MOST_KNOWN: usize = 16;
/// Steps of the slow way for one archive: a minute of work at worst, far more than any image asks for.
const MOST_STEPS: u64 = 20_000_000;

/// A directory and where it really lies, links resolved.
#[derive(Debug, Clone)]
pub struct Place {
    /// The open directory.
    pub dir: Rc<OwnedFd>,
    /// Its path below the root.
    pub path: PathBuf,
}

/// What happens to components that are missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They are made, mode 0755, owned by root.
    Make,
    /// There is no such place then.
    Leave,
}

/// Resolves parents below one root.
pub struct Resolver {
    root: Rc<OwnedFd>,
    /// Directories that were resolved, the one asked for last at the end.
    known: Vec<(PathBuf, Place)>,
    steps: u64,
    /// Directories that were made because an entry needed them.
    pub made: Vec<PathBuf>,
}

/// Opens a directory below `dir` by a path without `.` and `..`, meeting no link and no mount.
pub fn open_dir(dir: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(
        dir,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV,
    )
}

/// Whether this is what overlayfs takes as a whiteout.
pub fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

impl Resolver {
    /// For the tree below `root`.
    pub fn new(root: BorrowedFd<'_>) -> Result<Self> {
        let root =
            open_dir(root, Path::new("")).map_err(|e| Error::system("open the root of", "the layer", e))?;
        Ok(Self { root: Rc::new(root), known: Vec::with_capacity(MOST_KNOWN), steps: 0, made: Vec::new() })
    }

    /// The root itself.
    pub fn root(&self) -> Place {
        Place { dir: Rc::clone(&self.root), path: PathBuf::new() }
    }

    /// Must be called when a directory was removed or replaced.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The directory that `path` (clean, relative) names.
    pub fn dir(&mut self, path: &Path, missing: Missing) -> Result<Option<Place>> {
        if path.as_os_str().is_empty() {
            return Ok(Some(self.root()));
        }
        if let Some(at) = self.known.iter().rposition(|(known, _)| known == path) {
            self.known[at..].rotate_left(1);
            return Ok(self.known.last().map(|(_, place)| place.clone()));
        }
        let place = match open_dir(&self.root, path) {
            Ok(dir) => Place { dir: Rc::new(dir), path: path.to_owned() },
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => match self.walk(path, missing)? {
                Some(place) => place,
                None => return Ok(None),
            },
            Err(error) => {
                return Err(Error::system("open the directory", shown(path, OsStr::new("")), error));
            }
        };
        if self.known.len() >= MOST_KNOWN {
            self.known.remove(0);
        }
        self.known.push((path.to_owned(), place.clone()));
        Ok(Some(place))
    }

    fn walk(&mut self, path: &Path, missing: Missing) -> Result<Option<Place>> {
        let mut place = self.root();
        let mut links = 0;
        let mut todo: VecDeque<OsString> = path.iter().map(OsStr::to_owned).collect();
        while let Some(name) = todo.pop_front() {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return Err(Error::TooLarge {
                    what: "its entries lead through too many links".to_owned(),
                    advice: REBUILD,
                });
            }
            if name == ".." {
                // Not the kernel's `..`: the place above may not be where it was. `/..` is `/`.
                place.path.pop();
                place.dir = Rc::new(open_dir(&self.root, &place.path).map_err(|e| {
                    Error::system("go back to the directory", shown(&place.path, OsStr::new("")), e)
                })?);
                continue;
            }
            if place.path.as_os_str().len() + name.len() + 1 > MOST_BYTES {
                return Err(Error::system("resolve", shown(path, OsStr::new("")), Errno::NAMETOOLONG));
            }
            match open_dir(&place.dir, Path::new(&name)) {
                Ok(dir) => place.dir = Rc::new(dir),
                Err(Errno::NOENT) if missing == Missing::Make => self.make(&mut place, &name)?,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    match rustix::fs::readlinkat(&*place.dir, &name, Vec::new()) {
                        Ok(target) => {
                            links += 1;
                            if links > MOST_LINKS {
                                return Err(Error::system(
                                    "follow the links of",
                                    shown(path, OsStr::new("")),
                                    Errno::LOOP,
                                ));
                            }
                            let target = target.into_bytes();
                            if target.starts_with(b"/") {
                                place = self.root();
                            }
                            for part in target.rsplit(|&b| b == b'/') {
                                if !part.is_empty() && part != b"." {
                                    todo.push_front(OsString::from_vec(part.to_vec()));
                                }
                            }
                            continue;
                        }
                        Err(_) if missing == Missing::Leave => return Ok(None),
                        Err(Errno::INVAL) => self.replace(&mut place, &name)?,
                        Err(error) => {
                            return Err(Error::system("read the link", shown(&place.path, &name), error));
                        }
                    }
                }
                Err(error) => {
                    return Err(Error::system("open the directory", shown(&place.path, &name), error));
                }
            }
            place.path.push(&name);
        }
        Ok(Some(place))
    }

    /// Makes a parent that the archive has no entry for.
    fn make(&mut self, place: &mut Place, name: &OsStr) -> Result<()> {
        // Names of entries were judged; this one may come from a link.
        if name.as_bytes().starts_with(name::PREFIX) {
            let what = format!(
                "a link leads to the directory {}, whose name is a whiteout's",
                shown(&place.path, name)
            );
            return Err(Error::Refused { offset: 0, what });
        }
        let failed = |e| Error::system("make the directory", shown(&place.path, name), e);
        rustix::fs::mkdirat(&*place.dir, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let dir = open_dir(&place.dir, Path::new(name)).map_err(failed)?;
        // The umask and a set-gid parent may have changed both.
        rustix::fs::fchown(&dir, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT)).map_err(failed)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)).map_err(failed)?;
        self.made.push(place.path.join(name));
        place.dir = Rc::new(dir);
        Ok(())
    }

    /// A parent that is no directory: a whiteout of this layer makes room, anything else is refused.
    fn replace(&mut self, place: &mut Place, name: &OsStr) -> Result<()> {
        let stat = rustix::fs::statat(&*place.dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Error::system("look at", shown(&place.path, name), e))?;
        if !is_whiteout(&stat) {
            return Err(Error::system("use as a directory", shown(&place.path, name), Errno::NOTDIR));
        }
        rustix::fs::unlinkat(&*place.dir, name, rustix::fs::AtFlags::empty())
            .map_err(|e| Error::system("remove the whiteout", shown(&place.path, name), e))?;
        self.make(place, name)
    }
}

/// Bytes of a path, for budgets.
pub fn weight(path: &Path) -> usize {
    path.as_os_str().as_bytes().len() + 64
}
