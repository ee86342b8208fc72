//! Unpacked image layers and the writable layers of containers, behind one contract.
//!
//! It never mounts anything that a mount table shows, never touches an image's content, and knows nothing of
//! images: layers are named by their chain id alone.
//!
//! ```text
//! <root>/<name>/layers/<sha256 hex>/{fs,meta.json}   committed, durable, never written again
//! <root>/<name>/containers/<id>/{fs,work}            writable, not synced
//! <root>/<name>/ingest/…  trash/…                    half made, half gone: swept when it is opened
//! ```
//! A thing is made in `ingest` and renamed into its place whole; it is renamed into `trash` and deleted there.
//! So whatever has its place is complete, at every moment and after a kill.

mod durable;
mod layout;
mod native;
mod overlay;
mod usage;

pub use layout::LayerDraft;
pub use usage::Usage;

use std::path::Path;
use std::sync::Arc;
use types::{Error, Result};

/// The name of a layer together with everything below it (OCI image spec, "Layer ChainID"); always sha256.
pub type ChainId = types::Digest;

/// Stores layers and makes writable layers on top of them. All calls block; call from a blocking thread.
pub trait Snapshotter: Send + Sync + 'static {
    /// `overlayfs` or `native`.
    fn name(&self) -> &'static str;
    /// What unpacking has to make of whiteouts.
    fn whiteouts(&self) -> layers::WhiteoutMode;
    /// True when a layer can be unpacked before its parent is committed.
    fn parallel(&self) -> bool;
    /// Whether the layer is committed.
    fn has_layer(&self, chain: &ChainId) -> bool;
    /// A private directory to unpack `chain` into: empty, or (native) a copy of `parent`.
    fn begin_layer(&self, chain: &ChainId, parent: Option<&ChainId>) -> Result<LayerDraft>;
    /// Settles what was left open against the parents (topmost first, committed by now), makes everything
    /// durable, and puts the layer in place. Committing what is there already succeeds and drops the draft.
    fn commit_layer(
        &self,
        draft: LayerDraft,
        chain: &ChainId,
        parents: &[ChainId],
        unpacked: &layers::Unpacked,
    ) -> Result<()>;
    /// Removes a layer. What is gone already is no error.
    fn remove_layer(&self, chain: &ChainId) -> Result<()>;
    /// The committed layers, in no order.
    fn layers(&self) -> Result<Vec<ChainId>>;
    /// A writable layer for a container on top of `layers` (all ancestors, topmost first). Repeating it for
    /// the same container keeps what is there and gives the same root. Nothing is synced.
    fn prepare(&self, id: &str, layers: &[ChainId]) -> Result<container::plan::RootSource>;
    /// Removes a container's writable layer. What is gone already is no error.
    fn remove(&self, id: &str) -> Result<()>;
    /// The containers that have a writable layer, in no order.
    fn containers(&self) -> Result<Vec<String>>;
    /// Space that a container's writable layer takes (native: the whole copy).
    fn usage(&self, id: &str) -> Result<Usage>;
    /// Space that a layer takes (native: the whole copy). Measured when it was committed.
    fn layer_usage(&self, chain: &ChainId) -> Result<Usage>;
}

/// Opens the snapshotter `name` (`overlayfs` or `native`) under `root`, which is made where it is missing, and
/// sweeps what an earlier process left half done. One process at a time may have it open.
pub fn open(name: &str, root: &Path) -> Result<Arc<dyn Snapshotter>> {
    match name {
        overlay::NAME => Ok(Arc::new(overlay::Overlayfs::open(root)?)),
        native::NAME => Ok(Arc::new(native::Native::open(root)?)),
        other => {
            Err(Error::invalid(format!("there is no snapshotter {other:?}; there are overlayfs and native")))
        }
    }
}

/// Opens overlayfs, or native with a warning where overlayfs does not work. Where overlayfs has layers from
/// before, it is refused: to change over by itself would make every image and container a stranger.
pub fn open_auto(root: &Path) -> Result<Arc<dyn Snapshotter>> {
    match open(overlay::NAME, root) {
        Ok(snapshotter) => Ok(snapshotter),
        Err(error) => {
            let folder = root.join(overlay::NAME).join("layers");
            if has_entries(&folder) {
                let kind = error.kind();
                return Err(Error::with_source(
                    kind,
                    format!(
                        "overlayfs does not work now, and {} holds layers that it made: repair what keeps it from \
                         working, or set the snapshotter to native and pull every image again",
                        folder.display()
                    ),
                    error,
                ));
            }
            tracing::warn!(
                error = error.chain(),
                "overlayfs does not work here; every layer and container will be a full copy (native)"
            );
            open(native::NAME, root)
        }
    }
}

/// Whether there is something in a directory. What cannot be looked at may hold something.
fn has_entries(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}
