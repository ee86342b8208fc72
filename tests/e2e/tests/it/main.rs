//! The programs as a user has them, on the real kernel, with images from Debian's registry on loopback.

mod artifacts;
mod attacked;
#[path = "../../../../crates/layers/tests/it/builder.rs"]
#[allow(dead_code)]
mod builder;
mod containerd;
mod credentials;
mod daemon;
mod images;
mod keep;
mod little;
#[path = "../../../../crates/layers/tests/it/look.rs"]
#[allow(dead_code)]
mod look;
mod node;
#[path = "../../../../crates/layers/tests/it/oddities.rs"]
mod oddities;
mod policy;
mod propagation;
mod restart;
mod run;
mod snapshotters;
mod verbs;
