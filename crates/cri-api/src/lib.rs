//! CRI v1, generated from our own .proto (`proto/runtime/v1/api.proto`): messages, client and server. Beside it
//! [`corten_v1`], the little that we add on the same socket (`proto/corten/v1/images.proto`).
//!
//! Only wire types live here; nothing is checked, converted or served. `facts/cri-v1.tsv` is the contract,
//! and a test holds the compiled descriptor of the CRI equal to it, field by field.

/// Package `runtime.v1`.
///
/// Names follow prost: `SANDBOX_READY` is `PodSandboxState::SandboxReady`, `uidMappings` is `uid_mappings`.
#[allow(
    missing_docs,
    deprecated, // deprecated fields are part of the contract, and the generated code touches them
    clippy::all,
    clippy::pedantic,
    rustdoc::all
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Package `corten.v1`: ours, and of no other runtime. Credentials in it are the CRI's message, whose `Debug`
/// shows none.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod corten_v1 {
    include!(concat!(env!("OUT_DIR"), "/own/corten.v1.rs"));
}

mod redact;

/// The encoded `google.protobuf.FileDescriptorSet` of package `runtime.v1`, and of no other.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri_v1.bin"));
