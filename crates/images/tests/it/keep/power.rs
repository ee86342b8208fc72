//! Power cuts: the disk of a working node, as it was at any moment, is mounted again; every recorded image is whole, and
//! everything else is collected.
//!
//! The disk is a file in a btrfs, which is cloned while the node writes to it: a clone holds what had reached the disk, and
//! nothing of what was still in memory. Mounting it replays the journal, as after a cut. Writes that the node's file system
//! has sent reach the file in their order; `order` has disks that lose them out of order.

use super::disk::{Loop, Mount, can, make};
use super::killed::{Dice, chain};
use super::trees::{blobs_are_whole, exactly, files, layer as tree};
use crate::image::{Image, layer, noise};
use crate::node::{Node, Settings};
use crate::server::{Server, Shelf};
use crate::transfer::{Archive, incoming};
use corten_images::ImageRecord;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const IMAGES: usize = 5;

/// One thing that was done with an image.
#[derive(Debug, Clone)]
struct Deed {
    image: usize,
    pull: bool,
    begin: Instant,
    end: Option<Instant>,
}

/// The disk at one moment.
#[derive(Debug)]
struct Cut {
    file: PathBuf,
    begin: Instant,
    end: Instant,
}

pub struct Gallery {
    pub images: Vec<Image>,
    /// Content of each layer.
    layers: BTreeMap<String, Vec<(String, Vec<u8>)>>,
}

impl Gallery {
    pub fn new() -> Gallery {
        let mut layers = BTreeMap::new();
        let pack = |files: Vec<(String, Vec<u8>)>| {
            let parts: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
            (layer(&parts), files)
        };
        // More files than are synced one by one, and fewer.
        let many = (0..300).map(|n| (format!("many/{n:03}"), noise(700, n + 1))).collect();
        let (many, many_files) = pack(many);
        let (base, base_files) =
            pack(vec![("base".into(), noise(400_000, 11)), ("sub/x".into(), b"x".to_vec())]);
        let mut images = Vec::new();
        for n in 0..IMAGES {
            let (own, own_files) = pack(vec![(format!("own{n}"), noise(60_000, 100 + n as u64))]);
            let (below, below_files) = if n % 2 == 0 { (&many, &many_files) } else { (&base, &base_files) };
            let image = Image::new(&format!("app{n}"), &[below.clone(), own]);
            for (chain, files) in chain(&image).iter().zip([below_files, &own_files]) {
                let mut files = files.clone();
                files.sort();
                layers.insert(chain.to_string(), files);
            }
            images.push(image);
        }
        Gallery { images, layers }
    }

    pub async fn serve(&self) -> Server {
        let shelf = self.images.iter().enumerate();
        Server::start(shelf.fold(Shelf::default(), |s, (n, i)| s.with(&format!("v{n}"), i)), |_| None).await
    }

    /// Which of the images it is.
    pub fn position(&self, image: &ImageRecord) -> usize {
        self.images.iter().position(|own| own.id() == image.id.as_str()).expect("an image of ours")
    }
}

