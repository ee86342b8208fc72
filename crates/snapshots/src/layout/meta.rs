//! What is written down of a layer when it is committed, in its `meta.json`.

use super::{Layout, failed, missing_layer, open_dir};
use crate::ChainId;
use crate::usage::Usage;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::Path;
use types::{Error, ErrorKind, Result};

/// What is known of a committed layer, in its `meta.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// Layout of this file; 1.
    pub version: u32,
    /// The layer's own content.
    pub diff_id: types::Digest,
    /// Space, measured at commit.
    pub usage: Usage,
    /// Of a layer that is an image file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageMeta>,
}

/// What is known of a layer's image file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageMeta {
    /// Its root hides all layers below (`trusted.overlay.opaque`).
    pub opaque: bool,
    /// What fs-verity measures: the number of the algorithm and the digest in hexadecimal digits.
    pub verity: Option<(u16, String)>,
}

const META: &str = "meta.json";
const META_VERSION: u32 = 1;
/// Far above what `Meta` takes.
const META_MAX: usize = 64 << 10;

impl Layout {
    /// Writes `meta.json` into the folder `top` of a draft, and syncs it and the folder.
    pub(crate) fn write_meta(
        &self,
        top: &OwnedFd,
        path: &Path,
        diff_id: &types::Digest,
        usage: Usage,
        image: Option<ImageMeta>,
    ) -> Result<()> {
        let file = self.put_meta(top, path, diff_id, usage, image)?;
        let wrap = |error| failed("write", path.join(META), error);
        rustix::fs::fsync(&file).map_err(wrap)?;
        rustix::fs::fsync(top).map_err(wrap)
    }

    /// As [`Layout::write_meta`], synced by nobody.
    pub(super) fn put_meta(
        &self,
        top: &OwnedFd,
        path: &Path,
        diff_id: &types::Digest,
        usage: Usage,
        image: Option<ImageMeta>,
    ) -> Result<OwnedFd> {
        let meta = Meta { version: META_VERSION, diff_id: diff_id.clone(), usage, image };
        let json = serde_json::to_vec_pretty(&meta)
            .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot write a layer's meta.json", e))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let wrap = |error| failed("write", path.join(META), error);
        let file = rustix::fs::openat(top, META, flags, Mode::RUSR | Mode::WUSR).map_err(wrap)?;
        layers::copy::write_all(&file, &json).map_err(wrap)?;
        Ok(file)
    }

    /// What was measured when the layer was committed.
    pub fn layer_usage(&self, chain: &ChainId) -> Result<Usage> {
        Ok(self.meta(chain)?.usage)
    }

    /// What was written of a layer when it was committed.
    pub fn meta(&self, chain: &ChainId) -> Result<Meta> {
        let path = self.path.join("layers").join(chain.hex()).join(META);
        let wrap = |error| match error {
            Errno::NOENT => missing_layer(chain),
            error => failed("read", &path, error),
        };
        let dir = open_dir(&self.layers, chain.hex()).map_err(wrap)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, META, flags, Mode::empty()).map_err(wrap)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(
            &mut std::io::Read::take(std::fs::File::from(file), META_MAX as u64),
            &mut bytes,
        )
        .map_err(|e| Error::with_source(ErrorKind::Internal, format!("cannot read {}", path.display()), e))?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Error::with_source(
                ErrorKind::Internal,
                format!("{} is damaged; pull the image again", path.display()),
                e,
            )
        })
    }
}
