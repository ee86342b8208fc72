//! Registries and images that are not what they say.

use crate::image::{Image, OCI_INDEX, OCI_MANIFEST, descriptor, digest, layer, noise};
use crate::node::Node;
use crate::server::{Reply, Server, Shelf};
use bytes::Bytes;
use types::ErrorKind;

/// Pulls `app:v1` and gives the error; nothing of the image may be left but verified content.
async fn refused(shelf: Shelf) -> types::Error {
    let (server, node) = (Server::start(shelf, |_| None).await, Node::new());
    let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err("was accepted");
    assert!(node.images.list().is_empty() && node.content("ingest").is_empty());
    node.images.collect().await.expect("collect");
    assert!(node.content("blobs/sha256").is_empty());
    assert!(node.snapshotter.layers().expect("layers").is_empty());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_wrong_content_is_refused_and_never_committed() {
    let (good, evil) = (layer(&[("f", b"good")]), layer(&[("f", b"evil")]));
    let image = Image::new("app", std::slice::from_ref(&good));
    let mut shelf = Shelf::default().with("v1", &image);
    let mut same_length = good.0.to_vec();
    same_length[15] ^= 1;
    for content in [evil.0.clone(), same_length.into()] {
        shelf.put_blob(&digest(&good.0), content);
        let error = refused(shelf.clone()).await;
        assert!(error.chain().contains(&digest(&good.0)), "{}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_wrong_size_is_refused() {
    let good = layer(&[("f", &noise(200_000, 7))]);
    let image = Image::new("app", std::slice::from_ref(&good));
    for change in [-100_i64, -1, 1, 100] {
        let size = (good.0.len() as i64 + change) as usize;
        let manifest = String::from_utf8_lossy(&image.manifest)
            .replace(&format!("\"size\":{}", good.0.len()), &format!("\"size\":{size}"));
        let mut shelf = Shelf::default().with("v1", &image);
        shelf.add_manifest("v1", OCI_MANIFEST, manifest.into());
        let error = refused(shelf).await;
        assert!(error.chain().contains("bytes") && error.chain().contains("manifest"), "{}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_diff_id_is_wrong_is_refused() {
    let (one, two) = (layer(&[("f", b"1")]), layer(&[("f", b"2")]));
    let image = Image::new("app", &[(one.0, two.1)]);
    let error = refused(Shelf::default().with("v1", &image)).await;
    assert!(error.chain().contains("diff id"), "{}", error.chain());
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_none_is_refused() {
    let junk = Bytes::from(noise(5000, 9));
    let image = Image::new("app", &[(junk.clone(), digest(&junk))]);
    let error = refused(Shelf::default().with("v1", &image)).await;
    assert!(error.chain().contains(&digest(&junk)), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_confuse_are_refused_with_a_reason() {
    let image = Image::small("app");
    let text = String::from_utf8_lossy(&image.manifest).into_owned();
    let both = text.replacen('{', r#"{"manifests":[],"#, 1);
    let schema1 = r#"{"schemaVersion":1,"name":"x","fsLayers":[],"history":[],"signatures":[]}"#.to_owned();
    for (kind, manifest, word) in [
        (OCI_MANIFEST, both, "CVE-2021-41190"),
        (OCI_INDEX, text.clone(), "says of itself"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", schema1, "schema 1"),
        ("application/json", "{".to_owned(), "not JSON"),
    ] {
        let mut shelf = Shelf::default().with("v1", &image);
        shelf.add_manifest("v1", kind, manifest.into());
        let error = refused(shelf).await;
        assert!(error.chain().contains(word), "{word}: {}", error.chain());
        assert!(error.message().contains("app:v1"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_and_its_manifest_must_agree() {
    let image = Image::small("app");
    let index = String::from_utf8_lossy(&image.index()).into_owned();
    let own = descriptor(OCI_MANIFEST, &digest(&image.manifest), image.manifest.len());
    for (wrong, word) in [
        (own.replace(OCI_MANIFEST, OCI_INDEX), "says of itself"),
        (own.replace(&format!(":{}", image.manifest.len()), ":7"), "its index says 7"),
        (own.replace(&format!(":{}", image.manifest.len()), ":99999999"), "8388608"),
    ] {
        let own = &own[..own.len() - 1];
        let mut shelf = Shelf::default().with("x", &image);
        shelf.add_manifest("v1", OCI_INDEX, index.replace(own, &wrong[..wrong.len() - 1]).into());
        let error = refused(shelf).await;
        assert!(error.chain().contains(word), "{word}: {}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_and_manifest_must_name_the_same_number_of_layers() {
    let (one, two) = (layer(&[("f", b"1")]), layer(&[("g", b"2")]));
    let whole = Image::new("app", &[one.clone(), two.clone()]);
    let image = Image::of(whole.config, &[one.0]);
    let error = refused(Shelf::default().with("v1", &image)).await;
    assert!(error.chain().contains("lists 2 layers and its manifest 1"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_without_end_is_cut_off() {
    let server = Server::start(Shelf::default(), |_| {
        Some(Reply::new(200, vec![b' '; (8 << 20) + 1]).with("content-type", OCI_MANIFEST))
    })
    .await;
    let error = Node::new().images.pull(&server.name("app:v1"), None, None).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_falls_silent_ends_the_pull_in_time() {
    let image = Image::small("app");
    let server = Server::start(Shelf::default().with("v1", &image), |seen| {
        seen.path
            .contains("/manifests/")
            .then(|| Reply { delay: std::time::Duration::from_secs(60), ..Reply::default() })
    })
    .await;
    let error = Node::new().images.pull(&server.name("app:v1"), None, None).await.expect_err("silent");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.chain());
}
