//! From pull to removal: what is recorded, what is shared, what survives, and what goes.

use crate::image::{Image, OCI_INDEX, digest, layer, noise};
use crate::node::{Node, Settings};
use crate::server::{Reply, Server, Shelf};
use corten_images::{LayerState, Progress};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::meta::Table;

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_through_its_index_and_found_by_every_name() {
    let image = Image::new("app", &[layer(&[("a", b"1"), ("both", b"low")]), layer(&[("both", b"high")])]);
    let mut shelf = Shelf::default().with("plain", &image);
    shelf.add_manifest("v1", OCI_INDEX, image.index());
    let (server, node) = (Server::start(shelf, |_| None).await, Node::new());
    let (send, mut events) = tokio::sync::mpsc::unbounded_channel();
    let record = node.images.pull(&server.name("team/app:v1"), None, Some(send)).await.expect("pull");
    let repository = format!("{}/team/app", server.addr);
    assert_eq!(record.id.as_str(), image.id());
    assert_eq!(record.names, [format!("{repository}:v1")]);
    assert_eq!(record.digests, [format!("{repository}@{}", digest(&image.index()))]);
    assert_eq!(record.manifest.as_str(), digest(&image.manifest));
    assert_eq!((record.config.user.as_str(), &record.config.env[..]), ("7", &["NAME=app".to_owned()][..]));
    let stored: usize = image.blobs.iter().map(|(_, b)| b.len()).sum();
    assert_eq!((record.chain.len(), record.size), (2, stored as u64));
    for name in [&record.names[0], &record.digests[0], &image.id(), &image.id()[7..19].to_owned()] {
        assert_eq!(node.images.find(name).expect(name).id, record.id);
    }
    assert_eq!(node.file(&record, "both").as_deref(), Some("high"));
    assert_eq!(node.file(&record, "a").as_deref(), Some("1"));
    // Index, manifest, configuration, two layers; nothing half done.
    assert_eq!((node.content("blobs/sha256").len(), node.content("ingest").len()), (5, 0));
    let mut all = Vec::new();
    while let Ok(event) = events.try_recv() {
        all.push(event);
    }
    assert!(matches!(
        all.iter().find(|e| matches!(e, Progress::Resolved { .. })),
        Some(Progress::Resolved { layers: 2, .. })
    ));
    let done = |e: &&Progress| matches!(e, Progress::Layer { state: LayerState::Done, .. });
    assert_eq!((all.iter().filter(done).count(), all.last()), (2, Some(&Progress::Done)));
    let info = node.images.fs_info().await.expect("info");
    assert!(info.images.bytes > record.size && info.images.inodes >= 8, "{info:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pulling_by_digest_gives_no_tag_and_checks_the_digest() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = Node::new();
    let wanted = digest(&image.manifest);
    for name in [format!("app@{wanted}"), format!("app:other@{wanted}")] {
        let record = node.images.pull(&server.name(&name), None, None).await.expect(&name);
        assert!(record.names.is_empty());
        assert_eq!(record.digests, [format!("{}/app@{wanted}", server.addr)]);
        assert!(node.images.find(&format!("{}/{name}", server.addr)).is_some());
    }
    let lying = Server::start(Shelf::default(), |seen| {
        let body = Image::small("evil").manifest;
        seen.path
            .contains("/manifests/")
            .then(|| Reply::new(200, body).with("content-type", crate::image::OCI_MANIFEST))
    })
    .await;
    let error = node.images.pull(&lying.name(&format!("app@{wanted}")), None, None).await.expect_err("lie");
    assert!(error.chain().contains(&wanted), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_survive_a_restart_and_leave_nothing_when_they_are_removed() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = Node::new();
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    // What a killed pull leaves: a half blob, a whole one that no image knows, half a layer.
    std::fs::write(node.root.join("content/ingest/9-9"), "half").expect("write");
    std::fs::write(node.root.join("content/blobs/sha256").join("ab".repeat(32)), "orphan").expect("write");
    let node = node.restarted();
    assert_eq!(*node.images.list()[0], record);
    assert_eq!((node.content("blobs/sha256").len(), node.content("ingest").len()), (3, 0));
    node.images.remove(&record.names[0]).await.expect("remove");
    node.images.remove(&record.names[0]).await.expect("of what is gone");
    assert!(node.images.list().is_empty() && node.content("blobs/sha256").is_empty());
    assert!(node.snapshotter.layers().expect("layers").is_empty());
    assert!(node.restarted().images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_stay_while_an_image_or_a_container_needs_them() {
    let base = layer(&[("base", b"base")]);
    let one = Image::new("one", &[base.clone(), layer(&[("one", b"1")])]);
    let two = Image::new("two", &[base.clone(), layer(&[("two", b"2")])]);
    let shelf = Shelf::default().with("one", &one).with("two", &two);
    let (server, node) = (Server::start(shelf, |_| None).await, Node::new());
    let first = node.images.pull(&server.name("app:one"), None, None).await.expect("one");
    let before = server.count("GET", &digest(&base.0));
    let second = node.images.pull(&server.name("app:two"), None, None).await.expect("two");
    assert_eq!(server.count("GET", &digest(&base.0)), before, "a layer that is there was fetched");
    assert_eq!(first.chain[0], second.chain[0]);
    node.images.hold("c1", &first);
    node.images.remove(first.id.as_str()).await.expect("remove");
    assert!(first.chain.iter().chain(&second.chain).all(|l| node.snapshotter.has_layer(l)));
    node.images.release("c1");
    node.images.collect().await.expect("collect");
    assert!(!node.snapshotter.has_layer(&first.chain[1]));
    assert!(second.chain.iter().all(|l| node.snapshotter.has_layer(l)));
    assert_eq!(node.file(&second, "base").as_deref(), Some("base"));
    // What was removed comes back whole.
    let again = node.images.pull(&server.name("app:one"), None, None).await.expect("again");
    assert_eq!(node.file(&again, "one").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_image_costs_one_request_and_a_moved_tag_leaves_the_old_one_untagged() {
    let (old, new) = (Image::small("old"), Image::small("new"));
    let first = Server::start(Shelf::default().with("v1", &old), |_| None).await;
    let host = first.addr.to_string();
    let node = Node::with_hosts(&[]);
    let record = node.images.pull(&first.name("app:v1"), None, None).await.expect("pull");
    let before = first.seen().len();
    assert_eq!(node.images.pull(&first.name("app:v1"), None, None).await.expect("again"), record);
    assert_eq!((first.seen().len() - before, first.count("HEAD", "/manifests/v1")), (1, 1));
    // The same name now leads elsewhere.
    let second = Server::start(Shelf::default().with("v1", &new), |_| None).await;
    let folder = node.root.join("certs.d").join(&host);
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("hosts.toml"), format!("server = \"http://{}\"", second.addr)).expect("hosts");
    let moved = node.images.pull(&first.name("app:v1"), None, None).await.expect("moved");
    assert_eq!(moved.id.as_str(), new.id());
    let left = node.images.find(&old.id()).expect("still there");
    assert_eq!((left.names.len(), left.digests.len()), (0, 1));
    let node = node.restarted();
    assert_eq!(node.images.find(&old.id()).expect("after a restart").names.len(), 0);
    assert_eq!(node.images.find(&format!("{host}/app:v1")).expect("tag").id, moved.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_one_reference_are_one_and_outlive_a_client_that_goes() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |seen| {
        // Slow enough that all callers meet.
        (seen.path.contains("/manifests/") && seen.method == "GET").then(|| Reply {
            delay: Duration::from_millis(300),
            ..Reply::new(200, Image::small("app").manifest).with("content-type", crate::image::OCI_MANIFEST)
        })
    })
    .await;
    let node = Node::new();
    let name = server.name("app:v1");
    let pull = || {
        let (images, name) = (node.images.clone(), name.clone());
        tokio::spawn(async move { images.pull(&name, None, None).await })
    };
    let (gone, one, two) = (pull(), pull(), pull());
    tokio::time::sleep(Duration::from_millis(100)).await;
    gone.abort();
    let (one, two) = (one.await.expect("task").expect("one"), two.await.expect("task").expect("two"));
    assert_eq!((one.id.as_str(), &one), (image.id().as_str(), &two));
    assert_eq!(server.count("GET", "/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_at_the_same_time_fetch_a_layer_that_they_share_once() {
    let base = layer(&[("base", &noise(500_000, 21))]);
    let one = Image::new("one", &[base.clone(), layer(&[("one", b"1")])]);
    let two = Image::new("two", &[base.clone(), layer(&[("two", b"2")])]);
    let (shared, content) = (digest(&base.0), base.0.clone());
    let server = Server::start(Shelf::default().with("one", &one).with("two", &two), move |seen| {
        let delay = Duration::from_millis(200);
        seen.path.contains(&shared).then(|| Reply { delay, ..Reply::new(200, content.clone()) })
    })
    .await;
    let node = Node::new();
    let (first, second) = (server.name("app:one"), server.name("app:two"));
    let (a, b) = tokio::join!(node.images.pull(&first, None, None), node.images.pull(&second, None, None));
    assert_eq!(a.expect("one").chain[0], b.expect("two").chain[0]);
    assert_eq!(server.count("GET", &digest(&base.0)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_nobody_waits_for_ends_and_leaves_nothing_that_counts() {
    let big = layer(&[("big", &noise(3 << 20, 5))]);
    let image = Image::new("app", std::slice::from_ref(&big));
    let blob = digest(&big.0);
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        seen.path.contains(&blob).then(|| Reply {
            // Half of it, and then silence until the connection is given up.
            headers: vec![("content-length".into(), big.0.len().to_string())],
            delay: Duration::from_secs(30),
            ..Reply::new(200, big.0.clone())
        })
    })
    .await;
    let node = Node::new();
    let name = server.name("app:v1");
    let pulled = tokio::time::timeout(Duration::from_millis(500), node.images.pull(&name, None, None)).await;
    assert!(pulled.is_err(), "the pull ended by itself");
    for _ in 0..100 {
        if node.content("ingest").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(node.content("ingest").is_empty() && node.images.list().is_empty());
    assert!(node.snapshotter.layers().expect("layers").is_empty());
    node.images.collect().await.expect("nothing is pinned");
    assert!(node.content("blobs/sha256").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_snapshotters_get_the_same_content_and_discarding_keeps_no_layer() {
    let layers = [layer(&[("a", b"1")]), layer(&[("b", &noise(300_000, 3))]), layer(&[("a", b"3")])];
    let image = Image::new("app", &layers);
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    for snapshotter in ["overlayfs", "native"] {
        for discard in [false, true] {
            let node = Node::with(Settings { snapshotter, discard, ..Settings::default() });
            let record = node.images.pull(&server.name("app:v1"), None, None).await.expect(snapshotter);
            assert_eq!(node.file(&record, "a").as_deref(), Some("3"), "{snapshotter}");
            let kept = node.content("blobs/sha256").len();
            assert_eq!(kept, if discard { 2 } else { 5 }, "{snapshotter}, discard {discard}");
            node.images.collect().await.expect("collect");
            assert_eq!(node.file(&record, "a").as_deref(), Some("3"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_layer_is_lost_is_not_listed_after_a_start_and_can_be_pulled_again() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = Node::new();
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    node.snapshotter.remove_layer(&record.chain[0]).expect("lost");
    let node = node.restarted();
    assert!(node.images.list().is_empty());
    node.images.pull(&server.name("app:v1"), None, None).await.expect("again");
    // Lost while the daemon runs: the next pull notices, too.
    node.snapshotter.remove_layer(&record.chain[0]).expect("lost");
    let again = node.images.pull(&server.name("app:v1"), None, None).await.expect("again");
    assert_eq!(node.file(&again, "app").as_deref(), Some("app"));
    // Only the first pull fetched the layer: its blob was kept.
    assert_eq!(server.count("GET", &image.blobs[1].0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_does_not_decide_which_image_a_digest_means() {
    let (good, evil) = (Image::small("good"), Image::small("evil"));
    let (wanted, other) = (digest(&good.manifest), digest(&evil.manifest));
    let part = wanted.clone();
    let server = Server::start(Shelf::default().with("good", &good).with("evil", &evil), move |seen| {
        (seen.method == "HEAD" && seen.path.contains(&part))
            .then(|| Reply::new(200, "").with("docker-content-digest", other.clone()))
    })
    .await;
    let node = Node::new();
    node.images.pull(&server.name("app:evil"), None, None).await.expect("evil");
    for _ in 0..2 {
        let name = server.name(&format!("app@{wanted}"));
        let record = node.images.pull(&name, None, None).await.expect("good");
        assert_eq!(record.id.as_str(), good.id());
    }
    assert_eq!(server.count("HEAD", &wanted), 1, "the second pull asked, and did not believe it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_answer_does_not_take_a_tag_back() {
    let (old, new) = (Image::small("old"), Image::small("new"));
    let (outdated, manifest) = (digest(&old.manifest), new.manifest.clone());
    let (moved, asked) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let phase = moved.clone();
    let server = Server::start(Shelf::default().with("v1", &old).with("v2", &new), move |seen| {
        if !phase.load(Ordering::SeqCst) || !seen.path.contains("/manifests/v1") {
            return None;
        }
        let slow = seen.method == "HEAD" && !asked.swap(true, Ordering::SeqCst);
        Some(if slow {
            let delay = Duration::from_millis(1500);
            Reply { delay, ..Reply::new(200, "") }.with("docker-content-digest", outdated.clone())
        } else {
            Reply::new(200, manifest.clone())
                .with("content-type", crate::image::OCI_MANIFEST)
                .with("docker-content-digest", digest(&manifest))
        })
    })
    .await;
    let (node, name) = (Node::new(), server.name("app:v1"));
    node.images.pull(&name, None, None).await.expect("old");
    moved.store(true, Ordering::SeqCst);
    let (images, own) = (node.images.clone(), name.clone());
    let late = tokio::spawn(async move { images.pull(&own, None, None).await });
    while server.count("HEAD", "/manifests/v1") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Other credentials, so that it does not join the first one.
    let auth = corten_images::Auth { username: Some("alice".into()), ..Default::default() };
    let prompt = node.images.pull(&name, Some(auth), None).await.expect("new");
    assert_eq!(prompt.id.as_str(), new.id());
    assert_eq!(late.await.expect("task").expect("late").id.as_str(), new.id());
    assert_eq!(node.images.find(&name.to_string()).expect("tag").id.as_str(), new.id());
    assert!(node.images.find(&old.id()).expect("old").names.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn holding_by_name_finds_and_keeps_in_one_step() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = Node::new();
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    let held = node.images.hold_image("c1", &record.names[0]).expect("recorded");
    node.images.remove(record.id.as_str()).await.expect("remove");
    assert!(held.chain.iter().all(|layer| node.snapshotter.has_layer(layer)));
    assert!(node.images.hold_image("c2", record.id.as_str()).is_none());
    node.images.release("c1");
    node.images.collect().await.expect("collect");
    assert!(node.snapshotter.layers().expect("layers").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_do_not_keep_the_others() {
    let (one, two) = (Image::small("one"), Image::small("two"));
    let server = Server::start(Shelf::default().with("one", &one).with("two", &two), |_| None).await;
    let node = Node::new();
    let first = node.images.pull(&server.name("app:one"), None, None).await.expect("one");
    let second = node.images.pull(&server.name("app:two"), None, None).await.expect("two");
    let before = node.images.fs_info().await.expect("info");
    let layer = second.chain[0].clone();
    let node = node.restarted_after(|meta| {
        meta.put(Table::Images, first.id.as_str(), "nonsense").expect("put");
        meta.put(Table::Layers, layer.as_str(), "nonsense").expect("put");
        meta.put(Table::Layers, "nonsense", "nonsense").expect("put");
        meta.put(Table::Blobs, second.id.as_str(), "nonsense").expect("put");
    });
    let left: Vec<_> = node.images.list().iter().map(|i| i.id.to_string()).collect();
    assert_eq!(left, [second.id.to_string()]);
    node.images.collect().await.expect("collect");
    let after = node.images.fs_info().await.expect("info");
    assert!(after.images.inodes < before.images.inodes, "{before:?} {after:?}");
    // What the lost record had is gone; the other image is whole, and nothing is damaged any more.
    assert_eq!(node.content("blobs/sha256").len(), 3);
    let node = node.restarted_after(|meta| {
        assert!(meta.scan::<corten_images::ImageRecord>(Table::Images).is_ok());
        assert!(meta.scan::<serde_json::Map<String, serde_json::Value>>(Table::Layers).is_ok());
        assert_eq!(meta.scan::<u64>(Table::Blobs).expect("blobs").len(), 3);
    });
    assert_eq!(node.file(&second, "two").as_deref(), Some("two"));
}
