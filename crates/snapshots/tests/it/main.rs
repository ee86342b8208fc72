//! What every snapshotter promises, on a real file system, as root.

extern crate corten_snapshots as snapshots;

#[path = "../../../layers/tests/it/builder.rs"]
#[allow(dead_code)]
mod builder;
mod case;
mod contract;
mod overlayfs;
