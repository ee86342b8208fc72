//! The images of this node in memory: by id, by tag, by digest; and who needs which layer and blob.
//! It answers lists without touching the disk; what it holds is written to the metadata by its caller.

use crate::image::ImageRecord;
use snapshots::{ChainId, Usage};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use types::{Digest, Reference};

/// The shortest beginning of an id that is taken for one.
const PREFIX_MIN: usize = 6;

/// What is known of a committed layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LayerRecord {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl From<Usage> for LayerRecord {
    fn from(usage: Usage) -> Self {
        Self { bytes: usage.bytes, inodes: usage.inodes }
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Index {
    images: BTreeMap<Digest, Arc<ImageRecord>>,
    /// `host/path:tag` and `host/path@digest`, to the image's id.
    names: HashMap<String, Digest>,
    /// The layers that are in place.
    pub layers: HashMap<ChainId, LayerRecord>,
    /// The blobs that are in place, and the bytes that each occupies.
    pub blobs: HashMap<Digest, u64>,
    holds: HashMap<String, Vec<ChainId>>,
    pins: HashMap<u64, Pins>,
    next_pin: u64,
}

/// What a running pull needs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pins {
    pub layers: HashSet<ChainId>,
    pub blobs: HashSet<Digest>,
}

impl Index {
    /// All images, by id.
    pub(crate) fn list(&self) -> Vec<Arc<ImageRecord>> {
        self.images.values().cloned().collect()
    }

    pub(crate) fn by_id(&self, id: &Digest) -> Option<Arc<ImageRecord>> {
        self.images.get(id).cloned()
    }

    /// The image that has exactly this tag or repository digest.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<ImageRecord>> {
        self.names.get(name).and_then(|id| self.by_id(id))
    }

    /// The image that a reference means: with a digest, by it; else by tag.
    pub(crate) fn by_reference(&self, reference: &Reference) -> Option<Arc<ImageRecord>> {
        match reference.digest() {
            Some(digest) => self.by_name(&format!("{}@{digest}", reference.repository())),
            None => reference.tagged().and_then(|name| self.by_name(&name)),
        }
    }

    /// The image that a text of a user means: a whole id, a reference, or the unique beginning of an id, which
    /// without `sha256:` needs [`PREFIX_MIN`] digits: `cafe` is a name, though an id may begin so.
    pub(crate) fn find(&self, text: &str) -> Option<Arc<ImageRecord>> {
        if let Ok(id) = Digest::parse(text)
            && let Some(found) = self.by_id(&id)
        {
            return Some(found);
        }
        if let Ok(reference) = Reference::parse(text)
            && let Some(found) = self.by_reference(&reference)
        {
            return Some(found);
        }
        let (prefix, least) = text.strip_prefix("sha256:").map_or((text, PREFIX_MIN), |prefix| (prefix, 1));
        if prefix.len() < least || prefix.len() > 64 || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let prefix = prefix.to_ascii_lowercase();
        let mut matching = self.images.values().filter(|i| i.id.hex().starts_with(&prefix));
        match (matching.next(), matching.next()) {
            (Some(one), None) => Some(one.clone()),
            _ => None,
        }
    }

    /// The records as they will be once `new` is there: `new` takes its names away from other images, and
    /// keeps what the image of its id had. Nothing is changed yet; [`Index::insert`] takes the result.
    pub(crate) fn planned(&self, mut new: ImageRecord) -> Vec<ImageRecord> {
        let mut changed = Vec::new();
        if let Some(old) = self.images.get(&new.id) {
            merge(&mut new.names, &old.names);
            merge(&mut new.digests, &old.digests);
            merge(&mut new.blobs, &old.blobs);
            new.pinned |= old.pinned;
        }
        for name in &new.names {
            let Some(owner) = self.names.get(name).filter(|owner| **owner != new.id) else { continue };
            let known = changed.iter_mut().find(|r: &&mut ImageRecord| r.id == *owner);
            match known {
                Some(record) => record.names.retain(|n| n != name),
                None => {
                    if let Some(owner) = self.images.get(owner) {
                        let mut record = ImageRecord::clone(owner);
                        record.names.retain(|n| n != name);
                        changed.push(record);
                    }
                }
            }
        }
        changed.push(new);
        changed
    }

    /// Takes records in, replacing those of the same id.
    pub(crate) fn insert(&mut self, records: Vec<ImageRecord>) {
        for record in records {
            let id = record.id.clone();
            self.names.retain(|_, owner| *owner != id);
            for name in record.names.iter().chain(&record.digests) {
                self.names.insert(name.clone(), id.clone());
            }
            self.images.insert(id, Arc::new(record));
        }
    }

    /// Forgets an image with all its names.
    pub(crate) fn remove(&mut self, id: &Digest) {
        self.names.retain(|_, owner| owner != id);
        self.images.remove(id);
    }

    pub(crate) fn hold(&mut self, container: &str, layers: Vec<ChainId>) {
        self.holds.insert(container.to_owned(), layers);
    }

    pub(crate) fn release(&mut self, container: &str) {
        self.holds.remove(container);
    }

    /// Registers a running pull; see [`Index::pins`].
    pub(crate) fn pin(&mut self) -> u64 {
        self.next_pin += 1;
        self.pins.insert(self.next_pin, Pins::default());
        self.next_pin
    }

    /// What the pull `pin` needs; empty where it is over.
    pub(crate) fn pins(&mut self, pin: u64) -> Option<&mut Pins> {
        self.pins.get_mut(&pin)
    }

    pub(crate) fn unpin(&mut self, pin: u64) {
        self.pins.remove(&pin);
    }

    /// Whether somebody needs this layer.
    pub(crate) fn needs_layer(&self, layer: &ChainId) -> bool {
        self.images.values().any(|image| image.chain.contains(layer))
            || self.holds.values().flatten().any(|held| held == layer)
            || self.pins.values().any(|pins| pins.layers.contains(layer))
    }

    /// The layers and blobs that somebody needs.
    pub(crate) fn needed(&self) -> Pins {
        let mut needed = Pins::default();
        for image in self.images.values() {
            needed.layers.extend(image.chain.iter().cloned());
            needed.blobs.extend(image.blobs.iter().cloned());
        }
        needed.layers.extend(self.holds.values().flatten().cloned());
        for pins in self.pins.values() {
            needed.layers.extend(pins.layers.iter().cloned());
            needed.blobs.extend(pins.blobs.iter().cloned());
        }
        needed
    }
}

