//! Snapshotters of others, over containerd's snapshots gRPC API: what stargz, SOCI and nydus speak, and containerd
//! itself.
//!
//! The other process keeps layers and writable layers; this asks it for them, unpacks what it cannot fetch itself, and
//! turns its mounts into a root that the container mounts. Its answers are not trusted: each has a time limit and a
//! bound, and a mount that is not understood is refused. It mounts nothing that the node's mount table shows.

mod client;
mod layers_of;
mod mounts;
mod order;
mod snapshotter;

pub use snapshotter::{Proxy, ProxyConfig};

/// The generated messages and services.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod api {
    tonic::include_proto!("containerd.services.snapshots.v1");
}
