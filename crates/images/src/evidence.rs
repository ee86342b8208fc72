//! What the policy was shown of an image, kept with its record: so it can be asked again whenever a container is made,
//! with the policy and the keys of that moment, and without the registry. CRI-O asks at that time, too, for the policies of
//! namespaces (server/container_create.go, `verifyImageSignature`), and has the signatures in its own storage.
//!
//! It fetches nothing. Signatures that nobody fetched are not there: then the image has to be pulled again.

use crate::image::ImageRecord;
use crate::{Images, Inner, blocking};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use trust::{Policy, Rule, SIGNATURES_MAX, Signature};
use types::reference::shorten;
use types::{Digest, Error, Reference, Result};

/// Bytes of all signatures of one image that are kept. One has about 400.
const BYTES_MAX: usize = 128 << 10;
/// Signatures that one pull adds, where they are enough for its rule.
const AT_ONCE_MAX: usize = 8;
/// Documents by which one image is reached.
const DIGESTS_MAX: usize = 64;

/// What vouches for an image. All of it is public, and each part is bound to the image's content by a digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Indexes that list it, and its manifest.
    digests: Vec<Digest>,
    /// Signatures of them.
    signatures: Vec<Signature>,
}

impl Evidence {
    /// Of what a rule accepted. Where not all is kept, what the rule needed is.
    pub(crate) fn of(
        rule: &Rule<'_>,
        reference: &Reference,
        digests: Vec<Digest>,
        mut signatures: Vec<Signature>,
    ) -> Evidence {
        signatures.sort_by_cached_key(|signature| !rule.counts(reference, &digests, signature));
        // What other names of the image need is to have room beside it; what this rule needs comes first.
        if signatures.get(..AT_ONCE_MAX).is_some_and(|few| rule.check(reference, &digests, few).is_ok()) {
            signatures.truncate(AT_ONCE_MAX);
        }
        let mut evidence = Evidence::default();
        if !signatures.is_empty() {
            evidence.add(Evidence { digests, signatures });
        }
        evidence
    }

    /// Puts what is newer before what is known. False where nothing changes.
    pub(crate) fn add(&mut self, newer: Evidence) -> bool {
        let before = self.clone();
        let older = std::mem::replace(self, newer);
        for digest in older.digests {
            if !self.digests.contains(&digest) {
                self.digests.push(digest);
            }
        }
        for signature in older.signatures {
            if !self.signatures.contains(&signature) {
                self.signatures.push(signature);
            }
        }
        self.digests.truncate(DIGESTS_MAX);
        let mut bytes = 0;
        self.signatures.retain(|signature| {
            let more = bytes + signature.payload.len() + signature.signature.len();
            let fits = more <= BYTES_MAX;
            if fits {
                bytes = more;
            }
            fits
        });
        self.signatures.truncate(SIGNATURES_MAX);
        // The same in another order is no reason to write.
        self.digests.len() != before.digests.len()
            || self.signatures.len() != before.signatures.len()
            || self.signatures.iter().any(|signature| !before.signatures.contains(signature))
    }
}

impl Images {
    /// Whether the policy of now lets a container be made from an image that is here, or mount it. `asked` are the names
    /// that it was asked for by, the one that the pod's author wrote first. The first that the image has counts; by an
    /// id alone, an image may be used under any of its names.
    pub async fn permit_use(&self, image: &Arc<ImageRecord>, asked: &[&str]) -> Result<()> {
        if self.0.config.policy.is_none() {
            return Ok(());
        }
        let asked: Vec<String> =
            asked.iter().filter(|name| !name.is_empty()).map(|name| self.known_name(name)).collect();
        let (inner, image) = (self.0.clone(), image.clone());
        blocking(move || permit(&inner, &image, &asked)).await
    }
}

fn permit(inner: &Inner, image: &ImageRecord, asked: &[String]) -> Result<()> {
    let Some(path) = &inner.config.policy else { return Ok(()) };
    let policy = Policy::read(path)?;
    let parsed = |names: &[String]| names.iter().filter_map(|n| Reference::parse(n).ok()).collect::<Vec<_>>();
    let has = |name: &Reference| match name.digest() {
        Some(digest) => image.digests.contains(&format!("{}@{digest}", name.repository())),
        None => name.tagged().is_some_and(|tagged| image.names.contains(&tagged)),
    };
    let names = match parsed(asked).into_iter().find(has) {
        Some(name) => vec![name],
        None => [parsed(&image.names), parsed(&image.digests)].concat(),
    };
    let mut refused = None;
    for name in &names {
        match judge(&policy, image, name) {
            Ok(()) => return Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        Error::precondition(format!(
            "an image policy is configured, which goes by names, and the image {} has none: pull it, or import it with a name",
            shorten(image.id.as_str())
        ))
    }))
}

fn judge(policy: &Policy, image: &ImageRecord, name: &Reference) -> Result<()> {
    let rule = policy.rule(name);
    if !rule.needs_signatures() {
        return rule.check(name, &[], &[]);
    }
    let Evidence { digests, signatures } = &image.evidence;
    rule.check(name, digests, signatures).map_err(|error| {
        error.context("the image is here, and the policy of now asks for signatures; pull it again to have them fetched")
    })
}

impl Inner {
    /// Keeps what a later pull was shown for an image that is recorded. Blocks.
    pub(crate) fn add_evidence(&self, id: &Digest, evidence: Evidence) -> Result<()> {
        let one_at_a_time = self.recording.lock().unwrap_or_else(|e| e.into_inner());
        let Some(known) = self.index().by_id(id) else { return Ok(()) };
        let mut record = ImageRecord::clone(&known);
        if !record.evidence.add(evidence) {
            return Ok(());
        }
        self.write(&one_at_a_time, record, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(byte: u8, sizes: &[usize]) -> Evidence {
        let signatures = sizes.iter().enumerate().map(|(n, size)| Signature {
            payload: vec![byte; *size],
            signature: vec![byte, u8::try_from(n).expect("few")],
        });
        Evidence { digests: vec![Digest::sha256(&[byte; 32])], signatures: signatures.collect() }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_is_kept_first() {
        let mut known = evidence(1, &[100]);
        assert!(!known.add(evidence(1, &[100])) && !known.add(Evidence::default()), "nothing new");
        assert!(known.add(evidence(2, &[100])));
        assert_eq!((known.digests.len(), known.signatures.len()), (2, 2));
        assert_eq!(known.signatures[0].payload[0], 2);
        assert!(known.add(evidence(3, &[BYTES_MAX - 2])));
        assert_eq!((known.digests.len(), known.signatures.len()), (3, 1));
        let text = serde_json::to_string(&evidence(7, &[3])).expect("written");
        assert!(text.contains("BwcH"), "{text}");
        assert_eq!(serde_json::from_str::<Evidence>(&text).expect("read"), evidence(7, &[3]));
    }
}
