//! A check: is all that is recorded there, and is every byte of it what it should be? And its repair.
//!
//! Each blob is read from the disk and hashed. Each layer whose blob is kept is unpacked once more beside, and compared
//! with the one in place, entry by entry and byte by byte, decrypted where that takes a key; a layer whose blob is not kept
//! is compared with the number that was taken of all of it when it was unpacked ([`crate::fingerprints`]), and where
//! there is none, its entries and its space with what they were. A repair puts a whole layer in place of a damaged one in one step, and
//! fetches what is not here whole by an ordinary pull of the recorded digest. It never writes into a layer.

mod inspect;
mod repair;

pub(crate) use repair::is_whole_blob;

use crate::image::ImageRecord;
use crate::{Images, Stop, blocking};
use inspect::Inspection;
use registry::Auth;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use types::{Digest, Error, Result};

/// What a check tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckEvent {
    /// Bytes that are to be read, and that were. At most about ten a second.
    Progress {
        /// All, as far as it is known.
        total: u64,
        /// Read.
        done: u64,
    },
    /// Something is damaged.
    Damage(Damage),
}

/// What kind of thing is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// A blob of the content store.
    Blob,
    /// An unpacked layer.
    Layer,
}

/// Something that is not as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Blob or layer.
    pub part: Damaged,
    /// Digest of the blob, or chain id of the layer.
    pub digest: Digest,
    /// The images that need it: a name, or the id of one that has none.
    pub images: Vec<String>,
    /// What is wrong, as a part of a sentence: `/etc/passwd has other content from byte 3 on`.
    pub what: String,
    /// It is whole again.
    pub repaired: bool,
    /// Why it is not, where that was tried.
    pub why_not: Option<String>,
    /// Containers that were made from the damaged layer. They see it until they are made again.
    pub containers: Vec<String>,
}

/// How one image is.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The image.
    pub image: Arc<ImageRecord>,
    /// Blobs and layers of it that were damaged.
    pub damaged: usize,
    /// How many of these are whole again.
    pub repaired: usize,
}

/// The end of a check.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// The images that were looked at.
    pub images: Vec<Checked>,
    /// All damage, in the order in which it was found.
    pub damages: Vec<Damage>,
    /// Blobs that were read.
    pub blobs: usize,
    /// Layers of which every byte was compared: with their archive, or with what they were when they were unpacked.
    pub layers: usize,
    /// Layers of which only the size could be compared.
    pub measured: usize,
    /// Bytes that were read of blobs.
    pub bytes: u64,
}

impl Images {
    /// Checks the images that `names` mean, or all of them where it is empty. With `repair`, what is damaged is made
    /// whole again as far as that is possible; `auth` is for registries that want it; where it names none, all images must be of one.
    ///
    /// What is found damaged and stays so is remembered: the next pull of an image that needs it brings it anew.
    pub async fn check(
        &self,
        names: &[String],
        repair: bool,
        auth: Option<Auth>,
        events: Option<UnboundedSender<CheckEvent>>,
    ) -> Result<CheckReport> {
        let images = self.named(names)?;
        let lease = Arc::new(self.0.lease());
        let layers = images.iter().flat_map(|image| image.chain.clone()).collect::<Vec<_>>();
        let blobs = images.iter().flat_map(|image| image.blobs.clone()).collect::<Vec<_>>();
        lease.need(layers, blobs).await;
        // What was removed before the lease is nobody's damage.
        let images: Vec<_> = images.into_iter().filter(|i| self.0.index().by_id(&i.id).is_some()).collect();
        if repair && let Some(auth) = &auth {
            repair::one_registry(&images, auth)?;
        }
        let stop = Stop::default();
        let work =
            Inspection::new(self.0.clone(), lease.clone(), images, repair, events.clone(), stop.0.clone());
        let mut report = blocking(move || work.run()).await?;
        if repair && report.damages.iter().any(|damage| !damage.repaired) {
            repair::fetch(self, &mut report, auth.as_ref()).await?;
        }
        if let Some(events) = events {
            for damage in &report.damages {
                // Who asked may have gone.
                let _ = events.send(CheckEvent::Damage(damage.clone()));
            }
        }
        count(&mut report);
        drop((stop, lease));
        Ok(report)
    }

    fn named(&self, names: &[String]) -> Result<Vec<Arc<ImageRecord>>> {
        if names.is_empty() {
            return Ok(self.list());
        }
        let mut images: Vec<Arc<ImageRecord>> = Vec::new();
        for name in names {
            let image = self.find(name).ok_or_else(|| {
                Error::not_found(format!("there is no image {:?}", types::reference::shorten(name)))
            })?;
            if !images.iter().any(|known| known.id == image.id) {
                images.push(image);
            }
        }
        Ok(images)
    }
}

fn count(report: &mut CheckReport) {
    for checked in &mut report.images {
        let own = report.damages.iter().filter(|damage| damage.images.contains(&shown(&checked.image)));
        (checked.damaged, checked.repaired) =
            own.fold((0, 0), |(all, well), damage| (all + 1, well + usize::from(damage.repaired)));
    }
}

/// How an image is called in a report.
pub(crate) fn shown(image: &ImageRecord) -> String {
    image.names.first().or(image.digests.first()).cloned().unwrap_or_else(|| image.id.to_string())
}
