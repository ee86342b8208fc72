//! Collection by itself: when, what, and what not.

use super::trees::{exactly, exactly_soon, names, snapshots};
use crate::image::{Image, layer, noise};
use crate::node::{Node, Settings};
use crate::server::{Reply, Server, Shelf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(300);

fn node(settings: Settings) -> Node {
    Node::with(Settings { collect_after: SOON, ..settings })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_pull_left_goes_by_itself_and_not_before_somebody_said_who_holds_what() {
    let good = layer(&[("good", &noise(200_000, 7))]);
    let image = Image::new("app", &[good, layer(&[("bad", b"bad")])]);
    let bad = image.blobs[2].0.clone();
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        seen.path.contains(&bad).then(|| Reply { delay: Duration::from_millis(100), ..Reply::new(200, "no") })
    })
    .await;
    let node = node(Settings::default());
    node.images.pull(&server.name("app:v1"), None, None).await.expect_err("a wrong layer");
    tokio::time::sleep(SOON * 3).await;
    let layers = snapshots(&node).join("layers");
    assert!(!names(&layers).is_empty(), "collected though nobody asked for a first collection");
    node.images.collect().await.expect("collect");
    exactly(&node, &[], &[]);
    node.images.pull(&server.name("app:v1"), None, None).await.expect_err("a wrong layer");
    exactly_soon(&node, &[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_container_of_a_removed_image_takes_its_layers_along() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = node(Settings::default());
    node.images.collect().await.expect("first");
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    for container in ["c1", "c2"] {
        node.images.hold_image(container, &record.names[0]).expect("recorded");
    }
    node.images.remove(&record.names[0]).await.expect("remove");
    node.images.release("c1");
    tokio::time::sleep(SOON * 3).await;
    exactly(&node, &[], &record.chain);
    node.images.release("c2");
    exactly_soon(&node, &[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_is_tried_again_until_it_succeeds() {
    let image = Image::new("app", &[layer(&[("busy/file", b"x"), ("other", b"y")])]);
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = node(Settings::default());
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    let busy = super::trees::layer(&node, &record.chain[0]).join("busy");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "images-keep"]).arg(&busy).status().expect("mount");
    assert!(mounted.success());
    node.images.remove(&record.names[0]).await.expect("the image is gone");
    assert!(node.images.list().is_empty() && !node.snapshotter.has_layer(&record.chain[0]));
    let trash = snapshots(&node).join("trash");
    let left = names(&trash);
    assert_eq!(left.len(), 1, "a mount point cannot be removed");
    tokio::time::sleep(SOON * 3).await;
    assert_eq!(names(&trash), left);
    let place = trash.join(left.first().expect("one")).join("fs/busy");
    assert!(Command::new("umount").arg(place).status().expect("umount").success());
    exactly_soon(&node, &[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_beside_endless_removals_and_collections_always_ends_whole() {
    let base = layer(&[("base", &noise(100_000, 9))]);
    let images: Vec<Image> = (0..3)
        .map(|n| {
            Image::new(&format!("app{n}"), &[base.clone(), layer(&[("own", format!("{n}").as_bytes())])])
        })
        .collect();
    let shelf =
        images.iter().enumerate().fold(Shelf::default(), |shelf, (n, i)| shelf.with(&format!("v{n}"), i));
    let server = Server::start(shelf, |_| None).await;
    let node = node(Settings { discard: true, ..Settings::default() });
    node.images.collect().await.expect("first");
    let sweeping = {
        let images = node.images.clone();
        tokio::spawn(async move {
            loop {
                images.collect().await.expect("collect");
                tokio::task::yield_now().await;
            }
        })
    };
    let mut pulls = tokio::task::JoinSet::new();
    for n in 0..3 {
        let (images, name) = (node.images.clone(), server.name(&format!("app:v{n}")));
        let snapshotter = node.snapshotter.clone();
        pulls.spawn(async move {
            for _ in 0..12 {
                let record = images.pull(&name, None, None).await.expect("pull");
                let held = images.hold_image(&format!("c{n}"), record.id.as_str()).expect("recorded");
                assert!(
                    held.chain.iter().all(|layer| snapshotter.has_layer(layer)),
                    "a layer in use was removed"
                );
                images.remove(record.id.as_str()).await.expect("remove");
                assert!(
                    held.chain.iter().all(|layer| snapshotter.has_layer(layer)),
                    "a layer in use was removed"
                );
                images.release(&format!("c{n}"));
            }
        });
    }
    while let Some(done) = pulls.join_next().await {
        done.expect("pulls");
    }
    sweeping.abort();
    node.images.collect().await.expect("last");
    exactly_soon(&node, &[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_removes_what_no_container_uses_and_nothing_pinned() {
    let images: Vec<Image> = ["used", "pinned", "idle", "untagged"].iter().map(|n| Image::small(n)).collect();
    let mut shelf = Shelf::default();
    for (name, image) in ["used", "pinned", "idle", "untagged"].iter().zip(&images) {
        shelf = shelf.with(name, image);
    }
    let server = Server::start(shelf, |_| None).await;
    let node = node(Settings { pinned: &["*/app:pinned"], ..Settings::default() });
    for name in ["used", "pinned", "idle"] {
        node.images.pull(&server.name(&format!("app:{name}")), None, None).await.expect(name);
    }
    let by_digest = format!("app@{}", crate::image::digest(&images[3].manifest));
    node.images.pull(&server.name(&by_digest), None, None).await.expect("by digest");
    let used = node.images.hold_image("c1", &images[0].id()).expect("recorded");
    assert!(node.images.find(&images[1].id()).expect("there").pinned);
    let would = node.images.prune(true).await.expect("dry");
    assert_eq!((would.images.len(), node.images.list().len()), (2, 4));
    let pruned = node.images.prune(false).await.expect("prune");
    let mut ids: Vec<String> = pruned.images.iter().map(|i| i.id.to_string()).collect();
    ids.sort();
    let mut expected = vec![images[2].id(), images[3].id()];
    expected.sort();
    assert_eq!(ids, expected);
    assert!(pruned.freed_bytes >= 4096, "{pruned:?}");
    exactly(&node, &node.images.list(), &[]);
    // After a restart only the layers of a container are known, and its image still counts as used.
    let node = node.restarted();
    node.images.hold_layers("c1", used.chain.clone());
    assert!(node.images.prune(false).await.expect("again").images.is_empty());
    // Whoever names a pinned image means it.
    node.images.remove(&images[1].id()).await.expect("remove");
    assert_eq!(node.images.list().len(), 1);
    node.images.release("c1");
    assert_eq!(node.images.prune(false).await.expect("last").images.len(), 1);
    exactly(&node, &[], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_follows_the_configuration_and_not_the_record() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = Node::with(Settings { pinned: &["*/app:v1"], ..Settings::default() });
    assert!(node.images.pull(&server.name("app:v1"), None, None).await.expect("pull").pinned);
    let node = node.restarted_with(|settings| settings.pinned = &[]);
    assert!(!node.images.list()[0].pinned);
    let node = node.restarted_with(|settings| settings.pinned = &["*"]);
    assert!(node.images.list()[0].pinned);
}
