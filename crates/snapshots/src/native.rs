//! Every layer and every container is a whole tree of its own: works on any file system, costs space and time.
//!
//! Blocks are shared where the file system can (FICLONE). Nothing is mounted but views.

use crate::ChainId;
use crate::layout::{LayerDraft, Layout};
use crate::local::Local;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use types::{Error, Result};

pub const NAME: &str = "native";

/// See [`crate::Snapshotter`].
pub struct Native {
    layout: Arc<Layout>,
}

impl Native {
    /// Opens the directories.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { layout: Layout::open(root, NAME)? })
    }
}

impl Local for Native {
    const NAME: &'static str = NAME;
    const UNSYNCED: bool = true;

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// A copy of the layer below.
    fn begin(&self, name: &str, below: Option<&ChainId>) -> Result<LayerDraft> {
        let source = below.map(|chain| self.layout.open_layer(chain)).transpose()?;
        let draft = self.layout.draft(name)?;
        if let Some(source) = source {
            layers::copy::tree(source.as_fd(), draft.dir.as_fd())
                .map_err(|error| Error::from(error).context("cannot copy the layer below"))?;
        }
        Ok(draft)
    }
}
