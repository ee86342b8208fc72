//! What an archive becomes: the same image as from a registry, under the names that it says.

use super::{Archive, docker_save, entry, gzip, named};
use crate::image::{Image, OCI_INDEX, OCI_MANIFEST, descriptor, digest, layer, noise};
use crate::node::{Node, Settings};
use bytes::Bytes;
use corten_images::ImportOptions;
use std::io::Read;

fn plain(layer: &Bytes) -> Bytes {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut tar).expect("gzip");
    tar.into()
}

#[tokio::test]
async fn an_image_layout_becomes_an_image_under_its_own_name_and_every_blob_is_kept() {
    let node = Node::new();
    let image =
        Image::new("app", &[layer(&[("a", b"below")]), layer(&[("a", b"above"), ("b", &noise(200_000, 3))])]);
    let imported =
        node.import(&Archive::of(&image, "docker.io/library/app:1").bytes()).await.expect("import");
    assert_eq!(imported.len(), 1);
    assert_eq!(imported[0].id.as_str(), image.id());
    assert_eq!(imported[0].names, ["docker.io/library/app:1"]);
    assert_eq!(imported[0].digest.as_str(), digest(&image.manifest));
    let record = node.images.find("app:1").expect("found by name");
    let found = node.images.find(&format!("app@{}", digest(&image.manifest))).expect("found by digest");
    assert_eq!(found.id, record.id);
    assert_eq!(record.config.cmd, ["/app"]);
    assert_eq!(node.file(&record, "a").as_deref(), Some("above"));
    assert_eq!(node.content("blobs/sha256").len(), 4, "manifest, configuration and two layers");
    let node = node.restarted();
    let record = node.images.find("app:1").expect("still there");
    assert_eq!(node.file(&record, "a").as_deref(), Some("above"));
}

#[tokio::test]
async fn compressed_archives_and_any_order_of_files_are_taken() {
    let image = Image::small("app");
    let first = Archive::default()
        .layout(&[entry(OCI_MANIFEST, &image.manifest, Some("app:1"))])
        .blobs(&image)
        .file("unknown", "is no harm");
    let zstd = zstd::encode_all(&first.bytes()[..], 1).expect("zstd");
    for archive in [first.bytes(), gzip(&first.bytes()), zstd, Archive::of(&image, "app:1").bytes()] {
        let node = Node::new();
        assert_eq!(node.import(&archive).await.expect("import")[0].id.as_str(), image.id());
        node.images.collect().await.expect("collect");
        assert_eq!(node.content("blobs/sha256").len(), 3, "what is no part of the image does not stay");
    }
}

#[tokio::test]
async fn what_docker_saves_is_taken_with_links_in_place_of_repeated_layers() {
    let node = Node::new();
    let (one, two) = (layer(&[("a", b"1")]), layer(&[("b", b"2")]));
    let layers = [one.clone(), two.clone(), one.clone()];
    let image = Image::new("app", &layers);
    let files = [("l1", plain(&one.0)), ("l2", plain(&two.0)), ("l3", plain(&one.0))];
    let archive = docker_save(&image, &files, &["app:1", "localhost:5000/other:2"]);
    let imported = node.import(&archive.bytes()).await.expect("import");
    assert_eq!(imported[0].names, ["docker.io/library/app:1", "localhost:5000/other:2"]);
    assert_eq!(imported[0].id.as_str(), image.id(), "an image is known by its configuration");
    let record = node.images.find("localhost:5000/other:2").expect("found");
    assert_eq!(record.chain.len(), 3);
    assert_eq!(node.file(&record, "b").as_deref(), Some("2"));
    let again = Node::new();
    let second = again.import(&archive.bytes()).await.expect("import");
    assert_eq!(second[0].digest, imported[0].digest, "the manifest that is made is always the same");
}

