//! What an image consists of, in full, for people who look at it: documents, layers with their sizes on the way and on
//! the disk, and which of it is kept. It only reads.

use super::held::Held;
use super::tree::{self, Own, Tree};
use crate::image::{Contents, ImageRecord};
use crate::index::LayerRecord;
use crate::lease::Lease;
use crate::manifest::{self, Document, ManifestError};
use crate::{ChainId, Images, blocking};
use serde_json::Value;
use std::collections::HashMap;
use types::{Digest, Error, Result};

/// A document or a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobDetails {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, as whatever leads to it says.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDetails {
    /// As it is fetched.
    pub blob: BlobDetails,
    /// Whether it is kept as it is fetched.
    pub kept: bool,
    /// Digest of its content without compression; of an artifact nothing names it.
    pub diff_id: Option<Digest>,
    /// Its name together with all below it.
    pub chain: ChainId,
    /// Bytes and inodes that it takes unpacked; `None` where it is not here.
    pub unpacked: Option<(u64, u64)>,
}

/// All of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageDetails {
    /// The image's configuration, as it was written.
    pub config: Value,
    /// What an artifact is; an image has none.
    pub artifact_type: Option<String>,
    /// The manifest for this machine.
    pub manifest: BlobDetails,
    /// The index that each repository digest means, where it is one.
    pub indexes: Vec<BlobDetails>,
    /// The layers, bottom first.
    pub layers: Vec<LayerDetails>,
}

impl Images {
    /// All that is known of an image. Blobs that are missing or damaged are an error.
    pub async fn details(&self, record: &ImageRecord) -> Result<ImageDetails> {
        let lease = self.0.lease();
        lease.need([], record.blobs.clone()).await;
        let sizes: HashMap<ChainId, LayerRecord> = {
            let index = self.0.index();
            let of = |chain: &ChainId| Some((chain.clone(), *index.layers.get(chain)?));
            record.chain.iter().filter_map(of).collect()
        };
        let (inner, record) = (self.0.clone(), record.clone());
        blocking(move || {
            let _lease: Lease = lease;
            let content = &inner.content;
            let own = tree::own(content, &record, &mut Held::default())?;
            let roots: Vec<Digest> = record
                .digests
                .iter()
                .filter_map(|full| Digest::parse(full.rsplit_once('@')?.1).ok())
                .filter(|digest| *digest != record.manifest && content.size(digest).is_some())
                .collect();
            let mut indexes: Vec<BlobDetails> = Vec::new();
            for root in roots {
                let tree: Tree = tree::load(content, &root, &mut Held::default())?;
                if let Some(root) =
                    tree.root().filter(|root| indexes.iter().all(|i| i.digest != root.descriptor.digest))
                {
                    indexes.push(part(&root.descriptor));
                }
            }
            describe(own, indexes, &sizes, |d| content.size(&d.digest) == Some(d.size))
        })
        .await
    }
}

fn part(d: &crate::manifest::Descriptor) -> BlobDetails {
    BlobDetails { digest: d.digest.clone(), media_type: d.media_type.clone(), size: d.size }
}

/// It was read when it came.
fn unreadable(error: ManifestError) -> Error {
    Error::from(error).context("the image's manifest is not what it was")
}

fn describe(
    own: Own,
    indexes: Vec<BlobDetails>,
    sizes: &HashMap<ChainId, LayerRecord>,
    kept: impl Fn(&crate::manifest::Descriptor) -> bool,
) -> Result<ImageDetails> {
    let digest = &own.manifest.descriptor.digest;
    let artifact = match manifest::parse(digest, None, &own.manifest.bytes).map_err(unreadable)? {
        Document::Artifact { artifact, .. } => Some(artifact),
        Document::Image { .. } | Document::Index(_) => None,
    };
    let contents = Contents::read(digest, artifact, &own.config, &own.config_bytes, &own.layers)?;
    let chain = contents.chain_ids(&own.layers);
    let (artifact_type, diff_ids): (_, Vec<Option<Digest>>) = match contents {
        Contents::Image(file) => (None, file.diff_ids.into_iter().map(Some).collect()),
        Contents::Artifact(artifact) => (Some(artifact.kind), vec![None; own.layers.len()]),
    };
    let config = serde_json::from_slice(&own.config_bytes).unwrap_or(Value::Null);
    let layers = own.layers.iter().zip(diff_ids).zip(chain).map(|((layer, diff_id), chain)| LayerDetails {
        blob: part(layer),
        kept: kept(layer),
        diff_id,
        unpacked: sizes.get(&chain).map(|layer| (layer.bytes, layer.inodes)),
        chain,
    });
    let (manifest, layers) = (part(&own.manifest.descriptor), layers.collect());
    Ok(ImageDetails { config, artifact_type, manifest, indexes, layers })
}
