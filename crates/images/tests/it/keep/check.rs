//! Damage is found where it is, and repaired without touching what runs.

use super::trees::{blobs_are_whole, exactly, files, layer as tree, names, snapshots};
use crate::image::{Image, digest, layer, noise};
use crate::node::{Node, Settings};
use crate::server::{Server, Shelf};
use corten_images::{Auth, CheckEvent, CheckReport, Damage, Damaged};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Turns one byte of a file, and leaves its times as they were: what a disk does.
fn flip(path: &Path, at: u64) {
    let file =
        fs::File::options().read(true).write(true).open(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let modified = file.metadata().expect("metadata").modified().expect("time");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x40], at).expect("write");
    file.set_times(fs::FileTimes::new().set_modified(modified)).expect("times");
    file.sync_all().expect("sync");
}

fn blob(node: &Node, digest: &str) -> std::path::PathBuf {
    node.root.join("content/blobs/sha256").join(&digest[7..])
}

async fn check(node: &Node, repair: bool) -> CheckReport {
    node.images.check(&[], repair, None, None).await.expect("check")
}

fn only(report: &CheckReport) -> &Damage {
    assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
    &report.damages[0]
}

struct Case {
    server: Server,
    node: Node,
    image: Image,
    layers: [(bytes::Bytes, String); 2],
}

