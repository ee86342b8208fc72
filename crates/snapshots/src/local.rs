//! The contract of all snapshotters that keep what they have in the directories of a [`Layout`], written once. What one
//! of them does in a way of its own is a method of [`Local`].

use crate::layout::{Draft, LayerDraft, Layout};
use crate::usage::{Usage, measure};
use crate::{ChainId, Snapshotter, Space, Writable, text, view};
use container::plan::{Layer, RootSource};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use types::{Error, ErrorKind, Result};

/// What differs from one to the next. What is there already does for layers and containers that are directories, each
/// with a whole tree in it.
pub(crate) trait Local: Send + Sync + 'static {
    /// Its name in the configuration and on the disk.
    const NAME: &'static str;
    /// Whether a layer has its own entries alone, and an overlay puts layers together.
    const OVERLAY: bool = false;
    /// Whether a layer may have its place before it is on the disk.
    const UNSYNCED: bool = false;
    /// Whether layers can be compared with their archives and replaced.
    const REPAIRS: bool = true;
    /// What is said of something that cannot be removed because it is in use, and is removed later; with none of it
    /// that is an error.
    const LATER: Option<&'static str> = None;
    /// Whether each layer has a file system of its own.
    const OWN_DISKS: bool = false;

    /// The directories.
    fn layout(&self) -> &Arc<Layout>;

    /// A draft for a layer or, by default, for a container.
    fn begin(&self, name: &str, below: Option<&ChainId>) -> Result<LayerDraft>;

    /// The tree of a committed layer, for reading.
    fn layer_tree(&self, chain: &ChainId) -> Result<OwnedFd> {
        self.layout().open_layer(chain)
    }

    /// Makes a draft durable, with what is to be known of it. Its name in `ingest`.
    fn seal(
        &self,
        draft: LayerDraft,
        _chain: &ChainId,
        unpacked: &layers::Unpacked,
    ) -> Result<(String, Draft)> {
        self.layout().make_durable(draft, &unpacked.diff_id)
    }

    /// [`Snapshotter::prepare_with`].
    fn root(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource> {
        if writable.bytes.is_some() {
            return Err(unbounded(Self::NAME));
        }
        if !self.layout().has_container(id)? {
            // The topmost layer's tree has everything below it.
            self.layout().place_container(self.begin(id, layers.first())?, id)?;
        }
        Ok(RootSource::Directory(text(&self.layout().container_path(id, "fs"))?))
    }

    /// [`Snapshotter::view`].
    fn shown(&self, layers: &[ChainId]) -> Result<RootSource> {
        let chain = view::topmost(layers)?;
        self.layout().open_layer(chain)?;
        view::of(self.layout(), vec![Layer::Directory(text(&self.layout().layer_path(chain))?)])
    }

    /// [`Snapshotter::remove_layer`].
    fn drop_layer(&self, chain: &ChainId) -> Result<()> {
        self.layout().remove_layer(chain)
    }

    /// [`Snapshotter::remove`].
    fn drop_container(&self, id: &str) -> Result<()> {
        self.layout().remove_container(id)
    }

    /// [`Snapshotter::usage`].
    fn container_usage(&self, id: &str) -> Result<Usage> {
        self.layout().container_usage(id)
    }

    /// [`Snapshotter::measure_layer`].
    fn measured(&self, chain: &ChainId) -> Result<Usage> {
        measure(self.layer_tree(chain)?.as_fd())
    }

    /// [`Snapshotter::space`].
    fn space_taken(&self) -> Result<Space> {
        self.layout().space()
    }

    /// What is in memory may be right where the disk is not: has the next look at a layer come from the disk, as far as
    /// that can be had. Files of directories are seen to by who reads them.
    fn forget(&self, _chain: &ChainId) {}

    /// What differs first between a committed layer and a draft that is settled.
    fn difference(&self, chain: &ChainId, draft: &LayerDraft) -> Result<Option<String>> {
        crate::compare::difference(self.layer_tree(chain)?.as_fd(), draft.dir.as_fd())
    }
}

/// Answers what the archive left open, from the layers below. A whole tree had them in it while it was unpacked.
fn settle<T: Local>(
    all: &T,
    draft: &LayerDraft,
    parents: &[ChainId],
    unpacked: &layers::Unpacked,
) -> Result<()> {
    if !T::OVERLAY || unpacked.pending == layers::Pending::default() {
        return Ok(());
    }
    let lower = parents.iter().map(|parent| all.layer_tree(parent));
    layers::settle(draft.dir.as_fd(), &lower.collect::<Result<Vec<OwnedFd>>>()?, &unpacked.pending)
}

