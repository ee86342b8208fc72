//! What unpacking promises, on the real file system, as root.
//!
//! Every test has a directory of its own with a sentinel beside the root: whatever an archive tries, the
//! sentinel stays as it was.

extern crate corten_layers as layers;

mod attributes;
mod builder;
mod containerd;
mod damage;
mod duplicates;
mod format;
mod fuzz;
mod golden;
mod hostile;
mod look;
mod oddities;
mod oracle;
mod peers;
mod sandbox;
mod settling;
mod sparse;
mod volume;
mod whiteouts;