async fn case(settings: Settings) -> Case {
    let layers = [
        layer(&[("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), ("big", &noise(700_000, 41))]),
        layer(&[("own", b"own"), (".wh.gone", b""), ("etc/more", b"more")]),
    ];
    let image = Image::new("app", &layers);
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = Node::with(settings);
    node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    Case { server, node, image, layers }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_found_whole_and_everything_is_read() {
    for snapshotter in ["overlayfs", "native"] {
        let Case { server: _server, node, image, .. } =
            case(Settings { snapshotter, ..Settings::default() }).await;
        let (send, mut events) = tokio::sync::mpsc::unbounded_channel();
        let report = node.images.check(&[], false, None, Some(send)).await.expect("check");
        assert!(report.damages.is_empty(), "{snapshotter}: {:?}", report.damages);
        assert_eq!((report.images.len(), report.blobs, report.layers, report.measured), (1, 4, 2, 0));
        let bytes: usize = image.blobs.iter().map(|(_, b)| b.len()).sum::<usize>() + image.manifest.len();
        assert_eq!(report.bytes, bytes as u64);
        while let Ok(event) = events.try_recv() {
            assert!(matches!(event, CheckEvent::Progress { .. }), "{event:?}");
        }
        exactly(&node, &node.images.list(), &[]);
        assert!(node.images.check(&["nothing".into()], false, None, None).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_turned_byte_in_an_unpacked_file_is_found_and_repaired_without_the_network() {
    for snapshotter in ["overlayfs", "native"] {
        let Case { server, node, .. } = case(Settings { snapshotter, ..Settings::default() }).await;
        let record = node.images.list()[0].clone();
        let place = tree(&node, &record.chain[0]);
        let good = files(&place);
        flip(&place.join("big"), 699_999);
        let requests = server.seen().len();
        let report = check(&node, false).await;
        // A copy of a damaged layer is compared with what it was copied from.
        let damage = &report.damages[0];
        assert_eq!((damage.part, &damage.digest, damage.repaired), (Damaged::Layer, &record.chain[0], false));
        assert_eq!(damage.what, "/big has other content from byte 699999 on");
        assert_eq!(damage.images, record.names);
        assert_eq!((report.images[0].damaged, report.images[0].repaired), (report.damages.len(), 0));
        let report = check(&node, true).await;
        assert!(report.damages.iter().all(|d| d.repaired), "{snapshotter}: {:?}", report.damages);
        assert_eq!(files(&place), good);
        assert!(check(&node, false).await.damages.is_empty());
        assert_eq!(server.seen().len(), requests, "a repair from what is here asked the registry");
        node.images.collect().await.expect("collect");
        exactly(&node, &node.images.list(), &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_damage_of_a_layer_is_found() {
    type Change = fn(&Path);
    let changes: &[(&str, Change)] = &[
        ("/etc/passwd is missing", |root| fs::remove_file(root.join("etc/passwd")).expect("remove")),
        ("bytes in place of", |root| fs::write(root.join("etc/passwd"), "").expect("write")),
        ("/etc/new is there", |root| fs::write(root.join("etc/new"), "").expect("write")),
        ("it is not there", |root| fs::remove_dir_all(root.parent().expect("layer")).expect("remove")),
    ];
    for (what, change) in changes {
        let Case { server: _server, node, .. } = case(Settings::default()).await;
        let record = node.images.list()[0].clone();
        change(&tree(&node, &record.chain[0]));
        let report = check(&node, false).await;
        assert!(only(&report).what.contains(what), "{what}: {:?}", report.damages);
        assert!(only(&check(&node, true).await).repaired, "{what}");
        assert!(check(&node, false).await.damages.is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_lost_blob_is_found_and_fetched_again_and_nothing_else() {
    let Case { server, node, image, layers } = case(Settings::default()).await;
    let layer_blob = digest(&layers[0].0);
    let gets = |part: &str| server.count("GET", part);
    for (name, lose) in [(&layer_blob, false), (&layer_blob, true), (&image.id(), false), (&image.id(), true)]
    {
        let path = blob(&node, name);
        if lose {
            fs::remove_file(&path).expect("remove")
        } else {
            flip(&path, 100)
        }
        let report = check(&node, false).await;
        let damage = only(&report);
        assert_eq!((damage.part, damage.digest.as_str()), (Damaged::Blob, name.as_str()));
        let expected = if lose { "it is not there" } else { "of the digest sha256:" };
        assert!(damage.what.contains(expected), "{}", damage.what);
        let before = (gets(name), gets(&digest(&layers[1].0)));
        let report = check(&node, true).await;
        assert!(only(&report).repaired, "{:?}", report.damages);
        assert_eq!((gets(name), gets(&digest(&layers[1].0))), (before.0 + 1, before.1), "{name} {lose}");
        assert!(check(&node, false).await.damages.is_empty());
        blobs_are_whole(&node);
    }
    node.images.collect().await.expect("collect");
    exactly(&node, &node.images.list(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blob_and_layer_damaged_together_are_both_repaired() {
    let Case { server: _server, node, layers, .. } = case(Settings::default()).await;
    let record = node.images.list()[0].clone();
    let place = tree(&node, &record.chain[0]);
    let good = files(&place);
    flip(&blob(&node, &digest(&layers[0].0)), 5000);
    fs::remove_file(place.join("etc/passwd")).expect("remove");
    let report = check(&node, true).await;
    assert_eq!(report.damages.len(), 2, "{:?}", report.damages);
    assert!(report.damages.iter().all(|d| d.repaired), "{:?}", report.damages);
    assert_eq!(files(&place), good);
    assert!(check(&node, false).await.damages.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_runs_on_a_damaged_layer_keeps_it_until_it_goes() {
    let Case { server: _server, node, .. } = case(Settings::default()).await;
    let record = node.images.list()[0].clone();
    node.images.collect().await.expect("first");
    node.images.hold_image("c1", &record.names[0]).expect("recorded");
    let place = tree(&node, &record.chain[1]);
    flip(&place.join("own"), 0);
    // What a mount of a running container holds on to.
    let running = fs::File::open(&place).expect("open");
    let seen = || {
        let file = rustix::fs::openat(&running, "own", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut fs::File::from(file.expect("open")), &mut text).expect("read");
        text
    };
    let damaged = seen();
    let report = check(&node, true).await;
    assert_eq!((only(&report).repaired, &only(&report).containers), (true, &vec!["c1".to_owned()]));
    assert_eq!(seen(), damaged, "the layer of a running container was touched");
    assert_eq!(fs::read_to_string(place.join("own")).expect("read"), "own");
    node.images.collect().await.expect("collect");
    assert_eq!(seen(), damaged);
    // It outlives the daemon, as the container does; also one that ended before it could write down whom it is kept for.
    let replaced = snapshots(&node).join("replaced");
    let kept = names(&replaced).into_iter().find(|name| !name.ends_with(".users")).expect("the old layer");
    let inode = fs::metadata(replaced.join(&kept)).expect("metadata").ino();
    fs::write(replaced.join(format!("{kept}.users")), format!("open {inode}\n")).expect("write");
    let node = node.restarted();
    node.images.hold_layers("c1", record.chain.clone());
    node.images.collect().await.expect("collect");
    assert_eq!(seen(), damaged);
    assert_eq!(names(&snapshots(&node).join("replaced")).len(), 2);
    node.images.release("c1");
    node.images.collect().await.expect("collect");
    exactly(&node, &node.images.list(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pull_repairs_what_a_check_found() {
    let Case { server, node, .. } = case(Settings::default()).await;
    let record = node.images.list()[0].clone();
    let place = tree(&node, &record.chain[0]);
    let good = files(&place);
    flip(&place.join("etc/passwd"), 3);
    // Nobody has looked yet: the pull believes the record.
    node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert_ne!(files(&place), good);
    assert!(!only(&check(&node, false).await).repaired);
    // It is not forgotten over a restart.
    let node = node.restarted();
    node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert_eq!(files(&place), good);
    assert!(check(&node, false).await.damages.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_blobs_are_kept_a_lost_file_is_found_and_the_layer_fetched_again() {
    for snapshotter in ["overlayfs", "native"] {
        let settings = Settings { snapshotter, discard: true, ..Settings::default() };
        let Case { server: _server, node, .. } = case(settings).await;
        let record = node.images.list()[0].clone();
        let place = tree(&node, &record.chain[1]);
        let good = files(&place);
        numbered(&node).await;
        fs::remove_file(place.join("etc/more")).expect("remove");
        assert!(only(&check(&node, false).await).what.contains("entries"));
        let report = check(&node, true).await;
        assert!(only(&report).repaired, "{:?}", report.damages);
        assert_eq!(files(&place), good);
        assert!(check(&node, false).await.damages.is_empty());
        assert_eq!(node.content("blobs/sha256").len(), 2, "a repair keeps no more than a pull");
    }
}

/// Waits until it is known what all layers are whose blobs are not kept, and finds them whole.
async fn numbered(node: &Node) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let report = check(node, false).await;
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        assert_eq!(report.layers + report.measured, 2);
        if report.measured == 0 {
            return;
        }
        assert!(std::time::Instant::now() < end, "no number is taken of a layer");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_blobs_are_kept_one_turned_byte_is_found_and_the_layer_fetched_again() {
    for snapshotter in ["overlayfs", "native"] {
        let settings = Settings { snapshotter, discard: true, ..Settings::default() };
        let Case { server: _server, node, .. } = case(settings).await;
        let record = node.images.list()[0].clone();
        numbered(&node).await;
        let place = tree(&node, &record.chain[0]);
        let good = files(&place);
        flip(&place.join("big"), 699_999);
        // It was taken at the pull, and is not taken anew.
        let node = node.restarted();
        let report = check(&node, false).await;
        assert_eq!((report.layers, report.measured), (2, 0), "it is known from the start");
        assert_eq!(only(&report).what, "its files are not what was unpacked", "{snapshotter}");
        assert_eq!((only(&report).part, &only(&report).digest), (Damaged::Layer, &record.chain[0]));
        assert!(only(&check(&node, true).await).repaired, "{snapshotter}");
        assert_eq!(files(&place), good);
        numbered(&node).await;
        flip(&place.join("big"), 5);
        assert_eq!(only(&check(&node, false).await).what, "its files are not what was unpacked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_for_no_named_server_go_to_one_registry_only() {
    let Case { server, node, layers, .. } = case(Settings::default()).await;
    let other = Image::new("other", &layers);
    let second = Server::start(Shelf::default().with("v1", &other), |_| None).await;
    node.images.pull(&second.name("other:v1"), None, None).await.expect("pull");
    fs::remove_file(blob(&node, &digest(&layers[0].0))).expect("remove");
    let (first_seen, second_seen) = (server.seen().len(), second.seen().len());
    let auth = |server: Option<String>| {
        let (username, password) = (Some("u".to_owned()), Some("p".to_owned()));
        Some(Auth { username, password, server_address: server, ..Auth::default() })
    };
    let error = node.images.check(&[], true, auth(None), None).await.expect_err("of two registries");
    assert_eq!(error.kind(), types::ErrorKind::InvalidArgument);
    assert!(error.message().contains(&second.addr.to_string()), "{error}");
    assert_eq!((server.seen().len(), second.seen().len()), (first_seen, second_seen));
    // Where nothing is asked, or the server is said, there is no doubt.
    node.images.check(&[], false, auth(None), None).await.expect("no repair");
    let named = auth(Some(server.addr.to_string()));
    let report = node.images.check(&[], true, named, None).await.expect("a named server");
    assert!(only(&report).repaired, "{:?}", report.damages);
    let name = server.name("app:v1").to_string();
    node.images.check(&[name], true, auth(None), None).await.expect("one registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_repaired_says_why() {
    let Case { server, node, layers, .. } = case(Settings::default()).await;
    fs::remove_file(blob(&node, &digest(&layers[0].0))).expect("remove");
    let address = server.addr.to_string();
    drop(server);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let report = check(&node, true).await;
    let why = only(&report).why_not.clone().expect("a reason");
    assert!(!only(&report).repaired && why.contains(&address), "{why}");
    // The image runs all the same, and is listed.
    assert_eq!(node.file(&node.images.list()[0], "own").as_deref(), Some("own"));
    // Lost over a restart, it is still known to be lost.
    let node = node.restarted();
    assert_eq!(only(&check(&node, false).await).what, "it is not there");
}
