//! The words that every layer shares: ids, digests, image references, error kinds, and the pod and
//! container configuration that the engine works with. No I/O, no system calls.

pub mod container;
pub mod digest;
pub mod error;
pub mod id;
pub mod pod;
pub mod reference;
pub mod time;

pub use container::ContainerConfig;
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use id::{ContainerId, PodId};
pub use pod::PodConfig;
pub use reference::Reference;
