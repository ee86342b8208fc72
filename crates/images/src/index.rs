//! The images of this node in memory: by id, by tag, by digest; and who needs which layer and blob.
//! It answers lists without touching the disk; what it holds is written to the metadata by its caller.

use crate::image::ImageRecord;
use crate::pinned::Pinned;
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
    /// A check found that it is not what its archive makes; nobody is to build on it.
    #[serde(default)]
    pub damaged: bool,
    /// All that it is, in one number; see [`crate::fingerprints`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<[u8; 32]>,
}

impl From<Usage> for LayerRecord {
    fn from(usage: Usage) -> Self {
        Self { bytes: usage.bytes, inodes: usage.inodes, ..Self::default() }
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
    /// What the next removal is allowed to do depends on these three.
    holds: HashMap<String, Hold>,
    leases: HashMap<u64, Needed>,
    removing: Needed,
    next_lease: u64,
    pinned: Pinned,
}

/// What a container holds.
#[derive(Debug)]
struct Hold {
    /// Known where the image was recorded when it took hold.
    image: Option<Digest>,
    layers: Vec<ChainId>,
}

/// Layers and blobs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Needed {
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
            let newer = std::mem::replace(&mut new.evidence, old.evidence.clone());
            new.evidence.add(newer);
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
        for mut record in records {
            // What the configuration says now counts, not what it said when the image was recorded.
            record.pinned = self.pinned.has(&record);
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

    /// Says which images are pinned, of those that are known and of those to come.
    pub(crate) fn pin(&mut self, pinned: Pinned) {
        self.pinned = pinned;
        let all: Vec<ImageRecord> = self.images.values().map(|image| ImageRecord::clone(image)).collect();
        self.insert(all);
    }

    /// What a container is made from. Where only the layers are known, every image of the same layers counts as used.
    pub(crate) fn hold(&mut self, container: &str, image: Option<Digest>, layers: Vec<ChainId>) {
        self.holds.insert(container.to_owned(), Hold { image, layers });
    }

    /// Whether a container was made from this image.
    fn in_use(&self, image: &ImageRecord) -> bool {
        self.holds.values().any(|hold| match &hold.image {
            Some(id) => *id == image.id,
            None => hold.layers == image.chain,
        })
    }

    /// The images that no container uses and that are not pinned.
    pub(crate) fn unused(&self) -> Vec<Arc<ImageRecord>> {
        self.images.values().filter(|image| !image.pinned && !self.in_use(image)).cloned().collect()
    }

    /// Forgets an image, unless it is used, pinned or gone.
    pub(crate) fn remove_unused(&mut self, id: &Digest) -> bool {
        let unused = self.images.get(id).is_some_and(|image| !image.pinned && !self.in_use(image));
        if unused {
            self.remove(id);
        }
        unused
    }

    /// The containers that hold a layer.
    pub(crate) fn holders(&self, layer: &ChainId) -> Vec<String> {
        let holds = self.holds.iter().filter(|(_, hold)| hold.layers.contains(layer));
        // A volume's hold is named after its container, with a number behind a slash.
        let mut all: Vec<String> =
            holds.map(|(of, _)| of.split('/').next().unwrap_or(of).to_owned()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether a container holds something.
    pub(crate) fn holds(&self, container: &str) -> bool {
        self.holds.contains_key(container)
    }

    /// False where the container held nothing.
    pub(crate) fn release(&mut self, container: &str) -> bool {
        let volumes = format!("{container}/");
        let before = self.holds.len();
        self.holds.retain(|of, _| of != container && !of.starts_with(&volumes));
        self.holds.len() < before
    }

    /// Registers running work; see [`crate::lease::Lease`].
    pub(crate) fn open_lease(&mut self) -> u64 {
        self.next_lease += 1;
        self.leases.insert(self.next_lease, Needed::default());
        self.next_lease
    }

    /// Adds to what the lease `id` keeps.
    pub(crate) fn extend_lease(
        &mut self,
        id: u64,
        layers: impl IntoIterator<Item = ChainId>,
        blobs: impl IntoIterator<Item = Digest>,
    ) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.layers.extend(layers);
            lease.blobs.extend(blobs);
        }
    }

    pub(crate) fn close_lease(&mut self, id: u64) {
        self.leases.remove(&id);
    }

    /// Whether something that the lease `id` keeps is being removed at this moment.
    pub(crate) fn lease_meets_removal(&self, id: u64) -> bool {
        self.leases.get(&id).is_some_and(|lease| {
            !lease.layers.is_disjoint(&self.removing.layers) || !lease.blobs.is_disjoint(&self.removing.blobs)
        })
    }

    /// Says that a layer is removed from now on, unless somebody needs it.
    pub(crate) fn condemn_layer(&mut self, layer: &ChainId) -> bool {
        let free = !self.needs_layer(layer);
        if free {
            self.removing.layers.insert(layer.clone());
        }
        free
    }

    /// Says that a blob is removed from now on, unless somebody needs it.
    pub(crate) fn condemn_blob(&mut self, blob: &Digest) -> bool {
        let free = !self.needs_blob(blob);
        if free {
            self.removing.blobs.insert(blob.clone());
        }
        free
    }

    /// The removal of a layer is over; where it succeeded, it is not there any more.
    pub(crate) fn layer_removed(&mut self, layer: &ChainId, gone: bool) {
        self.removing.layers.remove(layer);
        if gone {
            self.layers.remove(layer);
        }
    }

    /// The removal of a blob is over; where it succeeded, it is not there any more.
    pub(crate) fn blob_removed(&mut self, blob: &Digest, gone: bool) {
        self.removing.blobs.remove(blob);
        if gone {
            self.blobs.remove(blob);
        }
    }

    /// Whether somebody needs this layer.
    pub(crate) fn needs_layer(&self, layer: &ChainId) -> bool {
        self.images.values().any(|image| image.chain.contains(layer))
            || self.holds.values().any(|hold| hold.layers.contains(layer))
            || self.leases.values().any(|lease| lease.layers.contains(layer))
    }

    /// Whether somebody needs this blob.
    pub(crate) fn needs_blob(&self, blob: &Digest) -> bool {
        self.images.values().any(|image| image.blobs.contains(blob))
            || self.leases.values().any(|lease| lease.blobs.contains(blob))
    }

    /// The layers and blobs that somebody needs.
    pub(crate) fn needed(&self) -> Needed {
        let mut needed = Needed::default();
        for image in self.images.values() {
            needed.layers.extend(image.chain.iter().cloned());
            needed.blobs.extend(image.blobs.iter().cloned());
        }
        needed.layers.extend(self.holds.values().flat_map(|hold| &hold.layers).cloned());
        for lease in self.leases.values() {
            needed.layers.extend(lease.layers.iter().cloned());
            needed.blobs.extend(lease.blobs.iter().cloned());
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
            evidence: Default::default(),
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
    fn images_containers_and_leases_keep_what_they_need() {
        let mut index = with(&[record("ab", &["h.io/a:1"], &[])]);
        index.hold("c1", None, vec![digest("11")]);
        let lease = index.open_lease();
        index.extend_lease(lease, [digest("22")], [digest("33")]);
        let needed = index.needed();
        assert_eq!(needed.layers, HashSet::from([digest("ab"), digest("11"), digest("22")]));
        assert_eq!(needed.blobs, HashSet::from([digest("ab"), digest("33")]));
        assert!(["ab", "11", "22"].iter().all(|l| index.needs_layer(&digest(l))));
        assert!(!index.needs_layer(&digest("33")));
        assert!(index.needs_blob(&digest("33")) && !index.needs_blob(&digest("22")));
        index.remove(&digest("ab"));
        assert!(index.release("c1") && !index.release("c1"));
        index.hold("c2/0", None, vec![digest("44")]);
        assert!(index.release("c2") && !index.needs_layer(&digest("44")), "a volume alone is held, too");
        index.close_lease(lease);
        assert!(index.needed().layers.is_empty() && index.find("h.io/a:1").is_none());
    }

    #[test]
    fn an_image_is_unused_when_no_container_was_made_from_it_and_it_is_not_pinned() {
        let mut index = with(&[
            record("ab", &["h.io/a:1"], &[]),
            record("cd", &["h.io/b:1"], &[]),
            record("ef", &[], &[]),
        ]);
        let unused = |index: &Index| index.unused().iter().map(|i| i.id.clone()).collect::<Vec<_>>();
        assert_eq!(unused(&index).len(), 3);
        index.hold("c1", Some(digest("ab")), vec![digest("ab")]);
        index.hold("c2", None, vec![digest("ef")]);
        assert_eq!(unused(&index), [digest("cd")]);
        index.pin(Pinned::parse(&["h.io/b*"]).expect("pattern"));
        assert!(unused(&index).is_empty() && index.by_id(&digest("cd")).expect("there").pinned);
        assert!(!index.remove_unused(&digest("cd")) && !index.remove_unused(&digest("ab")));
        index.release("c2");
        assert!(index.remove_unused(&digest("ef")) && !index.remove_unused(&digest("ef")));
        index.pin(Pinned::default());
        assert_eq!(unused(&index), [digest("cd")]);
        assert_eq!(index.holders(&digest("ab")), ["c1"]);
    }

    #[test]
    fn what_is_being_removed_is_known_to_a_lease_until_it_is_gone() {
        let mut index = with(&[record("ab", &["h.io/a:1"], &[])]);
        assert!(!index.condemn_layer(&digest("ab")), "an image has it");
        assert!(index.condemn_layer(&digest("11")) && index.condemn_blob(&digest("22")));
        let lease = index.open_lease();
        index.extend_lease(lease, [digest("11")], [digest("22")]);
        assert!(index.lease_meets_removal(lease));
        index.layer_removed(&digest("11"), true);
        assert!(index.lease_meets_removal(lease));
        index.blob_removed(&digest("22"), false);
        assert!(!index.lease_meets_removal(lease));
        assert!(!index.condemn_layer(&digest("11")) && !index.condemn_blob(&digest("22")), "leased");
    }
}
