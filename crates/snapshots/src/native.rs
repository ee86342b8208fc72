//! Every layer and every container is a whole tree of its own: works on any file system, costs space and time.
//!
//! Blocks are shared where the file system can (FICLONE). Nothing is mounted.

use crate::layout::{LayerDraft, Layout};
use crate::usage::Usage;
use crate::{ChainId, Snapshotter, Space, Writable};
use container::plan::RootSource;
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

    /// A draft that holds a copy of a layer.
    fn copy_of(&self, name: &str, layer: Option<&ChainId>) -> Result<LayerDraft> {
        let source = layer.map(|chain| self.layout.open_layer(chain)).transpose()?;
        let draft = self.layout.draft(name)?;
        if let Some(source) = source {
            layers::copy::tree(source.as_fd(), draft.dir.as_fd())
                .map_err(|error| Error::from(error).context("cannot copy the layer below"))?;
        }
        Ok(draft)
    }
}

impl Snapshotter for Native {
    fn name(&self) -> &'static str {
        NAME
    }

    fn whiteouts(&self) -> layers::WhiteoutMode {
        layers::WhiteoutMode::Apply
    }

    fn parallel(&self) -> bool {
        false
    }

    fn has_layer(&self, chain: &ChainId) -> bool {
        self.layout.has_layer(chain)
    }

    fn begin_layer(&self, chain: &ChainId, parent: Option<&ChainId>) -> Result<LayerDraft> {
        self.copy_of(chain.hex(), parent)
    }

    fn commit_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        _parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        if self.has_layer(chain) {
            return Ok(());
        }
        // Nothing is left open: the layers below were there while it was unpacked.
        self.layout.place_layer(draft, chain, &unpacked.diff_id)
    }

    fn commit_layer_unsynced(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        _parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        if self.has_layer(chain) {
            return Ok(());
        }
        self.layout.place_layer_unsynced(draft, chain, &unpacked.diff_id)
    }

    fn sync(&self) -> Result<()> {
        self.layout.sync()
    }

    fn remove_layer(&self, chain: &ChainId) -> Result<()> {
        self.layout.remove_layer(chain)
    }

    fn layers(&self) -> Result<Vec<ChainId>> {
        self.layout.layers()
    }

    fn prepare_with(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource> {
        if writable.bytes.is_some() {
            return Err(Error::new(
                types::ErrorKind::Unimplemented,
                "the snapshotter native cannot bound a writable layer; take another, or no writable_quota",
            ));
        }
        if !self.layout.has_container(id)? {
            // The topmost layer's tree has everything below it.
            let draft = self.copy_of(id, layers.first())?;
            self.layout.place_container(draft, id)?;
        }
        let path = self.layout.container_path(id, "fs");
        // The root was found to be UTF-8 when it was opened.
        let path = path.to_str().ok_or_else(|| Error::internal("a snapshot's path is not UTF-8"))?;
        Ok(RootSource::Directory(path.to_owned()))
    }

    fn view(&self, layers: &[ChainId]) -> Result<RootSource> {
        let chain = layers.first().ok_or_else(|| Error::invalid("a view needs a layer"))?;
        self.layout.open_layer(chain)?;
        let path = self.layout.layer_path(chain);
        let path = path.to_str().ok_or_else(|| Error::internal("a snapshot's path is not UTF-8"))?;
        Ok(RootSource::Directory(path.to_owned()))
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.layout.remove_container(id)
    }

    fn containers(&self) -> Result<Vec<String>> {
        self.layout.containers()
    }

    fn usage(&self, id: &str) -> Result<Usage> {
        self.layout.container_usage(id)
    }

    fn layer_usage(&self, chain: &ChainId) -> Result<Usage> {
        self.layout.layer_usage(chain)
    }

    fn measure_layer(&self, chain: &ChainId) -> Result<Usage> {
        crate::usage::measure(self.layout.open_layer(chain)?.as_fd())
    }

    fn sweep(&self) -> Result<()> {
        self.layout.sweep()
    }

    fn space(&self) -> Result<Space> {
        self.layout.space()
    }

    fn verify_layer(
        &self,
        draft: &LayerDraft,
        chain: &ChainId,
        _parents: &[ChainId],
        _unpacked: &layers::Unpacked,
    ) -> Result<Option<String>> {
        crate::compare::difference(self.layout.open_layer(chain)?.as_fd(), draft.dir.as_fd())
    }

    fn replace_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        _parents: &[ChainId],
        unpacked: &layers::Unpacked,
        users: &dyn Fn() -> Vec<String>,
    ) -> Result<()> {
        self.layout.replace_layer(draft, chain, &unpacked.diff_id, users)
    }

    fn replaced(&self) -> Result<Vec<(String, Vec<String>)>> {
        self.layout.replaced()
    }

    fn remove_replaced(&self, name: &str) -> Result<()> {
        self.layout.remove_replaced(name)
    }
}
