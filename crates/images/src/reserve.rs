//! Space that pulls leave free. A disk that an image fills to the end takes the node down with it: the kubelet's
//! eviction works at its thresholds, and this is the line below which nothing is written any more.
//!
//! It looks at the file system and decides; it writes and removes nothing.

use rustix::fs::statvfs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use types::{Error, ErrorKind, Result};

/// Between two looks while something is written. At two gigabytes a second that is a tenth of one.
const EVERY: Duration = Duration::from_millis(50);

/// A file system, and what has to stay free in it.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    path: PathBuf,
    min: u64,
}

impl Reserve {
    /// `min` bytes are to stay free where `path` is; 0 turns it off.
    pub(crate) fn new(path: &Path, min: u64) -> Reserve {
        Reserve { path: path.to_owned(), min }
    }

    /// Refuses to write `bytes` that would not leave enough. Blocks, as statvfs(3) does: not on a local disk.
    pub(crate) fn check(&self, bytes: u64) -> Result<()> {
        if self.min == 0 {
            return Ok(());
        }
        let free = self.free()?;
        if free >= self.min.saturating_add(bytes) {
            return Ok(());
        }
        let path = self.path.display();
        let (free, min) = (mebibytes(free), mebibytes(self.min));
        let need = if bytes == 0 { String::new() } else { format!(", and {} are needed", mebibytes(bytes)) };
        Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!(
                "the file system of {path} has {free} free{need}; images.min_free keeps {min} free: remove images or other \
                 files, or lower it"
            ),
        ))
    }

    /// Does `work`, and breaks it off when too little is free meanwhile.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if self.min == 0 {
            return work.await;
        }
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = tick.tick() => self.check(0)?,
            }
        }
    }

    fn free(&self) -> Result<u64> {
        let stat = statvfs(&self.path).map_err(|cause| {
            Error::with_source(
                ErrorKind::Internal,
                format!("cannot ask how much is free in {}", self.path.display()),
                std::io::Error::from(cause),
            )
        })?;
        // What an ordinary user may take: ext4 keeps 5% back for root (statvfs(3), f_bavail).
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_refused_or_broken_off_where_too_little_is_free() {
        let none = Reserve::new(Path::new("/"), 0);
        assert!(none.check(u64::MAX).is_ok());
        let little = Reserve::new(Path::new("/"), 1);
        assert!(little.check(0).is_ok());
        let error = little.check(u64::MAX).expect_err("more than there is");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        let all = Reserve::new(Path::new("/"), u64::MAX);
        let error = all.during(std::future::pending::<Result<()>>()).await.expect_err("nothing is enough");
        assert!(error.message().contains("images.min_free"), "{error}");
        assert!(little.during(async { Ok(()) }).await.is_ok());
    }
}
