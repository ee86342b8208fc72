//! Layers that take the place of damaged ones, what failed to be removed, and the space of it all.
//!
//! A damaged layer is never written to: a whole one is put in its place, and the old one stays beside, under
//! `replaced`, for as long as a container runs on it. It never decides which containers those are.

use crate::layout::{Draft, Layout, chain_of, failed, names, open_dir};
use crate::usage::{Usage, measure};
use crate::{ChainId, Space};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use types::{Error, ErrorKind, Result};

/// What says which containers a replaced layer is kept for: one in a line, or that nobody has said it yet.
const USERS: &str = ".users";
/// The list is open: the number of the inode that is being replaced follows. No container's id has a space.
const OPEN: &str = "open ";
/// Container ids are 64 bytes; a node has some hundred containers.
const USERS_MAX: u64 = 1 << 20;

/// Whom a replaced layer is kept for.
enum Users {
    /// Whoever holds the layer, if the folder is the one with this inode; else nobody, for it is the one that was to take
    /// its place.
    Open(u64),
    These(Vec<String>),
}

impl Layout {
    /// Puts what is durable where a damaged layer is; the damaged one is kept for `users`, asked until nobody can mount
    /// it any more.
    pub(crate) fn exchange(
        &self,
        name: &str,
        mut home: Draft,
        chain: &ChainId,
        users: &dyn Fn() -> Vec<String>,
    ) -> Result<()> {
        let beside = self.unique(chain.hex());
        let path = self.path().join("replaced").join(&beside);
        let wrap = |error| failed("replace the layer", &path, error);
        // That somebody may need the old one is on the disk before it is one. Who does is only known when nobody can mount
        // it any more; a process that ends before it has written that leaves the list open, which keeps the layer for all
        // who hold it then, and they are among those.
        let old =
            rustix::fs::statat(&self.layers, chain.hex(), AtFlags::SYMLINK_NOFOLLOW).map_err(wrap)?.st_ino;
        self.write_users(&beside, &format!("{OPEN}{old}"))?;
        rustix::fs::renameat(&self.ingest, name, &self.replaced, &beside).map_err(wrap)?;
        home.placed();
        rustix::fs::renameat_with(&self.replaced, &beside, &self.layers, chain.hex(), RenameFlags::EXCHANGE)
            .map_err(wrap)?;
        for dir in [&self.layers, &self.replaced] {
            rustix::fs::fsync(dir).map_err(wrap)?;
        }
        // Whoever mounted the old one did so before the exchange, and had taken hold of it by then.
        let now = users();
        if now.is_empty() {
            // Failing is no harm: it is found in `replaced` later.
            if let Err(error) = self.remove_replaced(&beside) {
                tracing::warn!(error = error.chain(), "a replaced layer is removed later");
            }
        } else {
            self.close_users(&beside, &now);
        }
        Ok(())
    }

