//! What is being made: a directory in `ingest` that removes itself until it is renamed, whole, to its place.

use super::{Layout, ROOT_MODE, failed, make_dir, open_dir};
use crate::usage::{Usage, measure};
use crate::{ChainId, durable};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use types::{Error, Result};

/// A private directory to unpack one layer into. It is removed on drop unless it was committed.
#[derive(Debug)]
pub struct LayerDraft {
    /// Where to unpack.
    pub dir: OwnedFd,
    pub(crate) home: Draft,
}

/// A directory in `ingest` that removes itself.
#[derive(Debug)]
pub(crate) struct Draft {
    layout: Arc<Layout>,
    name: String,
    placed: bool,
}

impl Draft {
    /// It was moved to where it stays.
    pub fn placed(&mut self) {
        self.placed = true;
    }

    /// Its name in `ingest`.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Where the directory lies now.
    pub fn path(&self) -> PathBuf {
        self.layout.path.join("ingest").join(&self.name)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = self.layout.remove.remove(self.layout.ingest.as_fd(), OsStr::new(&self.name))
        {
            let error = Error::from(error);
            tracing::warn!(
                name = self.name,
                error = error.chain(),
                "a half made snapshot cannot be removed now"
            );
            self.layout.remember("ingest", self.name.clone());
        }
    }
}

impl Layout {
    /// A new, empty `fs` in `ingest`.
    pub fn draft(self: &Arc<Self>, name: &str) -> Result<LayerDraft> {
        self.draft_made_by(name, |top| make_dir(top, "fs", ROOT_MODE))
    }

    /// As [`Layout::draft`], where `make` makes the `fs` in the directory that it gets, and opens it.
    pub(crate) fn draft_made_by(
        self: &Arc<Self>,
        name: &str,
        make: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<OwnedFd>,
    ) -> Result<LayerDraft> {
        let name = self.unique(name);
        let path = self.path.join("ingest").join(&name);
        let wrap = |error| failed("make the directory", &path, error);
        let top = make_dir(&self.ingest, &name, 0o700).map_err(wrap)?;
        // From here on the directory removes itself.
        let home = Draft { layout: Arc::clone(self), name, placed: false };
        let dir = make(top.as_fd()).map_err(wrap)?;
        Ok(LayerDraft { dir, home })
    }

    /// Puts a draft in place as a layer without waiting for the disk: whole against a kill, and against a power cut only
    /// after [`Layout::sync`]. Somebody else's equal layer wins.
    pub fn place_layer_unsynced(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        let LayerDraft { dir, home } = draft;
        if !std::ptr::eq(self, Arc::as_ptr(&home.layout)) {
            return Err(Error::internal("the draft of a layer belongs to another snapshotter"));
        }
        let (path, name) = (home.path(), home.name.clone());
        let top = open_dir(&self.ingest, &name).map_err(|e| failed("open", &path, e))?;
        let usage = match unpacked.allocated {
            // The root is one of its inodes.
            Some(bytes) => Usage { bytes, inodes: unpacked.inodes + 1 },
            None => measure(dir.as_fd())?,
        };
        self.put_meta(&top, &path, &unpacked.diff_id, usage, None)?;
        self.rename_in_place(&name, home, chain)
    }

    /// Makes all layers durable, with all else that their file system has.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.layers).map_err(|e| failed("sync the file system of", &self.path, e))
    }

    /// Puts what is durable in place as a layer. Somebody else's equal layer wins.
    pub(crate) fn put_in_place(&self, name: &str, home: Draft, chain: &ChainId) -> Result<()> {
        self.rename_in_place(name, home, chain)?;
        rustix::fs::fsync(&self.layers).map_err(|e| failed("sync", self.path.join("layers"), e))
    }

    fn rename_in_place(&self, name: &str, mut home: Draft, chain: &ChainId) -> Result<()> {
        let path = self.path.join("ingest").join(name);
        let target = chain.hex();
        match rustix::fs::renameat_with(&self.ingest, name, &self.layers, target, RenameFlags::NOREPLACE) {
            Ok(()) => home.placed = true,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(failed("put in place", path, e)),
        }
        Ok(())
    }

    /// Writes what is known of a draft beside it, and syncs all of it. Its name in `ingest`.
    pub(crate) fn make_durable(&self, draft: LayerDraft, diff_id: &types::Digest) -> Result<(String, Draft)> {
        let LayerDraft { dir, home } = draft;
        if !std::ptr::eq(self, Arc::as_ptr(&home.layout)) {
            return Err(Error::internal("the draft of a layer belongs to another snapshotter"));
        }
        let path = self.path.join("ingest").join(&home.name);
        let top = open_dir(&self.ingest, &home.name).map_err(|e| failed("open", &path, e))?;
        durable::sync_tree(dir.as_fd()).map_err(|e| e.context("cannot make the layer durable"))?;
        self.write_meta(&top, &path, diff_id, measure(dir.as_fd())?, None)?;
        Ok((home.name.clone(), home))
    }

    /// Puts a draft in place as a container's layer; nothing is synced. False when one was there.
    pub fn place_container(&self, draft: LayerDraft, id: &str) -> Result<bool> {
        let LayerDraft { dir: _, mut home } = draft;
        match rustix::fs::renameat_with(
            &self.ingest,
            &home.name,
            &self.containers,
            id,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {
                home.placed = true;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(failed("put in place", self.container_path(id, ""), e)),
        }
    }

    /// The directory that holds a draft's `fs`.
    pub fn draft_top(&self, draft: &LayerDraft) -> Result<OwnedFd> {
        let name = &draft.home.name;
        open_dir(&self.ingest, name).map_err(|e| failed("open", self.path.join("ingest").join(name), e))
    }
}
