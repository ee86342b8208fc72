//! Layers that become images.

use super::{Archive, incoming};
use crate::image::{Image, digest, layer};
use crate::node::{Node, Settings};
use corten_images::ArchiveFormat::Oci;
use corten_images::{Imported, PackConfig, PackOptions};
use types::{Digest, ErrorKind, Reference, Result};

fn options(name: &str, base: Option<&str>) -> PackOptions {
    PackOptions {
        name: Reference::parse(name).expect("name"),
        base: base.map(str::to_owned),
        created: Some("1970-01-01T00:00:00Z".into()),
        created_by: "a test".into(),
        config: PackConfig {
            entrypoint: vec!["/run".into()],
            env: vec!["B=2".into()],
            ..PackConfig::default()
        },
    }
}

async fn pack(
    node: &Node,
    (blob, diff_id): &(bytes::Bytes, String),
    options: PackOptions,
) -> Result<Imported> {
    let stored = node.images.store_layer(incoming(blob)).await?;
    node.images.pack(stored, Digest::parse(diff_id)?, options).await
}

#[tokio::test]
async fn the_same_layer_with_the_same_options_is_the_same_image_everywhere() {
    let layer = layer(&[("run", b"1")]);
    let (one, two) = (Node::new(), Node::new());
    let first = pack(&one, &layer, options("app:1", None)).await.expect("pack");
    let second = pack(&two, &layer, options("app:1", None)).await.expect("pack");
    assert_eq!(first, second);
    assert_eq!(first.names, ["docker.io/library/app:1"]);
    let record = one.images.find("app:1").expect("found");
    assert_eq!(record.config.entrypoint, ["/run"]);
    assert!(
        record.config.env.iter().any(|v| v.starts_with("PATH=")) && record.config.env.contains(&"B=2".into())
    );
    assert_eq!(one.file(&record, "run").as_deref(), Some("1"));
    let exported = one.export(&["app:1"], Oci).await.expect("what is packed can be handed on");
    assert_eq!(two.import(&exported).await.expect("import")[0].digest, first.digest);
}

#[tokio::test]
async fn a_layer_lies_on_top_of_its_base_and_keeps_what_it_does_not_change() {
    let node = Node::new();
    let base = Image::new("base", &[layer(&[("a", b"base"), ("b", b"base")])]);
    node.import(&Archive::of(&base, "base:1").bytes()).await.expect("import");
    pack(&node, &layer(&[("a", b"new")]), options("app:1", Some("base:1"))).await.expect("pack");
    let record = node.images.find("app:1").expect("found");
    assert_eq!(record.chain.len(), 2);
    assert_eq!(node.file(&record, "a").as_deref(), Some("new"));
    assert_eq!(node.file(&record, "b").as_deref(), Some("base"));
    assert_eq!(record.config.env, ["NAME=base", "B=2"]);
    assert_eq!(record.config.user, "7", "the base's");
    assert!(record.config.cmd.is_empty(), "arguments of another program");
    node.images.remove("base:1").await.expect("remove");
    let node = node.restarted();
    let record = node.images.find("app:1").expect("still whole");
    assert_eq!(node.file(&record, "b").as_deref(), Some("base"), "it does not need the base's name");
    node.export(&["app:1"], Oci).await.expect("nor its record");
}

#[tokio::test]
async fn a_layer_that_would_leave_too_little_free_is_not_stored() {
    let node = Node::with(Settings { min_free: u64::MAX, ..Settings::default() });
    let (blob, _) = layer(&[("run", b"1")]);
    let error = node.images.store_layer(incoming(&blob)).await.expect_err("too little is free");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.chain().contains("images.min_free"), "{}", error.chain());
    assert!(node.content("ingest").is_empty() && node.content("blobs/sha256").is_empty());
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_sender_says_becomes_no_image() {
    let node = Node::new();
    let (blob, diff_id) = layer(&[("run", b"1")]);
    let error =
        pack(&node, &(blob.clone(), digest(b"x")), options("app:1", None)).await.expect_err("diff id");
    assert!(error.chain().contains("the image is broken"), "{}", error.chain());
    let garbage = (bytes::Bytes::from_static(b"no layer"), diff_id.clone());
    pack(&node, &garbage, options("app:1", None)).await.expect_err("no tar");
    let error =
        pack(&node, &(blob, diff_id), options("app:1", Some("nothing:1"))).await.expect_err("no base");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(node.images.list().is_empty());
    node.images.collect().await.expect("collect");
    assert!(node.content("blobs/sha256").is_empty() && node.content("ingest").is_empty());
}