    /// Writes the list as a whole, in place of what it was.
    fn write_users(&self, name: &str, text: &str) -> Result<()> {
        let file = format!("{name}{USERS}");
        let draft = self.unique("users");
        let wrap = |error| failed("write", self.path().join("replaced").join(&file), error);
        let write = || -> rustix::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = rustix::fs::openat(&self.ingest, &draft, flags, Mode::RUSR | Mode::WUSR)?;
            layers::copy::write_all(&open, format!("{text}\n").as_bytes())?;
            rustix::fs::fsync(&open)?;
            rustix::fs::renameat(&self.ingest, &draft, &self.replaced, &file)?;
            rustix::fs::fsync(&self.replaced)
        };
        write().map_err(|error| {
            // What stays of it is swept at the next start.
            let _ = rustix::fs::unlinkat(&self.ingest, &draft, AtFlags::empty());
            wrap(error)
        })
    }

    /// Says for good whom a replaced layer is kept for. Failing is no harm: the list stays open.
    fn close_users(&self, name: &str, users: &[String]) {
        if let Err(error) = self.write_users(name, &users.join("\n")) {
            tracing::warn!(
                error = error.chain(),
                "a replaced layer may be kept for longer than it is needed"
            );
        }
    }

    /// Replaced layers that are still there, each with the containers that it is kept for. `holders` says who holds a
    /// layer, for those whose replacing did not come to its end. Not to be called while a layer is replaced.
    pub fn replaced(&self, holders: &dyn Fn(&ChainId) -> Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
        let all = names(&self.replaced, &self.path().join("replaced"))?;
        let mut found = Vec::new();
        for name in all {
            // A list without a layer is what a removal left that did not end.
            let name = name.strip_suffix(USERS).unwrap_or(&name).to_owned();
            if !found.iter().any(|(known, _)| *known == name) {
                let users = match self.read_users(&name)? {
                    Users::These(users) => users,
                    Users::Open(old) => self.holders_of(&name, old, holders)?,
                };
                found.push((name, users));
            }
        }
        Ok(found)
    }

    /// Whom a layer is kept for whose list is open.
    fn holders_of(
        &self,
        name: &str,
        old: u64,
        holders: &dyn Fn(&ChainId) -> Vec<String>,
    ) -> Result<Vec<String>> {
        match rustix::fs::statat(&self.replaced, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_ino == old => {}
            // It ended before the exchange.
            Ok(_) | Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(failed("look at", self.path().join("replaced").join(name), error)),
        }
        let hex = name.rsplit('-').next().unwrap_or_default();
        let Some(chain) = chain_of(hex) else { return Ok(Vec::new()) };
        let users = holders(&chain);
        if !users.is_empty() {
            // Containers that come later run on the new one.
            self.close_users(name, &users);
        }
        Ok(users)
    }

    fn read_users(&self, name: &str) -> Result<Users> {
        let file = format!("{name}{USERS}");
        let path = self.path().join("replaced").join(&file);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = match rustix::fs::openat(&self.replaced, &file, flags, Mode::empty()) {
            Ok(open) => std::fs::File::from(open),
            Err(Errno::NOENT) => return Ok(Users::These(Vec::new())),
            Err(error) => return Err(failed("open", path, error)),
        };
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(open, USERS_MAX), &mut text).map_err(|e| {
            Error::with_source(ErrorKind::Internal, format!("cannot read {}", path.display()), e)
        })?;
        let open = text.strip_prefix(OPEN).and_then(|inode| inode.trim_end().parse().ok());
        Ok(match open {
            Some(inode) => Users::Open(inode),
            None => Users::These(text.lines().map(str::to_owned).collect()),
        })
    }

    /// Removes a replaced layer. What is gone already is no error.
    pub fn remove_replaced(&self, name: &str) -> Result<()> {
        if name.contains('/') || name.starts_with('.') {
            return Err(Error::internal("that is no name of a replaced layer"));
        }
        self.discard(&self.replaced, name)?;
        match rustix::fs::unlinkat(&self.replaced, format!("{name}{USERS}"), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("remove", self.path().join("replaced").join(name), error)),
        }
    }

    /// Removes what could not be removed when it was its time.
    pub fn sweep(&self) -> Result<()> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(|e| e.into_inner()));
        let mut first = None;
        for (folder, name) in left {
            let dir = if folder == "ingest" { &self.ingest } else { &self.trash };
            if let Err(error) = self.remove.remove(dir.as_fd(), OsStr::new(&name)) {
                let path = self.path().join(folder).join(&name);
                first.get_or_insert_with(|| {
                    Error::from(error).context(format!("cannot remove {}", path.display()))
                });
                self.remember(folder, name);
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// What `du` counts: everything but the containers' folder as layers, and that folder.
    pub fn space(&self) -> Result<Space> {
        let mut layers = Usage::default();
        let mut count = |usage: Usage| {
            layers.bytes += usage.bytes;
            layers.inodes += usage.inodes;
        };
        let look = |dir: &OwnedFd| {
            let stat = rustix::fs::fstat(dir).map_err(|e| failed("look at", self.path(), e))?;
            Ok::<_, Error>(Usage { bytes: stat.st_blocks as u64 * 512, inodes: 1 })
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(self.path(), flags, Mode::empty())
            .map_err(|e| failed("open", self.path(), e))?;
        count(look(&top)?);
        count(look(&self.layers)?);
        for dir in [&self.ingest, &self.trash, &self.replaced, &self.empty] {
            count(measure(dir.as_fd())?);
        }
        for name in names(&self.layers, &self.path().join("layers"))? {
            let dir = match open_dir(&self.layers, &name) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Err(failed("open", self.path().join("layers").join(name), error)),
            };
            count(look(&dir)?);
            let known = chain_of(&name).and_then(|c| self.layer_usage(&c).ok());
            for part in names(&dir, &self.path().join("layers").join(&name))? {
                match (&known, part.as_str()) {
                    // The tree itself was measured when it was committed, and has not changed since.
                    (Some(usage), "fs") => count(*usage),
                    _ => count(of_entry(&dir, &part)?),
                }
            }
        }
        Ok(Space { layers, containers: measure(self.containers.as_fd())? })
    }
}

/// A file, or a tree.
fn of_entry(dir: &OwnedFd, name: &str) -> Result<Usage> {
    if let Ok(tree) = open_dir(dir, name) {
        return measure(tree.as_fd());
    }
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Usage { bytes: stat.st_blocks as u64 * 512, inodes: 1 }),
        Err(Errno::NOENT) => Ok(Usage::default()),
        Err(error) => Err(failed("look at", name, error)),
    }
}