#[tokio::test]
async fn layers_of_a_docker_archive_may_be_compressed_and_linked_hard() {
    let node = Node::new();
    let one = layer(&[("a", b"1")]);
    let image = Image::new("app", &[one.clone(), one.clone()]);
    let config = digest(&image.config).replace("sha256:", "");
    let archive = Archive::default()
        .file("a.tar.gz", one.0.clone())
        .hardlink("sub/b.tar.gz", "a.tar.gz")
        .file(&config, image.config.clone())
        .file(
            "manifest.json",
            format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":["a.tar.gz","./sub/b.tar.gz"]}}]"#),
        );
    let imported = node.import(&archive.bytes()).await.expect("import");
    assert!(imported[0].names.is_empty());
    let record = node.images.find(&image.id()).expect("known by its id alone");
    assert_eq!(record.chain.len(), 2);
    let named = node.import_as(&archive.bytes(), named("app:named")).await.expect("import");
    assert_eq!(named[0].names, ["docker.io/library/app:named"]);
    assert_eq!(node.images.list().len(), 1);
}

#[tokio::test]
async fn an_index_leads_to_the_image_for_this_machine_and_keeps_its_digest() {
    let node = Node::new();
    let image = Image::small("app");
    let index = image.index();
    let archive = Archive::default().blobs(&image).blob(&index).layout(&[entry(
        OCI_INDEX,
        &index,
        Some("registry.example/app:1"),
    )]);
    let imported =
        node.import(&archive.bytes()).await.expect("the other platform is not in the archive, which is fine");
    assert_eq!(imported[0].digest.as_str(), digest(&index));
    let by_digest = format!("registry.example/app@{}", digest(&index));
    assert_eq!(node.images.find(&by_digest).expect("found").id.as_str(), image.id());
}

#[tokio::test]
async fn a_layout_without_names_whose_images_are_for_several_platforms_is_one_image() {
    let node = Node::new();
    let (own, other) = (Image::small("own"), Image::small("other"));
    let platform = |image: &Image, os: &str| {
        let plain = descriptor(OCI_MANIFEST, &digest(&image.manifest), image.manifest.len());
        let arch = crate::image::architecture();
        format!(r#"{},"platform":{{"os":"{os}","architecture":"{arch}"}}}}"#, &plain[..plain.len() - 1])
    };
    let archive = Archive::default()
        .blobs(&other)
        .blobs(&own)
        .layout(&[platform(&other, "plan9"), platform(&own, "linux")]);
    let imported = node.import_as(&archive.bytes(), named("multi:1")).await.expect("import");
    assert_eq!(imported.len(), 1);
    assert_eq!(imported[0].id.as_str(), own.id());
    let foreign = Archive::default()
        .blobs(&other)
        .blobs(&own)
        .layout(&[platform(&other, "plan9"), platform(&own, "windows")]);
    let error = Node::new().refused(&foreign.bytes(), "linux/").await;
    assert!(error.chain().contains("plan9/"), "{}", error.chain());
}

#[tokio::test]
async fn one_of_several_images_is_selected_and_a_name_for_several_is_refused() {
    let (a, b) = (Image::small("a"), Image::small("b"));
    let archive = Archive::default().blobs(&a).blobs(&b).layout(&[
        entry(OCI_MANIFEST, &a.manifest, Some("docker.io/library/a:1")),
        entry(OCI_MANIFEST, &b.manifest, Some("docker.io/library/b:1")),
        entry(OCI_MANIFEST, &b.manifest, Some("docker.io/library/c:1")),
    ]);
    let node = Node::new();
    let all = node.import(&archive.bytes()).await.expect("all");
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].names, ["docker.io/library/b:1", "docker.io/library/c:1"]);
    let node = Node::new();
    let error = node.import_as(&archive.bytes(), named("x")).await.expect_err("which one?");
    assert!(error.chain().contains("--select") && error.chain().contains("a:1"), "{}", error.chain());
    let select = |name: &str| ImportOptions { select: Some(name.into()), ..named("x:2") };
    let one = node.import_as(&archive.bytes(), select("c:1")).await.expect("in any spelling");
    assert_eq!((one.len(), one[0].id.as_str()), (1, b.id().as_str()));
    assert_eq!(one[0].names, ["docker.io/library/x:2"]);
    assert_eq!(node.images.list().len(), 1);
    let error = node.import_as(&archive.bytes(), select("d:1")).await.expect_err("not there");
    assert!(error.chain().contains("b:1"), "{}", error.chain());
}

