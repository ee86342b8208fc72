//! Power cuts of a disk that keeps what it is sent in an order of its own: every recorded image is whole, what is not
//! recorded is collected, and the node works again.
//!
//! Each disk is one that the cut may leave: whatever a flush had followed is there, and of the rest any part. `power` cuts
//! the writes in their order, at moments that nobody chose; this one loses them, at moments between any two.

use super::disk::{can, make};
use super::killed::Dice;
use super::power::{Gallery, IMAGES, inspect, layers_are_whole, wanted};
use super::recording::{Clock, Recording};
use crate::node::{Node, Settings};
use crate::transfer::{Archive, incoming};
use corten_images::{Images, ImportOptions};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use store::meta::Table;
use types::Reference;

/// Rounds of work; each has some pulls and removals in it.
const ROUNDS: usize = 8;

/// One thing that was done with an image, between two moments of the disk.
#[derive(Debug, Clone)]
struct Deed {
    image: usize,
    pull: bool,
    begin: u64,
    end: Option<u64>,
}

#[derive(Debug, Default)]
struct History {
    deeds: Vec<Deed>,
    /// The images of which nothing waited for the disk any more at a moment.
    settled: Vec<(u64, Vec<usize>)>,
}

impl History {
    /// Whether an image may be recorded on a disk that was cut then.
    fn may_be_there(&self, image: usize, cut: u64) -> bool {
        let own = || self.deeds.iter().filter(|deed| deed.image == image && deed.begin <= cut);
        let removed =
            own().filter(|deed| !deed.pull).filter_map(|deed| deed.end).filter(|end| *end <= cut).max();
        own().any(|deed| deed.pull && removed.is_none_or(|removed| deed.begin >= removed))
    }

    /// Whether it has to be.
    fn has_to_be_there(&self, image: usize, cut: u64) -> bool {
        let mut before = self.settled.iter().rev().filter(|(at, _)| *at <= cut);
        before.next().is_some_and(|(at, images)| {
            let mut own = self.deeds.iter().filter(|deed| deed.image == image && !deed.pull);
            images.contains(&image) && !own.any(|deed| deed.begin >= *at && deed.begin <= cut)
        })
    }
}

/// Does things with images, and remembers them.
struct Player {
    names: Vec<Reference>,
    archives: Vec<Vec<u8>>,
    clock: Clock,
    history: Mutex<History>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Pull,
    Import,
    Remove,
}

impl Player {
    async fn act(&self, images: &Images, image: usize, act: Act) {
        let at = {
            let mut history = self.history.lock().expect("history");
            history.deeds.push(Deed { image, pull: act != Act::Remove, begin: self.clock.now(), end: None });
            history.deeds.len() - 1
        };
        let name = &self.names[image];
        match act {
            Act::Pull => drop(images.pull(name, None, None).await.expect("pull")),
            Act::Import => {
                let archive = incoming(&self.archives[image]);
                drop(images.import(archive, ImportOptions::default(), None).await.expect("import"));
            }
            Act::Remove => images.remove(&name.to_string()).await.expect("remove"),
        }
        let end = self.clock.now();
        self.history.lock().expect("history").deeds[at].end = Some(end);
    }

    /// Waits until the disk has all that is recorded.
    async fn settle(&self, gallery: &Gallery, node: &Node) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let meta = node.meta.upgrade().expect("open");
            if meta.scan::<serde_json::Value>(Table::Unsynced).expect("scan").is_empty() {
                break;
            }
            drop(meta);
            assert!(Instant::now() < end, "it is never synced");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let images = node.images.list().iter().map(|image| gallery.position(image)).collect();
        self.history.lock().expect("history").settled.push((self.clock.now(), images));
    }
}

