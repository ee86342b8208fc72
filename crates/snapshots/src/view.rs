//! Layers without a writable one: what an image volume shows.
//!
//! A layer's directory is never given out as it is. It lies on a file system that is writable, and whether a bind mount of
//! it may be written to is the mount's own flag, which a container with `CAP_SYS_ADMIN` takes away
//! (`mount -o remount,bind,rw`). An overlay without an upper directory is read-only as a file system, which no flag of a
//! mount undoes, and it refuses to be made writable (`ovl_reconfigure` in fs/overlayfs/super.c).

use crate::layout::Layout;
use crate::{ChainId, text};
use container::plan::{Layer, RootSource};
use types::{Error, Result};

/// All of `lower`, topmost first.
pub(crate) fn of(layout: &Layout, mut lower: Vec<Layer>) -> Result<RootSource> {
    if lower.is_empty() {
        return Err(nothing_to_show());
    }
    // A read-only overlay needs two layers (`ovl_fill_super` in fs/overlayfs/super.c).
    lower.push(nothing(layout)?);
    let (upper, work) = (String::new(), String::new());
    Ok(RootSource::Overlay { lower, upper, work, disk: None, options: Vec::new() })
}

/// The one that shows all others, where each has a whole tree.
pub(crate) fn topmost(layers: &[ChainId]) -> Result<&ChainId> {
    layers.first().ok_or_else(nothing_to_show)
}

/// A layer that has nothing in it.
pub(crate) fn nothing(layout: &Layout) -> Result<Layer> {
    Ok(Layer::Directory(text(&layout.empty_path())?))
}

fn nothing_to_show() -> Error {
    Error::invalid("a view needs a layer")
}
