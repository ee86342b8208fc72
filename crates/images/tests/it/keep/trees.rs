//! What a node has on its disk, against what its images say.

use crate::node::Node;
use corten_images::ImageRecord;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names in a folder.
pub fn names(path: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

/// The folder of a snapshotter that keeps directories.
pub fn snapshots(node: &Node) -> PathBuf {
    node.root.join("snapshots").join(node.snapshotter.name())
}

/// Where the tree of a layer lies.
pub fn layer(node: &Node, chain: &types::Digest) -> PathBuf {
    snapshots(node).join("layers").join(chain.hex()).join("fs")
}

/// Panics unless what is on the disk is what `images`, and the layers `held`, need: nothing more and nothing less.
pub fn exactly(node: &Node, images: &[Arc<ImageRecord>], held: &[types::Digest]) {
    if let Some(what) = differs(node, images, held) {
        panic!("{what}");
    }
}

/// As [`exactly`], within a time.
pub async fn exactly_soon(node: &Node, images: &[Arc<ImageRecord>], held: &[types::Digest]) {
    let started = std::time::Instant::now();
    while let Some(what) = differs(node, images, held) {
        assert!(started.elapsed() < std::time::Duration::from_secs(8), "after 8 s: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// What is on the disk that nothing needs, or what is not there. A compressed layer may be missing where its image was
/// pulled when nothing was kept.
fn differs(node: &Node, images: &[Arc<ImageRecord>], held: &[types::Digest]) -> Option<String> {
    let hex = |digest: &types::Digest| digest.hex().to_owned();
    let mut layers: BTreeSet<String> = images.iter().flat_map(|i| &i.chain).map(hex).collect();
    layers.extend(held.iter().map(hex));
    let there = names(&snapshots(node).join("layers"));
    if there != layers {
        return Some(format!("layers {there:?} in place of {layers:?}"));
    }
    let allowed: BTreeSet<String> = images.iter().flat_map(|i| &i.blobs).map(hex).collect();
    let needed: BTreeSet<String> = images.iter().flat_map(|i| [hex(&i.id), hex(&i.manifest)]).collect();
    let blobs = names(&node.root.join("content/blobs/sha256"));
    if !blobs.is_subset(&allowed) || !needed.is_subset(&blobs) {
        return Some(format!("blobs {blobs:?}, where {needed:?} have to be and {allowed:?} may be"));
    }
    let folders = ["ingest", "trash", "replaced"].map(|folder| snapshots(node).join(folder));
    for folder in folders.into_iter().chain([node.root.join("content/ingest")]) {
        let left = names(&folder);
        if !left.is_empty() {
            return Some(format!("{} has {left:?}", folder.display()));
        }
    }
    None
}

/// Every blob has the content that its name says.
pub fn blobs_are_whole(node: &Node) {
    let folder = node.root.join("content/blobs/sha256");
    for name in names(&folder) {
        let found = crate::image::digest(&std::fs::read(folder.join(&name)).expect("read"));
        assert_eq!(found, format!("sha256:{name}"));
    }
}

/// All files below a folder, each with its content.
pub fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
                all.push((name, std::fs::read(&path).expect("read")));
            }
        }
    }
    all.sort();
    all
}