/// Rounds of pulls, imports and removals: two at a time on different images, or all images at once.
async fn work(gallery: &Gallery, mut node: Node, player: &Arc<Player>) -> Node {
    for round in 0..ROUNDS {
        let all = round % 4 == 2;
        if all {
            for image in 0..IMAGES {
                player.act(&node.images, image, Act::Remove).await;
            }
        }
        let mut tasks = tokio::task::JoinSet::new();
        let count = if all { IMAGES } else { 2 };
        for task in 0..count {
            let (player, images) = (player.clone(), node.images.clone());
            tasks.spawn(async move {
                let mut dice = Dice(77 + (round * IMAGES + task) as u64 * 1001);
                let steps = if all { 1 } else { 4 };
                for _ in 0..steps {
                    let image = if all { task } else { dice.roll(IMAGES / 2) * 2 + task };
                    let act = match dice.roll(8) {
                        _ if all => Act::Pull,
                        0..=3 => Act::Pull,
                        4 | 5 => Act::Import,
                        _ => Act::Remove,
                    };
                    player.act(&images, image, act).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("worker");
        }
        if round % 2 == 1 {
            player.settle(gallery, &node).await;
        }
        if round == ROUNDS / 2 {
            // Another process of the same boot: the page cache has everything.
            node = node.restarted();
            node.images.collect().await.expect("collect");
        }
    }
    node
}

/// A mount that ends with the value.
struct Mounted(PathBuf);

impl Mounted {
    fn new(device: &str, kind: &str, at: &Path) -> Mounted {
        std::fs::create_dir_all(at).expect("mount point");
        rustix::mount::mount(device, at, kind, MountFlags::empty(), None::<&CStr>)
            .unwrap_or_else(|error| panic!("{device} is no {kind} any more: {error}"));
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A sync or a collection may still be at its last file.
        for _ in 0..500 {
            if rustix::mount::unmount(&self.0, UnmountFlags::empty()).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is still in use", self.0.display());
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Has a test done where what it mounts is seen by nobody else, and goes with it.
fn apart<F: Future<Output = ()>>(kind: &str, test: impl FnOnce() -> F + Send) {
    let what = format!("power cuts out of order on {kind}");
    if !can(&what, &[format!("mkfs.{kind}").as_str()]) {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        return eprintln!("SKIPPED {what}: there is no FUSE here");
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::process::unshare(sys::process::namespace::MOUNT).expect("unshare");
            container::root::detach_from_node().expect("private");
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
            runtime.expect("runtime").block_on(test());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn cut_out_of_order(kind: &'static str, discard: bool, sector: u64, cuts: usize) {
    let recording = Recording::new(kind, 320 << 20);
    make(kind, recording.device());
    let gallery = Gallery::new();
    let server = gallery.serve().await;
    let dir = tempfile::Builder::new().prefix("images-keep-order-").tempdir_in("/dev/shm").expect("dir");
    let settings = Settings { discard, collect_after: Duration::from_millis(30), ..Settings::default() };
    let names: Vec<Reference> = (0..IMAGES).map(|n| server.name(&format!("app:v{n}"))).collect();
    let archive = |(image, name): (_, &Reference)| Archive::of(image, &name.to_string()).bytes();
    let archives = gallery.images.iter().zip(&names).map(archive).collect();
    let player = Arc::new(Player { names, archives, clock: recording.clock(), history: Mutex::default() });

    let mount = Mounted::new(recording.device(), kind, &dir.path().join("store"));
    let from = player.clock.now();
    let node = Node::open(mount.0.join("store"), settings.clone(), None);
    node.images.collect().await.expect("first");
    let node = work(&gallery, node, &player).await;
    let to = player.clock.now();
    drop(node);
    drop(mount);
    let mut replay = recording.replay();

    let mut dice = Dice(4242);
    let history = std::mem::take(&mut *player.history.lock().expect("history"));
    let (mut lossy, mut torn, mut images, file) = (0, 0, 0, dir.path().join("disk"));
    for moment in replay.moments(from, to, cuts, &mut dice) {
        let loss = replay.cut(moment, sector, &mut dice, &file);
        lossy += usize::from(loss.lost > 0);
        torn += usize::from(loss.torn > 0);
        let disk = File::options().read(true).write(true).open(&file).expect("disk");
        let device = sys::loop_device::attach(disk.as_fd(), false).expect("a loop device");
        drop(disk);
        let mount = Mounted::new(&device.path, kind, &dir.path().join("after"));
        let node = Node::open_after_reboot(mount.0.join("store"), settings.clone());
        let found = inspect(&gallery, &node).await;
        for image in 0..IMAGES {
            let words = || format!("image {image}, cut at {moment} with {loss:?}");
            let there = found.contains(&image);
            assert!(!there || history.may_be_there(image, moment), "{}: is there", words());
            assert!(there || !history.has_to_be_there(image, moment), "{}: is lost", words());
        }
        images += found.len();
        // It works again.
        let again = dice.roll(IMAGES);
        let record = node.images.pull(&player.names[again], None, None).await.expect("pull");
        assert_eq!(gallery.position(&record), again);
        layers_are_whole(&gallery, &node, &record);
        drop(node);
        drop(mount);
        drop(device);
        std::fs::remove_file(&file).expect("remove");
    }
    assert!(images > cuts / 2, "{images} recorded images in {cuts} cuts: hardly anything was tested");
    assert!(lossy > cuts / 4 && torn > 0, "of {cuts} cuts {lossy} lost something, {torn} tore it");
    eprintln!(
        "{kind}: {cuts} cuts, {lossy} lost and {torn} tore writes; {images} recorded images, all whole"
    );
}

// A sector of a disk is written whole or not at all. btrfs wants that of its superblock of 4 KiB.

#[test]
fn a_power_cut_that_loses_and_tears_writes_leaves_every_recorded_image_whole_ext4() {
    apart("ext4", || cut_out_of_order("ext4", false, 512, wanted(40)));
}

#[test]
fn a_power_cut_that_loses_and_tears_writes_leaves_every_recorded_image_whole_where_no_blobs_are_kept() {
    apart("ext4", || cut_out_of_order("ext4", true, 512, wanted(25)));
}

#[test]
fn a_power_cut_that_loses_and_tears_writes_leaves_every_recorded_image_whole_xfs() {
    apart("xfs", || cut_out_of_order("xfs", false, 512, wanted(25)));
}

#[test]
fn a_power_cut_that_loses_and_tears_writes_leaves_every_recorded_image_whole_btrfs() {
    apart("btrfs", || cut_out_of_order("btrfs", false, 4096, wanted(25)));
}

#[test]
fn a_write_that_failed_is_told_by_the_next_sync_although_another_program_was_told_first() {
    apart("ext4", || async {
        let recording = Recording::new("failing", 64 << 20);
        make("ext4", recording.device());
        let dir = tempfile::tempdir_in("/dev/shm").expect("dir");
        let mount = Mounted::new(recording.device(), "ext4", dir.path());
        let content = content::Content::open(&mount.0.join("content")).expect("content");
        // What has its blocks already: no record of the file system has to be written for it.
        let mut file = File::create(mount.0.join("file")).expect("file");
        file.write_all(&[1; 64 << 10]).expect("write");
        content.sync().expect("all is well");
        let other = File::open(&mount.0).expect("another program");
        std::io::Seek::rewind(&mut file).expect("rewind");
        file.write_all(&[2; 64 << 10]).expect("into memory");
        recording.fail_writes(true);
        file.sync_data().expect_err("the disk fails");
        recording.fail_writes(false);
        rustix::fs::syncfs(&other).expect_err("the other program is told");
        let error = content.sync().expect_err("and so are we");
        assert!(error.message().contains("cannot sync"), "{error}");
        content.sync().expect("once");
        drop((content, other, file));
    });
}
