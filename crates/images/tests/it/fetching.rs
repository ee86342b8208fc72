//! How blobs are fetched: each once, in parts where that helps, and taken up where a transfer broke.

use crate::image::{GZIP, Image, OCI_MANIFEST, digest, layer, noise};
use crate::node::Node;
use crate::server::{Reply, Server, Shelf};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_on_different_layers_of_images_that_are_pulled_at_once_is_fetched_once() {
    let shared = layer(&[("shared", &noise(50_000, 3))]);
    let (one, two) = (layer(&[("one", b"1")]), layer(&[("two", b"2")]));
    let first = Image::new("first", &[one, shared.clone()]);
    let second = Image::new("second", &[two, shared.clone(), layer(&[("more", b"3")])]);
    let (name, content) = (digest(&shared.0), shared.0.clone());
    let shelf = Shelf::default().with("first", &first).with("second", &second);
    let server = Server::start(shelf, move |seen| {
        let delay = Duration::from_millis(200);
        seen.path.contains(&name).then(|| Reply { delay, ..Reply::new(200, content.clone()) })
    })
    .await;
    let node = Node::new();
    let (a, b) = (server.name("app:first"), server.name("app:second"));
    let (a, b) = tokio::join!(node.images.pull(&a, None, None), node.images.pull(&b, None, None));
    let (a, b) = (a.expect("first"), b.expect("second"));
    assert_eq!(fetched(&server, &digest(&shared.0)), 1);
    assert!(a.chain[1] != b.chain[1] && node.file(&a, "two").is_none() && node.file(&b, "one").is_none());
    assert_eq!(node.file(&b, "two").as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_has_a_layer_twice_fetches_it_once() {
    let twice = layer(&[("f", &noise(50_000, 5))]);
    let image = Image::new("app", &[twice.clone(), layer(&[("g", b"g")]), twice.clone()]);
    let server = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let node = Node::new();
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert_eq!(record.chain.len(), 3);
    assert_eq!(fetched(&server, &digest(&twice.0)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_layer_comes_from_the_images_registry_and_its_urls_are_never_asked() {
    let packed = layer(&[("f", b"foreign")]);
    let image = Image::new("app", std::slice::from_ref(&packed));
    let elsewhere = Server::start(Shelf::default().with("v1", &image), |_| None).await;
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let url = format!("http://{}/v2/app/blobs/{}", elsewhere.name("app:v1").host(), digest(&packed.0));
    let manifest = String::from_utf8_lossy(&image.manifest).replace(
        &format!(r#""mediaType":"{GZIP}""#),
        &format!(r#""mediaType":"{foreign}","urls":["{url}"]"#),
    );
    assert!(manifest.contains(&url));
    let mut shelf = Shelf::default().with("v1", &image);
    shelf.add_manifest("v1", OCI_MANIFEST, manifest.clone().into());
    let server = Server::start(shelf, |_| None).await;
    let node = Node::new();
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert_eq!(node.file(&record, "f").as_deref(), Some("foreign"));

    let gone = digest(&packed.0);
    let mut shelf = Shelf::default().with("v1", &image);
    shelf.add_manifest("v1", OCI_MANIFEST, manifest.into());
    let server = Server::start(shelf, move |seen| {
        seen.path.contains(&gone).then(|| Reply::error(404, "BLOB_UNKNOWN", "no"))
    })
    .await;
    let error = Node::new().images.pull(&server.name("app:v1"), None, None).await.expect_err("is not there");
    assert!(error.chain().contains("never asked"), "{}", error.chain());
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_from_a_slow_registry_comes_in_parts_and_is_whole() {
    let large = layer(&[("large", &noise(24 << 20, 9))]);
    let image = Image::new("app", std::slice::from_ref(&large));
    let (name, content) = (digest(&large.0), large.0.clone());
    let server = Server::start(Shelf::default().with("v1", &image), move |seen| {
        let range = seen.path.contains(&name).then(|| seen.range.clone())?;
        Some(match range.and_then(|range| bounds(&range)) {
            // 25 MB a second.
            None => Reply {
                trickle: Some((256 << 10, Duration::from_millis(10))),
                ..Reply::new(200, content.clone())
            },
            Some((from, to)) => Reply::new(206, content.slice(from..=to))
                .with("content-range", format!("bytes {from}-{to}/{}", content.len())),
        })
    })
    .await;
    let node = Node::new();
    let record = node.images.pull(&server.name("app:v1"), None, None).await.expect("pull");
    assert_eq!(record.chain.len(), 1);
    let parts = server.seen().iter().filter(|seen| seen.range.is_some()).count();
    assert!(parts >= 16, "{parts} parts of one MiB");
}

/// `bytes=from-to`, both included.
fn bounds(range: &str) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn fetched(server: &Server, blob: &str) -> usize {
    server.seen().iter().filter(|seen| seen.path.contains(blob)).count()
}
