//! Images in and out by other ways than a pull: archives, packed folders, pushes to a registry.
//!
//! What comes in is as hostile as what a registry sends, and is verified in the same way; it becomes an image by the
//! same steps as a pull from its plan on. What goes out is byte for byte what came in, and says so where it cannot be.

mod archive;
mod details;
mod export;
mod found;
mod held;
mod import;
mod outgoing;
mod pack;
mod push;
mod shelve;
mod tree;

pub use archive::{Incoming, broken_off, stalled};
pub use details::{BlobDetails, ImageDetails, LayerDetails};
pub use export::{ArchiveFormat, Exported};
pub use import::{ImportOptions, Imported};
pub use pack::{PackConfig, PackOptions, StoredLayer};
pub use push::{PushProgress, PushSender, PushState, Pushed};

use crate::Images;
use std::time::Duration;

impl Images {
    /// How long whoever sends or takes an archive may be silent: as long as a registry may.
    pub fn patience(&self) -> Duration {
        self.0.config.timeouts.idle
    }
}
