//! The labels by which a lazy snapshotter knows which layer of which image it shall get by itself. Pure.

use snapshots::RemoteLayer;
use std::collections::HashMap;

/// Where the committed snapshot is to be found, once it is there: the sign of a lazy prepare (containerd,
/// docs/remote-snapshotter.md).
pub const TARGET: &str = "containerd.io/snapshot.ref";
/// containerd's collector leaves what has it (containerd, docs/garbage-collection.md).
pub const ROOT: &str = "containerd.io/gc.root";
/// Annotations of layers that become labels (containerd, snapshots/snapshotter.go).
const INHERITED: &str = "containerd.io/snapshot/";
/// The most of them.
const INHERITED_MAX: usize = 32;
/// The longest label, key and value together (containerd, labels/validate.go).
const LABEL_MAX: usize = 4096;

/// Labels of everything that is ours.
pub fn own() -> HashMap<String, String> {
    HashMap::from([(ROOT.to_owned(), "corten".to_owned())])
}

/// Labels that ask for a layer: stargz's own names, and those of containerd's CRI, which SOCI and nydus read.
pub fn of(layer: &RemoteLayer<'_>, target: String) -> HashMap<String, String> {
    let mut labels = own();
    let digest = layer.digest.to_string();
    let (manifest, size) = (layer.manifest.to_string(), layer.size.to_string());
    let mut put = |key: &str, value: String| {
        labels.insert(key.to_owned(), value);
    };
    put(TARGET, target);
    put("containerd.io/snapshot/remote/stargz.reference", layer.reference.to_owned());
    put("containerd.io/snapshot/remote/stargz.digest", digest.clone());
    put("containerd.io/snapshot/remote/stargz.size", size.clone());
    let key = "containerd.io/snapshot/remote/stargz.layers";
    put(key, list(layer, LABEL_MAX - key.len()));
    put("containerd.io/snapshot/cri.image-ref", layer.reference.to_owned());
    put("containerd.io/snapshot/cri.layer-digest", digest);
    put("containerd.io/snapshot/cri.layer-size", size);
    put("containerd.io/snapshot/cri.manifest-digest", manifest);
    let key = "containerd.io/snapshot/cri.image-layers";
    put(key, list(layer, LABEL_MAX - key.len()));
    // What the image's author wrote for snapshotters, such as the digest of stargz's table of contents. It takes nothing of
    // the above away.
    let inherited = layer
        .annotations
        .iter()
        .filter(|(key, value)| key.starts_with(INHERITED) && key.len() + value.len() <= LABEL_MAX);
    for (key, value) in inherited.take(INHERITED_MAX) {
        labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    labels
}

/// As many of the layers above as fit.
fn list(layer: &RemoteLayer<'_>, room: usize) -> String {
    let mut text = String::new();
    for digest in layer.above {
        if text.len() + 1 + digest.as_str().len() > room {
            break;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(digest.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Digest;

    #[test]
    fn labels_name_the_layer_and_no_label_is_too_long() {
        let digests: Vec<Digest> = (0..200_u8).map(|n| Digest::sha256(&[n; 32])).collect();
        let layer = RemoteLayer {
            chain: &digests[0],
            parent: None,
            reference: "h.io/a:1",
            digest: &digests[0],
            size: 7,
            above: &digests,
            manifest: &digests[1],
            annotations: &[
                ("containerd.io/snapshot/stargz/toc.digest".to_owned(), "sha256:x".to_owned()),
                ("containerd.io/snapshot/cri.image-ref".to_owned(), "other.io/b:1".to_owned()),
                ("containerd.io/gc.root".to_owned(), "x".to_owned()),
            ]
            .into(),
        };
        let labels = of(&layer, "target".into());
        assert_eq!(labels[TARGET], "target");
        assert_eq!(labels["containerd.io/snapshot/stargz/toc.digest"], "sha256:x");
        assert_eq!(
            (&*labels["containerd.io/snapshot/cri.image-ref"], &*labels[ROOT]),
            ("h.io/a:1", "corten")
        );
        assert_eq!(labels["containerd.io/snapshot/cri.layer-digest"], digests[0].as_str());
        assert!(labels.iter().all(|(key, value)| key.len() + value.len() <= LABEL_MAX));
        let listed = &labels["containerd.io/snapshot/remote/stargz.layers"];
        assert!(listed.starts_with(digests[0].as_str()) && !listed.ends_with(','), "{listed}");
    }
}
