//! How much space a tree takes, as `du` counts it.

use layers::tree::{Step, walk};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use types::{Error, Result};

/// Space that a layer takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of allocated blocks; a file with several links counts once.
    pub bytes: u64,
    /// Inodes, the layer's root included.
    pub inodes: u64,
}

/// `st_blocks` counts these whatever the file system's block size is (stat(2)).
const STAT_BLOCK: u64 = 512;

/// Counts a tree. A running container may change it meanwhile: what vanishes does not count, and where a
/// directory is moved away under the walk three times, what was counted until then is the answer.
pub fn measure(root: BorrowedFd<'_>) -> Result<Usage> {
    let mut usage = Usage::default();
    for _ in 0..3 {
        let stat = rustix::fs::fstat(root)
            .map_err(|e| crate::layout::failed("look at", "the root of a snapshot", e))?;
        usage = Usage { bytes: stat.st_blocks as u64 * STAT_BLOCK, inodes: 1 };
        let mut linked = HashSet::new();
        let walked = walk(root, &mut |step| {
            if let Step::Entry(_, stat) = step
                && (layers::tree::is_dir(stat) || stat.st_nlink == 1 || linked.insert(stat.st_ino))
            {
                usage.bytes += stat.st_blocks as u64 * STAT_BLOCK;
                usage.inodes += 1;
            }
            Ok(())
        });
        match walked {
            Ok(()) => return Ok(usage),
            Err(layers::Error::System { source: Errno::STALE, .. }) => {}
            Err(error) => return Err(Error::from(error)),
        }
    }
    Ok(usage)
}
