//! Looks names up in the layers below a new one, as overlayfs would show them through it.
//!
//! A whiteout or a non-directory ends the search in the layers further down, an opaque directory ends it behind
//! itself; the new layer's own opaque directories hide everything. Links are not followed: a layer that was made
//! from a merged tree names things by where they are. It only reads.

use crate::error::{Error, REBUILD, Result};
use crate::name::shown;
use crate::resolve::{is_whiteout, open_dir};
use crate::{tree, xattr};
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Look-ups for one layer: a minute of work at worst, far more than any image asks for.
const MOST_STEPS: u64 = 20_000_000;

/// Where a name was found and what it is.
pub struct Found<'a> {
    /// The directory that holds it, in the topmost layer that has it.
    pub parent: BorrowedFd<'a>,
    /// What it is.
    pub stat: Stat,
}

/// The directory that was looked in last: most look-ups go there again, or just below it.
struct Merged {
    path: PathBuf,
    /// The new layer's own directory there.
    own: Option<OwnedFd>,
    /// The lower directories that show through, topmost first.
    dirs: Vec<OwnedFd>,
}

/// The layers below a new one.
pub struct Lower<'a> {
    root: BorrowedFd<'a>,
    layers: &'a [OwnedFd],
    at: Merged,
    steps: u64,
}

impl<'a> Lower<'a> {
    pub fn new(root: BorrowedFd<'a>, layers: &'a [OwnedFd]) -> Result<Self> {
        Ok(Self { root, layers, at: top(root, layers)?, steps: 0 })
    }

    /// Looks up a clean, relative path.
    pub fn find(&mut self, path: &Path) -> Result<Option<Found<'_>>> {
        let (parent, Some(name)) = (path.parent().unwrap_or(Path::new("")), path.file_name()) else {
            return Ok(None);
        };
        self.go(parent)?;
        for dir in &self.at.dirs {
            self.steps += 1;
            match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is_whiteout(&stat) => return Ok(None),
                Ok(stat) => return Ok(Some(Found { parent: dir.as_fd(), stat })),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(failed(path, e)),
            }
        }
        Ok(None)
    }

    fn go(&mut self, parent: &Path) -> Result<()> {
        let rest = match parent.strip_prefix(&self.at.path) {
            Ok(rest) => rest.to_owned(),
            Err(_) => {
                self.at = top(self.root, self.layers)?;
                self.steps += self.layers.len() as u64;
                parent.to_owned()
            }
        };
        for name in &rest {
            self.descend(name)?;
        }
        Ok(())
    }

    fn descend(&mut self, name: &OsStr) -> Result<()> {
        self.at.path.push(name);
        self.at.own = self.at.own.take().and_then(|own| open_dir(own, Path::new(name)).ok());
        let above = std::mem::take(&mut self.at.dirs);
        self.steps += 1 + above.len() as u64;
        if self.steps > MOST_STEPS {
            return Err(Error::TooLarge {
                what: "too much of it depends on the layers below".to_owned(),
                advice: REBUILD,
            });
        }
        if self.at.own.as_ref().is_some_and(xattr::is_opaque) {
            return Ok(());
        }
        for dir in above {
            match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if tree::is_dir(&stat) => {}
                Ok(_) => break,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(failed(&self.at.path, e)),
            }
            let below = open_dir(&dir, Path::new(name)).map_err(|e| failed(&self.at.path, e))?;
            let opaque = xattr::is_opaque(&below);
            self.at.dirs.push(below);
            if opaque {
                break;
            }
        }
        Ok(())
    }
}

fn top(root: BorrowedFd<'_>, layers: &[OwnedFd]) -> Result<Merged> {
    let here = Path::new("");
    let own = open_dir(root, here).map_err(|e| failed(here, e))?;
    let mut dirs = Vec::new();
    if !xattr::is_opaque(&own) {
        for layer in layers {
            let dir = open_dir(layer, here).map_err(|e| failed(here, e))?;
            let opaque = xattr::is_opaque(&dir);
            dirs.push(dir);
            if opaque {
                break;
            }
        }
    }
    Ok(Merged { path: PathBuf::new(), own: Some(own), dirs })
}

fn failed(path: &Path, error: Errno) -> Error {
    Error::system("look up in the layers below:", shown(path, OsStr::new("")), error)
}
