//! Layers that take the place of damaged ones, what failed to be removed, and the space of it all.
//!
//! A damaged layer is never written to: a whole one is put in its place, and the old one stays beside, under
//! `replaced`, for as long as a container runs on it. It never decides which containers those are.

use crate::layout::{Draft, LayerDraft, Layout, failed, names, open_dir, sha256};
use crate::usage::{Usage, measure};
use crate::{ChainId, Space};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use types::{Error, ErrorKind, Result};

/// What says which containers a replaced layer is kept for.
const USERS: &str = ".users";
/// Container ids are 64 bytes; a node has some hundred containers.
const USERS_MAX: u64 = 1 << 20;

impl Layout {
    /// Puts a draft where a damaged layer is; the damaged one is kept for `users`, asked until nobody can mount it any
    /// more. Where none is there any more, it is an ordinary placing.
    pub fn replace_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        diff_id: &types::Digest,
        users: &dyn Fn() -> Vec<String>,
    ) -> Result<()> {
        sha256(chain)?;
        if !self.has_layer(chain) {
            return self.place_layer(draft, chain, diff_id);
        }
        let (name, home) = self.make_durable(draft, diff_id)?;
        self.exchange(&name, home, chain, users)
    }

    /// Puts what is durable where a damaged layer is.
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
        // Who needs the old one is written before it is one: whatever is in `replaced` may be removed once they
        // are gone, the new layer too, as long as it has not been exchanged.
        let before = users();
        self.write_users(&beside, OFlags::CREATE | OFlags::EXCL, &before)?;
        rustix::fs::renameat(&self.ingest, name, &self.replaced, &beside).map_err(wrap)?;
        home.placed();
        rustix::fs::renameat_with(&self.replaced, &beside, &self.layers, chain.hex(), RenameFlags::EXCHANGE)
            .map_err(wrap)?;
        for dir in [&self.layers, &self.replaced] {
            rustix::fs::fsync(dir).map_err(wrap)?;
        }
        // Whoever mounted the old one did so before the exchange, and had taken hold of it by then.
        let now = users();
        let since: Vec<String> = now.iter().filter(|user| !before.contains(user)).cloned().collect();
        if !since.is_empty() {
            self.write_users(&beside, OFlags::APPEND, &since)?;
        }
        if now.is_empty() {
            // Failing is no harm: it is found in `replaced` later.
            if let Err(error) = self.remove_replaced(&beside) {
                tracing::warn!(error = error.chain(), "a replaced layer is removed later");
            }
        }
        Ok(())
    }

    /// Writes the list, or adds to it. A line that is cut off is no container's name, and keeps nothing.
    fn write_users(&self, name: &str, how: OFlags, users: &[String]) -> Result<()> {
        let file = format!("{name}{USERS}");
        let wrap = |error| failed("write", self.path().join("replaced").join(&file), error);
        let flags = OFlags::WRONLY | how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::openat(&self.replaced, &file, flags, Mode::RUSR | Mode::WUSR).map_err(wrap)?;
        layers::copy::write_all(&open, (users.join("\n") + "\n").as_bytes()).map_err(wrap)?;
        rustix::fs::fsync(&open).map_err(wrap)?;
        rustix::fs::fsync(&self.replaced).map_err(wrap)
    }

    /// Replaced layers that are still there, each with the containers that it is kept for.
    pub fn replaced(&self) -> Result<Vec<(String, Vec<String>)>> {
        let all = names(&self.replaced, &self.path().join("replaced"))?;
        let mut found = Vec::new();
        for name in all {
            // A list without a layer is what a removal left that did not end.
            let name = name.strip_suffix(USERS).unwrap_or(&name).to_owned();
            if !found.iter().any(|(known, _)| *known == name) {
                let users = self.read_users(&name)?;
                found.push((name, users));
            }
        }
        Ok(found)
    }

    fn read_users(&self, name: &str) -> Result<Vec<String>> {
        let file = format!("{name}{USERS}");
        let path = self.path().join("replaced").join(&file);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = match rustix::fs::openat(&self.replaced, &file, flags, Mode::empty()) {
            Ok(open) => std::fs::File::from(open),
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(failed("open", path, error)),
        };
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(open, USERS_MAX), &mut text).map_err(|e| {
            Error::with_source(ErrorKind::Internal, format!("cannot read {}", path.display()), e)
        })?;
        Ok(text.lines().map(str::to_owned).collect())
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
            let known =
                ChainId::parse(&format!("sha256:{name}")).ok().and_then(|c| self.layer_usage(&c).ok());
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
