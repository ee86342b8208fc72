//! Whiteouts and opaque directories. They hide what lower layers have and never what their own layer has,
//! wherever in the archive they stand (OCI image spec, "Whiteouts").

use crate::WhiteoutMode;
use crate::error::{Error, Result};
use crate::name::shown;
use crate::resolve::{Missing, open_dir};
use crate::unpack::Unpacker;
use crate::{tree, xattr};
use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

impl Unpacker {
    /// Hides `name` in `parent`.
    pub(crate) fn whiteout(&mut self, parent: &Path, name: &OsStr) -> Result<()> {
        if self.mode == WhiteoutMode::Apply {
            return self.delete(parent, name);
        }
        let place = self.parent(parent)?;
        let path = place.path.join(name);
        let failed = |action, e| Error::system(action, shown(&place.path, name), e);
        match rustix::fs::statat(&*place.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(&*place.dir, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|e| failed("make the whiteout", e))?;
            }
            Ok(stat) if tree::is_dir(&stat) => {
                let dir =
                    open_dir(&place.dir, Path::new(name)).map_err(|e| failed("open the directory", e))?;
                xattr::set_opaque(dir).map_err(|e| failed("mark as opaque", e))?;
                // The lower directory is hidden: this one has nothing to take from it.
                self.implied.remove(&path);
            }
            // This layer has something there, which hides the lower layers already.
            Ok(_) => {}
            Err(e) => return Err(failed("look at", e)),
        }
        self.remember(&path)?;
        self.hidden.insert(path);
        Ok(())
    }

    /// Hides everything in `parent`.
    pub(crate) fn opaque(&mut self, parent: &Path) -> Result<()> {
        match self.mode {
            WhiteoutMode::Overlay => {
                let place = self.parent(parent)?;
                xattr::set_opaque(&*place.dir)
                    .map_err(|e| Error::system("mark as opaque", shown(parent, OsStr::new("")), e))
            }
            WhiteoutMode::Apply => match self.resolver.dir(parent, Missing::Leave)? {
                Some(place) => self.purge(place.path),
                None => Ok(()),
            },
        }
    }

    /// Deletes what a lower layer left at a name.
    fn delete(&mut self, parent: &Path, name: &OsStr) -> Result<()> {
        let Some(place) = self.resolver.dir(parent, Missing::Leave)? else { return Ok(()) };
        let path = place.path.join(name);
        if !self.own.contains(&path) {
            self.resolver.forget();
            return tree::remove(place.dir.as_fd(), name);
        }
        match rustix::fs::statat(&*place.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if tree::is_dir(&stat) => self.purge(path),
            _ => Ok(()),
        }
    }

    /// Deletes everything below `top` that is not this layer's.
    fn purge(&mut self, top: PathBuf) -> Result<()> {
        // A second time only this layer's things are there; without this an archive could have us walk forever.
        if self.hidden.contains(&top) {
            return Ok(());
        }
        self.remember(&top)?;
        self.hidden.insert(top.clone());
        self.resolver.forget();
        let root = self.resolver.root();
        let mut todo = vec![top];
        while let Some(path) = todo.pop() {
            let failed = |e| Error::system("empty the directory", shown(&path, OsStr::new("")), e);
            let dir = open_dir(&root.dir, &path).map_err(failed)?;
            let mut entries = Dir::read_from(&dir).map_err(failed)?;
            while let Some(entry) = entries.read() {
                let entry = entry.map_err(failed)?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." {
                    continue;
                }
                let below = path.join(name);
                if !self.own.contains(&below) {
                    tree::remove(dir.as_fd(), name)?;
                    continue;
                }
                let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if tree::is_dir(&stat) {
                    todo.push(below);
                }
            }
        }
        Ok(())
    }
}
