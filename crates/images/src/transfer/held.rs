//! What one import, export or push may hold in memory of manifests, indexes and configurations. Each is bounded by
//! itself; an archive or an index may lead to thousands. It only counts.

use types::{Error, ErrorKind, Result};

/// Bytes of documents. The largest image that is taken has less than half of it; most have some kilobytes.
const HELD_MAX: u64 = 64 << 20;

/// Counts the bytes of documents that are held.
#[derive(Debug, Default)]
pub(super) struct Held(u64);

impl Held {
    /// Another document of so many bytes. Called before it is read where its size is known then.
    pub fn add(&mut self, bytes: u64) -> Result<()> {
        self.0 = self.0.saturating_add(bytes);
        if self.0 <= HELD_MAX {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!(
                "the manifests and configurations of the images have more than {} MiB together, the most that is \
                 taken at once; take fewer images",
                HELD_MAX >> 20
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_counted_together_and_refused_with_a_sentence() {
        let mut held = Held::default();
        held.add(HELD_MAX).expect("as much as there may be");
        let error = held.add(1).expect_err("more");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(
            error.message().contains("64 MiB together") && error.message().contains("fewer images"),
            "{error}"
        );
        assert!(Held::default().add(u64::MAX).is_err());
    }
}
