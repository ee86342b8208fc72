//! Space that images and containers take, as `du` counts it: allocated blocks, a file with several names once.

use crate::{Images, Inner, blocking};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use types::{Error, ErrorKind, Result};

pub use snapshots::Usage;

/// Measuring takes at most one part in so many of the time, however often somebody asks.
const SHARE: u32 = 20;
/// An answer is never older than this.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Space that images and containers take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// The folder whose file system holds both.
    pub mountpoint: PathBuf,
    /// Blobs, unpacked layers, and the metadata.
    pub images: Usage,
    /// Writable layers.
    pub containers: Usage,
    /// When this was true, in nanoseconds since 1970.
    pub timestamp: i64,
}

/// The latest answer.
#[derive(Debug, Default)]
pub(crate) struct Measured(Mutex<Option<(Instant, Duration, FsInfo)>>);

impl Images {
    /// Space that images and containers take. Layers never change and are not walked again; writable layers are. An
    /// answer that took long to find is given again for a while.
    pub async fn fs_info(&self) -> Result<FsInfo> {
        let inner = self.0.clone();
        blocking(move || inner.measured.get(|| measure(&inner))).await
    }
}

impl Measured {
    fn get(&self, measure: impl FnOnce() -> Result<FsInfo>) -> Result<FsInfo> {
        // Held while it is measured: who asks meanwhile gets the same answer.
        let mut latest = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((at, took, info)) = latest.as_ref()
            && at.elapsed() < took.saturating_mul(SHARE).min(AGE_MAX)
        {
            return Ok(info.clone());
        }
        let started = Instant::now();
        let info = measure()?;
        *latest = Some((Instant::now(), started.elapsed(), info.clone()));
        Ok(info)
    }
}

pub(crate) fn measure(inner: &Inner) -> Result<FsInfo> {
    let space = inner.snapshotter.space()?;
    let mut images = space.layers;
    add(&mut images, &inner.config.root.join("content"))?;
    add(&mut images, inner.meta.path())?;
    Ok(FsInfo {
        mountpoint: inner.config.root.clone(),
        images,
        containers: space.containers,
        timestamp: types::time::now_nanos(),
    })
}

/// Counts a file or a tree of our own, which is few levels deep.
fn add(sum: &mut Usage, path: &Path) -> Result<()> {
    let failed =
        |cause| Error::with_source(ErrorKind::Internal, format!("cannot measure {}", path.display()), cause);
    let gone = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::NotFound;
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // Removed meanwhile: it takes no space.
        Err(cause) if gone(&cause) => return Ok(()),
        Err(cause) => return Err(failed(cause)),
    };
    // st_blocks counts 512 bytes whatever the file system's block is (stat(2)).
    sum.bytes += meta.blocks() * 512;
    sum.inodes += 1;
    if meta.is_dir() {
        let entries = match std::fs::read_dir(path) {
            Err(cause) if gone(&cause) => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            add(sum, &entry.map_err(failed)?.path())?;
        }
    }
    Ok(())
}