fn merge<T: Clone + PartialEq>(into: &mut Vec<T>, from: &[T]) {
    for one in from {
        if !into.contains(one) {
            into.push(one.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: &str) -> Digest {
        Digest::parse(&format!("sha256:{}", byte.repeat(32))).expect("digest")
    }

    fn record(id: &str, names: &[&str], digests: &[String]) -> ImageRecord {
        ImageRecord {
            id: digest(id),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            digests: digests.to_vec(),
            manifest: digest("00"),
            config: crate::ImageConfig::default(),
            chain: vec![digest(id)],
            size: 1,
            created: None,
            pulled_at: 0,
            blobs: vec![digest(id)],
            pinned: false,
        }
    }

    fn with(records: &[ImageRecord]) -> Index {
        let mut index = Index::default();
        for record in records {
            let planned = index.planned(record.clone());
            index.insert(planned);
        }
        index
    }

    #[test]
    fn an_image_is_found_by_every_name_it_has() {
        let repo_digest = format!("docker.io/library/a@{}", digest("cd"));
        let index =
            with(&[record("ab", &["docker.io/library/a:latest"], std::slice::from_ref(&repo_digest))]);
        let id = digest("ab");
        for name in [
            "a",
            "a:latest",
            "docker.io/library/a:latest",
            &repo_digest,
            &format!("a@{}", digest("cd")),
            &format!("a:other@{}", digest("cd")),
            id.as_str(),
            id.hex(),
            "ababab",
            "sha256:ab",
            "ABABABA",
        ] {
            assert_eq!(index.find(name).map(|i| i.id.clone()), Some(id.clone()), "{name}");
        }
        for none in ["", "b", "ab", "ababa", "a:1", "sha256:", "zz", "../a", &format!("a@{}", digest("ef"))] {
            assert!(index.find(none).is_none(), "{none}");
        }
    }

    #[test]
    fn an_ambiguous_prefix_finds_nothing() {
        let index = with(&[record("ab", &[], &[]), record("ac", &[], &[])]);
        assert!(index.find("sha256:a").is_none());
        assert!(index.find("sha256:abab").is_some());
    }

    #[test]
    fn a_tag_that_moves_leaves_the_older_image_untagged() {
        let (old, new) = (format!("h.io/a@{}", digest("01")), format!("h.io/a@{}", digest("02")));
        let index = with(&[
            record("ab", &["h.io/a:1", "h.io/a:2"], std::slice::from_ref(&old)),
            record("cd", &["h.io/a:1"], std::slice::from_ref(&new)),
            record("cd", &["h.io/a:2"], &[]),
        ]);
        let older = index.find(&old).expect("by digest");
        assert_eq!((older.id.clone(), older.names.len()), (digest("ab"), 0));
        let newer = index.find("h.io/a:1").expect("by tag");
        assert_eq!((newer.id.clone(), newer.names.len(), newer.digests.len()), (digest("cd"), 2, 1));
    }

    #[test]
    fn images_containers_and_pulls_keep_what_they_need() {
        let mut index = with(&[record("ab", &["h.io/a:1"], &[])]);
        index.hold("c1", vec![digest("11")]);
        let pin = index.pin();
        index.pins(pin).expect("registered").layers.insert(digest("22"));
        index.pins(pin).expect("registered").blobs.insert(digest("33"));
        let needed = index.needed();
        assert_eq!(needed.layers, HashSet::from([digest("ab"), digest("11"), digest("22")]));
        assert_eq!(needed.blobs, HashSet::from([digest("ab"), digest("33")]));
        assert!(["ab", "11", "22"].iter().all(|l| index.needs_layer(&digest(l))));
        assert!(!index.needs_layer(&digest("33")));
        index.remove(&digest("ab"));
        index.release("c1");
        index.unpin(pin);
        assert!(index.needed().layers.is_empty() && index.find("h.io/a:1").is_none());
    }
}
