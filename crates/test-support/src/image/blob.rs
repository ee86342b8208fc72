//! A piece of content with its digest and media type (OCI image specification, "Descriptor").

use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Bytes that are named by their digest. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blob {
    /// SHA-256 of `data`.
    pub digest: types::Digest,
    /// As the manifest tells it.
    pub media_type: String,
    /// The content.
    pub data: Arc<[u8]>,
}

impl Blob {
    /// Names `data` by its digest.
    pub fn new(media_type: impl Into<String>, data: Vec<u8>) -> Self {
        Self { digest: sha256(&data), media_type: media_type.into(), data: data.into() }
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> serde_json::Value {
        serde_json::json!({
            "mediaType": self.media_type,
            "digest": self.digest.as_str(),
            "size": self.data.len(),
        })
    }
}

/// The SHA-256 of bytes as a digest.
pub(crate) fn sha256(data: &[u8]) -> types::Digest {
    types::Digest::sha256(&Sha256::digest(data).into())
}
