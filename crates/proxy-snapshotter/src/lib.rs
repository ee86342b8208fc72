//! Snapshotters of others, by containerd's snapshots gRPC API.
