//! The OCI runtime library: namespaces, mounts, root, capabilities, exec. Synchronous, no tokio.

pub mod plan;