/// Leaves what is in use to a later sweep, where [`Local::LATER`] says so.
pub(crate) fn unless_busy<T: Local>(removed: Result<()>) -> Result<()> {
    match (removed, T::LATER) {
        (Err(error), Some(words)) if crate::is_busy(&error) => {
            tracing::info!(error = error.chain(), "{words}");
            Ok(())
        }
        (other, _) => other,
    }
}

/// A bound for a writable layer was asked of a snapshotter that has none.
pub(crate) fn unbounded(name: &str) -> Error {
    Error::new(
        ErrorKind::Unimplemented,
        format!("the snapshotter {name} cannot bound a writable layer; take another, or no writable_quota"),
    )
}

impl<T: Local> Snapshotter for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn whiteouts(&self) -> layers::WhiteoutMode {
        if T::OVERLAY { layers::WhiteoutMode::Overlay } else { layers::WhiteoutMode::Apply }
    }

    fn parallel(&self) -> bool {
        T::OVERLAY
    }

    fn has_own_disks(&self) -> bool {
        T::OWN_DISKS
    }

    fn has_layer(&self, chain: &ChainId) -> bool {
        self.layout().has_layer(chain)
    }

    fn begin_layer(&self, chain: &ChainId, parent: Option<&ChainId>) -> Result<LayerDraft> {
        self.begin(chain.hex(), parent)
    }

    fn commit_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        if self.has_layer(chain) {
            return Ok(());
        }
        settle(self, &draft, parents, unpacked)?;
        let (name, home) = self.seal(draft, chain, unpacked)?;
        self.layout().put_in_place(&name, home, chain)
    }

    fn commit_layer_unsynced(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()> {
        if !T::UNSYNCED {
            return self.commit_layer(draft, chain, parents, unpacked);
        }
        if self.has_layer(chain) {
            return Ok(());
        }
        settle(self, &draft, parents, unpacked)?;
        self.layout().place_layer_unsynced(draft, chain, unpacked)
    }

    fn sync(&self) -> Result<()> {
        if T::UNSYNCED { self.layout().sync() } else { Ok(()) }
    }

    fn remove_layer(&self, chain: &ChainId) -> Result<()> {
        unless_busy::<T>(self.drop_layer(chain))
    }

    fn layers(&self) -> Result<Vec<ChainId>> {
        self.layout().layers()
    }

    fn prepare_with(&self, id: &str, layers: &[ChainId], writable: &Writable) -> Result<RootSource> {
        self.root(id, layers, writable)
    }

    fn view(&self, layers: &[ChainId]) -> Result<RootSource> {
        self.shown(layers)
    }

    fn remove(&self, id: &str) -> Result<()> {
        unless_busy::<T>(self.drop_container(id))
    }

    fn containers(&self) -> Result<Vec<String>> {
        self.layout().containers()
    }

    fn usage(&self, id: &str) -> Result<Usage> {
        self.container_usage(id)
    }

    fn layer_usage(&self, chain: &ChainId) -> Result<Usage> {
        self.layout().layer_usage(chain)
    }

    fn measure_layer(&self, chain: &ChainId) -> Result<Usage> {
        self.measured(chain)
    }

    fn sweep(&self) -> Result<()> {
        self.layout().sweep()
    }

    fn space(&self) -> Result<Space> {
        self.space_taken()
    }

    fn verify_layer(
        &self,
        draft: &LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<Option<String>> {
        if !T::REPAIRS {
            return Err(crate::no_repair(T::NAME));
        }
        settle(self, draft, parents, unpacked)?;
        self.difference(chain, draft)
    }

    fn fingerprint_layer(&self, chain: &ChainId, from_disk: bool) -> Result<Option<[u8; 32]>> {
        if !T::REPAIRS {
            return Ok(None);
        }
        if from_disk {
            self.forget(chain);
        }
        crate::fingerprint::of_tree(self.layer_tree(chain)?.as_fd(), from_disk).map(Some)
    }

    fn replace_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
        users: &dyn Fn() -> Vec<String>,
    ) -> Result<()> {
        if !T::REPAIRS {
            return Err(crate::no_repair(T::NAME));
        }
        if !self.has_layer(chain) {
            return self.commit_layer(draft, chain, parents, unpacked);
        }
        settle(self, &draft, parents, unpacked)?;
        let (name, home) = self.seal(draft, chain, unpacked)?;
        self.layout().exchange(&name, home, chain, users)
    }

    fn replaced(&self, holders: &dyn Fn(&ChainId) -> Vec<String>) -> Result<Vec<(String, Vec<String>)>> {
        self.layout().replaced(holders)
    }

    fn remove_replaced(&self, name: &str) -> Result<()> {
        unless_busy::<T>(self.layout().remove_replaced(name))
    }
}
