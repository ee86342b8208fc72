//! CRI v1, generated from our own .proto (`proto/runtime/v1/api.proto`): messages, client and server.
//!
//! Only wire types live here; nothing is checked, converted or served. `facts/cri-v1.tsv` is the contract,
//! and a test holds the compiled descriptor equal to it, field by field.

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

mod redact;

/// The encoded `google.protobuf.FileDescriptorSet` of package `runtime.v1`.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri_v1.bin"));
