//! What every snapshotter promises, on a real file system, as root.

extern crate corten_snapshots as snapshots;

#[path = "../../../layers/tests/it/builder.rs"]
#[allow(dead_code)]
mod builder;
#[macro_use]
mod case;
mod bounded;
mod contract;
mod images;
mod killed;
mod mapped;
mod overlayfs;
mod pool;
mod replaced;
mod subvolumes;
mod thin;
mod views;