#[tokio::test]
async fn artifacts_beside_images_are_passed_over_and_an_archive_of_nothing_else_is_refused() {
    let image = Image::small("app");
    let config = descriptor("application/vnd.dev.cosign.artifact.sig.v1+json", &digest(b"{}"), 2);
    let signature: Bytes = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#).into();
    let both = Archive::default().blobs(&image).blob(&signature).layout(&[
        entry(OCI_MANIFEST, &image.manifest, Some("app:1")),
        entry(OCI_MANIFEST, &signature, Some("app:signature")),
    ]);
    let node = Node::new();
    let imported = node.import(&both.bytes()).await.expect("the image");
    assert_eq!((imported.len(), imported[0].id.as_str()), (1, image.id().as_str()));
    let alone =
        Archive::default().blob(&signature).layout(&[entry(OCI_MANIFEST, &signature, Some("app:signature"))]);
    node.refused(&alone.bytes(), "which is no container image").await;
}

#[tokio::test]
async fn other_platforms_are_kept_where_that_is_asked_for() {
    let (own, other) = (Image::small("own"), Image::small("other"));
    let of = |image: &Image, os: &str, arch: &str| {
        let plain = descriptor(OCI_MANIFEST, &digest(&image.manifest), image.manifest.len());
        format!(r#"{},"platform":{{"os":"{os}","architecture":"{arch}"}}}}"#, &plain[..plain.len() - 1])
    };
    let index: Bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{},{}]}}"#,
        of(&own, "linux", crate::image::architecture()),
        of(&other, "plan9", "mips")
    )
    .into();
    let archive = Archive::default().blobs(&own).blobs(&other).blob(&index).layout(&[entry(
        OCI_INDEX,
        &index,
        Some("app:1"),
    )]);
    for (all, kept) in [(false, 4), (true, 7)] {
        let node = Node::new();
        let options = ImportOptions { all_platforms: all, ..ImportOptions::default() };
        node.import_as(&archive.bytes(), options).await.expect("import");
        node.images.collect().await.expect("collect");
        assert_eq!(node.content("blobs/sha256").len(), kept, "all_platforms: {all}");
        let record = node.images.find("app:1").expect("found");
        assert_eq!(record.id.as_str(), own.id());
        node.images.remove("app:1").await.expect("remove");
        assert!(node.content("blobs/sha256").is_empty());
    }
}

#[tokio::test]
async fn all_snapshotters_take_archives_and_discarding_keeps_no_layer() {
    for snapshotter in ["overlayfs", "native"] {
        let node = Node::with(Settings { snapshotter, discard: true, ..Settings::default() });
        let image = Image::new("app", &[layer(&[("a", b"1")]), layer(&[("b", b"2")])]);
        node.import(&Archive::of(&image, "app:1").bytes()).await.expect(snapshotter);
        let record = node.images.find("app:1").expect("found");
        assert_eq!(node.file(&record, "b").as_deref(), Some("2"), "{snapshotter}");
        node.images.collect().await.expect("collect");
        assert_eq!(node.content("blobs/sha256").len(), 2, "{snapshotter}: manifest and configuration");
    }
}

#[tokio::test]
async fn an_import_whose_caller_goes_away_leaves_nothing() {
    let node = Node::new();
    let image = Image::new("app", &[layer(&[("a", &noise(300_000, 5))])]);
    let archive = Archive::of(&image, "app:1").bytes();
    let half = super::incoming(&archive[..archive.len() / 2]);
    let error = node.images.import(half, ImportOptions::default(), None).await.expect_err("half an archive");
    assert!(error.chain().contains("cannot read the archive"), "{}", error.chain());
    let (send, receive) = tokio::sync::mpsc::channel(4);
    send.send(Ok(Bytes::copy_from_slice(&archive[..4096]))).await.expect("send");
    send.send(Err(corten_images::broken_off("connection reset"))).await.expect("send");
    let error = node.images.import(receive, ImportOptions::default(), None).await.expect_err("broken off");
    assert_eq!(error.chain(), "the archive did not arrive whole: connection reset");
    assert!(node.images.list().is_empty());
    node.images.collect().await.expect("collect");
    assert!(node.content("ingest").is_empty() && node.content("blobs/sha256").is_empty());
}