/// Pulls, imports and removes, two at a time on different images, until it is over.
async fn work(
    gallery: &Gallery,
    node: &Node,
    server: &Server,
    deeds: &Arc<Mutex<Vec<Deed>>>,
    over: &Arc<AtomicBool>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..2 {
        let (images, deeds, over) = (node.images.clone(), deeds.clone(), over.clone());
        let archives: Vec<Vec<u8>> = gallery
            .images
            .iter()
            .enumerate()
            .map(|(n, image)| Archive::of(image, &server.name(&format!("app:v{n}")).to_string()).bytes())
            .collect();
        let names: Vec<_> = (0..IMAGES).map(|n| server.name(&format!("app:v{n}"))).collect();
        tasks.spawn(async move {
            let mut dice = Dice(1234 + task as u64);
            while !over.load(Ordering::Relaxed) {
                let image = dice.roll(IMAGES / 2) * 2 + task;
                let pull = dice.roll(3) > 0;
                let at = {
                    let mut deeds = deeds.lock().expect("deeds");
                    deeds.push(Deed { image, pull, begin: Instant::now(), end: None });
                    deeds.len() - 1
                };
                if pull && dice.roll(4) == 0 {
                    let options = corten_images::ImportOptions::default();
                    images.import(incoming(&archives[image]), options, None).await.expect("import");
                } else if pull {
                    images.pull(&names[image], None, None).await.expect("pull");
                } else {
                    images.remove(&names[image].to_string()).await.expect("remove");
                }
                deeds.lock().expect("deeds")[at].end = Some(Instant::now());
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("worker");
    }
}

/// Whether an image may be recorded in a cut, by what was done until then.
fn possible(deeds: &[Deed], image: usize, cut: &Cut) -> bool {
    let own = || deeds.iter().filter(|deed| deed.image == image && deed.begin <= cut.end);
    let removed =
        own().filter(|d| !d.pull && d.end.is_some_and(|end| end < cut.begin)).map(|d| d.end).max().flatten();
    own().any(|deed| deed.pull && removed.is_none_or(|removed| deed.begin > removed))
}

/// Panics unless all layers of an image have the content that they should.
pub fn layers_are_whole(gallery: &Gallery, node: &Node, image: &ImageRecord) {
    for chain in &image.chain {
        let whole = files(&tree(node, chain)) == gallery.layers[chain.as_str()];
        assert!(whole, "layer {chain} of image {} is not whole", gallery.position(image));
    }
}

/// Compares what a node has after a cut with what its images are. Which are recorded.
pub async fn inspect(gallery: &Gallery, node: &Node) -> Vec<usize> {
    let list = node.images.list();
    list.iter().for_each(|image| layers_are_whole(gallery, node, image));
    node.images.collect().await.expect("collect");
    exactly(node, &list, &[]);
    blobs_are_whole(node);
    let report = node.images.check(&[], false, None, None).await.expect("check");
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    list.iter().map(|image| gallery.position(image)).collect()
}

/// Mounts a cut, opens the node in it, and compares.
async fn look(
    gallery: &Gallery,
    deeds: &[Deed],
    cut: &Cut,
    kind: &str,
    at: &Path,
    settings: &Settings,
) -> usize {
    let device = Loop::new(&cut.file);
    // Two file systems of one UUID: xfs asks for it to be meant (xfs(5), nouuid).
    let mount = Mount::new(device.device(), kind, if kind == "xfs" { "nouuid" } else { "" }, at);
    let node = Node::open_after_reboot(mount.path().join("store"), settings.clone());
    let found = inspect(gallery, &node).await;
    for known in &found {
        assert!(possible(deeds, *known, cut), "image {known} was removed before the cut, or never pulled");
    }
    found.len()
}

async fn cut_anywhere(kind: &'static str, cuts: usize) {
    if !can(&format!("power cuts on {kind}"), &["mkfs.btrfs", &format!("mkfs.{kind}"), "losetup"]) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("images-keep-power-").tempdir_in("/dev/shm").expect("dir");
    let below = dir.path().join("btrfs");
    File::create(&below).and_then(|f| f.set_len(3 << 30)).expect("file");
    let below_device = Loop::new(&below);
    make("btrfs", below_device.device());
    let clones = Mount::new(below_device.device(), "btrfs", "nobarrier,noatime", &dir.path().join("clones"));
    let gallery = Gallery::new();
    let server = gallery.serve().await;
    let settings = Settings { collect_after: Duration::from_millis(30), ..Settings::default() };
    let (mut left, mut seen, mut images) = (cuts, 0, 0);
    while left > 0 {
        let batch = left.min(150);
        left -= batch;
        let disk = clones.path().join("disk");
        File::create(&disk).and_then(|f| f.set_len(320 << 20)).expect("disk");
        let device = Loop::new(&disk);
        make(kind, device.device());
        let mount = Mount::new(device.device(), kind, "", &dir.path().join("store"));
        let deeds: Arc<Mutex<Vec<Deed>>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let node = Node::open(mount.path().join("store"), settings.clone(), None);
        node.images.collect().await.expect("first");
        let cutter = {
            let (disk, folder, over) = (disk.clone(), clones.path().to_owned(), over.clone());
            std::thread::spawn(move || {
                let mut dice = Dice(4321 + batch as u64);
                let from = File::open(&disk).expect("disk");
                let mut cuts = Vec::new();
                while cuts.len() < batch {
                    std::thread::sleep(Duration::from_micros(dice.roll(25_000) as u64));
                    let file = folder.join(format!("cut{}", cuts.len()));
                    let to = File::create(&file).expect("cut");
                    let begin = Instant::now();
                    rustix::fs::ioctl_ficlone(&to, &from).expect("clone");
                    cuts.push(Cut { file, begin, end: Instant::now() });
                }
                over.store(true, Ordering::Relaxed);
                cuts
            })
        };
        work(&gallery, &node, &server, &deeds, &over).await;
        let mut cuts = cutter.join().expect("cutter");
        // A while later the disk has all that is recorded.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let file = clones.path().join("last");
        let begin = Instant::now();
        rustix::fs::ioctl_ficlone(File::create(&file).expect("cut"), File::open(&disk).expect("disk"))
            .expect("clone");
        cuts.push(Cut { file, begin, end: Instant::now() });
        let recorded = node.images.list().len();
        drop(node);
        let deeds = deeds.lock().expect("deeds").clone();
        let done = deeds.iter().filter(|deed| deed.end.is_some()).count();
        assert!(done > batch / 10, "only {done} pulls and removals while the disk was cut {batch} times");
        drop((mount, device));
        let at = dir.path().join("after");
        for cut in &cuts {
            let found = look(&gallery, &deeds, cut, kind, &at, &settings).await;
            if cut.file.ends_with("last") {
                assert_eq!(found, recorded, "an image was lost though the disk had time");
            }
            images += found;
            seen += 1;
            std::fs::remove_file(&cut.file).expect("remove");
        }
        std::fs::remove_file(&disk).expect("remove");
    }
    assert!(images > seen / 4, "{images} recorded images in {seen} cuts: hardly anything was tested");
    eprintln!("{kind}: {seen} cuts, {images} recorded images, all whole");
}

/// `CORTEN_TEST_CUTS` asks for more.
pub fn wanted(usual: usize) -> usize {
    std::env::var("CORTEN_TEST_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_moment_leaves_every_recorded_image_whole_ext4() {
    cut_anywhere("ext4", wanted(70)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_moment_leaves_every_recorded_image_whole_xfs() {
    cut_anywhere("xfs", wanted(40)).await;
}
