//! The life of what is stored: collection, prune, check and repair, space; killed and cut off at any moment.

mod check;
mod collect;
mod disk;
mod killed;
mod order;
mod power;
mod recording;
mod space;
pub mod trees;
