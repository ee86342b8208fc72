//! Drafts of layers whose content lies elsewhere: for snapshotters outside of this crate.

use crate::LayerDraft;
use crate::layout::{Layout, names};
use container::plan::{Layer, RootSource};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use types::{Error, ErrorKind, Result};

/// A folder in which each draft has an entry from before it is begun until after it is over.
#[derive(Debug)]
pub struct Drafts(Arc<Layout>);

impl Drafts {
    /// Opens or makes `<root>/<name>`, and forgets the drafts of an earlier process.
    pub fn open(root: &Path, name: &str) -> Result<Drafts> {
        Layout::open(root, name).map(Drafts)
    }

    /// A new draft. `begin` gets the draft's name, which no other ever had, and gives the directory to unpack into.
    pub fn begin(&self, name: &str, begin: impl FnOnce(&str) -> Result<OwnedFd>) -> Result<LayerDraft> {
        let draft = self.0.draft(name)?;
        let dir = begin(&draft.home.name())?;
        Ok(LayerDraft { dir, ..draft })
    }

    /// The name that `begin` got.
    pub fn name(draft: &LayerDraft) -> String {
        draft.home.name()
    }

    /// The drafts that are not over.
    pub fn names(&self) -> Result<Vec<String>> {
        names(&self.0.ingest, &self.0.path().join("ingest"))
    }

    /// `<root>/<name>`.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A view that somebody else made, such that nobody can write through it: a bare directory becomes the only layer of an
    /// overlay without a writable one, for the flags of a bind mount are the container's to take away.
    pub fn unwritable(&self, view: RootSource) -> Result<RootSource> {
        match view {
            RootSource::Directory(path) => crate::view::of(&self.0, vec![Layer::Directory(path)]),
            other => Ok(other),
        }
    }

    /// An error of a system call on what a draft holds.
    pub fn failed(action: &str, error: Errno) -> Error {
        Error::with_source(ErrorKind::Internal, format!("cannot {action}"), std::io::Error::from(error))
    }
}
