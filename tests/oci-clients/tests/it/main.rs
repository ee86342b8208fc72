//! Debian's podman and containerd with corten-oci as their runtime: what they ask of a runtime, and what they read
//! from its answers, without a change to either.
//!
//! Each test has storage, sockets and cgroups of its own, and ends by looking at what the kernel still holds. Without
//! the engine the tests print `skipped: …`.

mod containerd;
mod machine;
mod podman;
