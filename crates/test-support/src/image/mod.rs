//! Container images built in memory: OCI or Docker media types, any compression, one or more platforms.
//!
//! The same input always gives the same bytes: times are fixed and entries keep their order. Nothing is
//! checked, so that broken images can be made as well.

mod blob;
mod build;
mod elf;
mod fixtures;
mod layer;
mod layout;

pub use blob::Blob;
pub use build::{ImageBuilder, Media, Platform};
pub use fixtures::{busybox, hello_web, nginx, pause};
pub use layer::{Compression, Layer, PackedLayer};

/// An image, ready to be pushed or served.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a tag points to: a manifest, or the index of several.
    pub top: Blob,
    /// The manifests below an index; empty where `top` is the manifest.
    pub manifests: Vec<Blob>,
    /// Config and layers.
    pub blobs: Vec<Blob>,
    /// The config's digest, which is the image's id; an index has none.
    pub id: Option<types::Digest>,
}

impl Image {
    /// Starts a new image for this machine's platform.
    pub fn builder() -> ImageBuilder {
        ImageBuilder::default()
    }

    /// The compressed layers and the config, in bytes.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.data.len() as u64).sum()
    }

    /// Everything that is stored under its digest: blobs, manifests, and the top.
    pub fn all(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.iter().chain(&self.manifests).chain([&self.top])
    }
}
