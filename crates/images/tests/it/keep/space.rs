//! What is said of space, against du; and the space that stays free.

use super::disk::{Disk, Place, can};
use super::trees::{exactly, exactly_soon, names};
use crate::image::{Image, layer, noise};
use crate::node::{Node, Settings};
use crate::server::{Server, Shelf};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Bytes and inodes of some files and folders together, a file with several names once.
fn du(paths: &[PathBuf]) -> (u64, u64) {
    let ask = |flags: &[&str]| {
        let out = Command::new("du").args(flags).arg("-c").args(paths).output().expect("du");
        let text = String::from_utf8(out.stdout).expect("text");
        let total = text.lines().last().expect("total").split_whitespace().next().expect("number");
        total.parse::<u64>().expect("number")
    };
    (ask(&["-s", "--block-size=1"]), ask(&["-s", "--inodes"]))
}

/// Everything of the snapshotter but the containers' folder, and that folder.
fn parts(root: &Path, snapshotter: &str) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folder = root.join("snapshots").join(snapshotter);
    let mut images = vec![root.join("content"), root.join("meta.redb")];
    images
        .extend(names(&folder).into_iter().filter(|name| name != "containers").map(|name| folder.join(name)));
    (images, vec![folder.join("containers")])
}

async fn agrees(node: &Node, when: &str) {
    // An answer is given again for twenty times what it took to find.
    tokio::time::sleep(Duration::from_millis(150)).await;
    rustix::fs::sync();
    let (images, containers) = parts(&node.root, node.snapshotter.name());
    let info = node.images.fs_info().await.expect("info");
    let own =
        fs::symlink_metadata(node.root.join("snapshots").join(node.snapshotter.name())).expect("folder");
    let (bytes, inodes) = du(&images);
    // du was not given the folder that holds them all: its containers are not counted there.
    let expected = (bytes + std::os::unix::fs::MetadataExt::blocks(&own) * 512, inodes + 1);
    assert_eq!((info.images.bytes, info.images.inodes), expected, "images, {when}");
    assert_eq!((info.containers.bytes, info.containers.inodes), du(&containers), "containers, {when}");
}

async fn follows_du(snapshotter: &'static str) {
    let base = layer(&[("base", &noise(3 << 20, 31)), ("small", b"x"), ("d/e/f", b"deep")]);
    let images: Vec<Image> = (0_u64..4)
        .map(|n| {
            Image::new(
                &format!("app{n}"),
                &[base.clone(), layer(&[("own", &noise(50_000 + n as usize, n + 5))])],
            )
        })
        .collect();
    let shelf = images.iter().enumerate().fold(Shelf::default(), |s, (n, i)| s.with(&format!("v{n}"), i));
    let server = Server::start(shelf, |_| None).await;
    let place = Place::new("du");
    let node = Node::open(place.root().join("store"), Settings { snapshotter, ..Settings::default() }, None);
    agrees(&node, "empty").await;
    let mut state = 0x1234_5678_9abc_def1_u64;
    for step in 0..10 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let n = (state >> 8) % 4;
        let container = format!("c{n}");
        match state % 4 {
            0 | 1 => {
                drop(node.images.pull(&server.name(&format!("app:v{n}")), None, None).await.expect("pull"))
            }
            2 => match node.images.hold_image(&container, &images[n as usize].id()) {
                Some(image) => {
                    node.snapshotter.prepare(&container, &node.images.layers(&image)).expect("prepare");
                    let fs = node
                        .root
                        .join("snapshots")
                        .join(snapshotter)
                        .join("containers")
                        .join(&container)
                        .join("fs");
                    fs::write(fs.join("written"), noise(200_000, state)).expect("write");
                    fs::hard_link(fs.join("written"), fs.join(format!("again{step}"))).expect("link");
                    let sparse = fs::File::create(fs.join("sparse")).expect("create");
                    sparse.set_len(1 << 30).expect("length");
                    sparse.write_all_at(b"end", 1 << 20).expect("write");
                }
                None => node.images.remove(&images[n as usize].id()).await.expect("of what is not there"),
            },
            _ => {
                node.images.remove(&images[n as usize].id()).await.expect("remove");
                node.snapshotter.remove(&container).expect("remove");
                node.images.release(&container);
                node.images.collect().await.expect("collect");
            }
        }
        agrees(&node, &format!("step {step} of {snapshotter}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_what_du_counts_after_any_operations_overlayfs() {
    follows_du("overlayfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_what_du_counts_after_any_operations_native() {
    follows_du("native").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discarding_keeps_no_compressed_layer_on_the_disk() {
    let layers = [layer(&[("a", &noise(300_000, 3))]), layer(&[("b", &noise(300_000, 4))])];
    let image = Image::new("app", &layers);
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    for snapshotter in ["overlayfs", "native"] {
        let node = Node::with(Settings { snapshotter, discard: true, ..Settings::default() });
        let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
        let blobs: Vec<String> = node.content("blobs/sha256");
        assert_eq!(blobs.len(), 2, "manifest and configuration alone");
        assert!(layers.iter().all(|(blob, _)| !blobs.contains(&crate::image::digest(blob)[7..].to_owned())));
        assert!(du(&[node.root.join("content")]).0 < 100_000);
        node.images.collect().await.expect("collect");
        exactly(&node, &node.images.list(), &record.chain);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_would_take_the_last_space_is_refused_and_leaves_nothing() {
    if !can("space that stays free", &["mkfs.ext4", "losetup"]) {
        return;
    }
    let disk = Disk::new("space", 96 << 20, "ext4");
    let big = layer(&[("big", &noise(40 << 20, 77))]);
    let zeros = layer(&[("zeros", &vec![0; 60 << 20])]);
    let small = Image::small("small");
    let shelf = Shelf::default()
        .with("big", &Image::new("big", &[big]))
        .with("bomb", &Image::new("bomb", &[zeros]))
        .with("small", &small);
    let server = Server::start(shelf, |_| None).await;
    let settings =
        Settings { min_free: 40 << 20, collect_after: Duration::from_millis(300), ..Settings::default() };
    let node = Node::open(disk.root().join("store"), settings, None);
    node.images.collect().await.expect("first");
    let record = node.images.pull(&server.name("app:small"), None, None).await.expect("small");
    for tag in ["big", "bomb"] {
        let error = node.images.pull(&server.name(&format!("app:{tag}")), None, None).await.expect_err(tag);
        assert_eq!(error.kind(), types::ErrorKind::ResourceExhausted, "{tag}: {}", error.chain());
        assert!(error.chain().contains("images.min_free"), "{}", error.chain());
        let free = rustix::fs::statvfs(disk.root()).expect("free");
        assert!(free.f_bavail * free.f_frsize > 25 << 20, "{tag} took the space that was to stay free");
        exactly_soon(&node, &node.images.list(), &record.chain).await;
    }
    assert_eq!(node.file(&record, "small").as_deref(), Some("small"));
}
