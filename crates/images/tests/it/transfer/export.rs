//! What goes out is byte for byte what came in.

use super::{Archive, entry};
use crate::image::{Image, OCI_INDEX, digest, layer, noise};
use crate::node::{Node, Settings};
use corten_images::ArchiveFormat::{Docker, Oci};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;
use types::ErrorKind;

/// The files of an archive.
fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("entries") {
        let mut entry = entry.expect("entry");
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("data");
        let name = entry.path().expect("path").display().to_string();
        assert_eq!(entry.header().mtime().expect("time"), 0, "{name}");
        assert!(files.insert(name.clone(), data).is_none(), "{name} is there once");
    }
    files
}

fn app() -> Image {
    let big = noise(300_000, 9);
    Image::new("app", &[layer(&[("a", b"1")]), layer(&[("b", &big)]), layer(&[("a", b"1")])])
}

#[tokio::test]
async fn a_layout_has_every_byte_of_the_image_and_is_the_same_each_time() {
    let node = Node::new();
    let image = app();
    let index = image.index();
    let archive = Archive::default().blobs(&image).blob(&index).layout(&[entry(
        OCI_INDEX,
        &index,
        Some("registry.example/app:1"),
    )]);
    node.import(&archive.bytes()).await.expect("import");
    let exported = node.export(&["registry.example/app:1"], Oci).await.expect("export");
    assert_eq!(exported, node.export(&["registry.example/app:1"], Oci).await.expect("again"));
    let files = files(&exported);
    let blob = |content: &[u8]| files.get(&format!("blobs/{}", digest(content).replace(':', "/"))).cloned();
    assert_eq!(blob(&index).as_deref(), Some(&index[..]));
    assert_eq!(blob(&image.manifest).as_deref(), Some(&image.manifest[..]));
    for (_, content) in &image.blobs {
        assert_eq!(blob(content).as_deref(), Some(&content[..]));
    }
    assert_eq!(
        files.len(),
        2 + 2 + 3,
        "marker, index, two documents, a configuration, and the two layers that differ"
    );
    let other = Node::new();
    let imported = other.import(&exported).await.expect("import elsewhere");
    assert_eq!(imported[0].names, ["registry.example/app:1"]);
    assert_eq!(imported[0].digest.as_str(), digest(&index), "a pod that names the digest finds it");
    assert_eq!(other.export(&["registry.example/app:1"], Oci).await.expect("export"), exported);
}

#[tokio::test]
async fn a_docker_archive_has_the_layers_without_compression_and_can_be_taken_in_again() {
    let node = Node::new();
    let image = app();
    node.import(&Archive::of(&image, "app:1").bytes()).await.expect("import");
    let exported = node.export(&["app:1"], Docker).await.expect("export");
    let files = files(&exported);
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).expect("JSON");
    assert_eq!(manifest[0]["RepoTags"][0], "docker.io/library/app:1");
    let config = manifest[0]["Config"].as_str().expect("text");
    assert_eq!(files[config], image.config);
    let layers = manifest[0]["Layers"].as_array().expect("list");
    assert_eq!(layers.len(), 3);
    for name in layers {
        let name = name.as_str().expect("text");
        assert_eq!(digest(&files[name]), format!("sha256:{}", name.replace(".tar", "")));
    }
    assert_eq!(files.len(), 4, "a repeated layer is there once");
    let other = Node::new();
    let imported = other.import(&exported).await.expect("import");
    assert_eq!(
        (imported[0].id.as_str(), &imported[0].names),
        (image.id().as_str(), &vec!["docker.io/library/app:1".to_owned()])
    );
}

/// A layer whose zstd stream asks for 16 MiB.
fn wide() -> Image {
    let (gzip, diff_id) = layer(&[("wide", &noise(1 << 20, 5))]);
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut tar).expect("gunzip");
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("zstd");
    zstd.window_log(24).expect("window");
    for part in tar.chunks(100_000) {
        zstd.write_all(part).expect("compress");
    }
    let blob = zstd.finish().expect("zstd");
    assert_eq!((blob[4] & 0x20, blob[5]), (0, (24 - 10) << 3), "its header says so");
    Image::new("wide", &[(blob.into(), diff_id)])
}

#[test]
fn layers_with_a_large_zstd_window_go_out_one_or_several_at_once() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let ended = runtime.block_on(async {
        let node = Node::new();
        node.import(&Archive::of(&wide(), "wide:1").bytes()).await.expect("import");
        let mut all = Vec::new();
        for count in [1, 4] {
            let exports = (0..count).map(|_| node.export(&["wide:1"], Docker));
            let exports = futures_util::future::join_all(exports);
            all.extend(tokio::time::timeout(Duration::from_secs(20), exports).await?);
        }
        Ok::<_, tokio::time::error::Elapsed>(all)
    });
    // Where it hangs, so does a thread of the runtime.
    runtime.shutdown_background();
    for exported in ended.expect("it ends") {
        assert!(exported.expect("export").len() > 1 << 20);
    }
}

#[tokio::test]
async fn several_images_share_an_archive_and_their_layers() {
    let shared = layer(&[("base", &noise(100_000, 1))]);
    let a = Image::new("a", &[shared.clone(), layer(&[("a", b"a")])]);
    let b = Image::new("b", &[shared.clone(), layer(&[("b", b"b")])]);
    let node = Node::new();
    node.import(&Archive::of(&a, "a:1").bytes()).await.expect("import");
    node.import(&Archive::of(&b, "b:1").bytes()).await.expect("import");
    for format in [Oci, Docker] {
        let exported = node.export(&["a:1", "b:1"], format).await.expect("export");
        assert!(exported.len() < 230_000, "the shared layer is there once: {}", exported.len());
        let other = Node::new();
        let names: Vec<_> =
            other.import(&exported).await.expect("import").into_iter().map(|i| i.names).collect();
        assert_eq!(names, [["docker.io/library/a:1"], ["docker.io/library/b:1"]]);
    }
    let by_id = node.export(&[&a.id()], Oci).await.expect("by id");
    let other = Node::new();
    assert_eq!(other.import(&by_id).await.expect("import")[0].names, ["docker.io/library/a:1"]);
}

#[tokio::test]
async fn what_is_not_here_or_not_kept_is_refused_before_the_first_byte_with_what_to_do() {
    let node = Node::with(Settings { discard: true, ..Settings::default() });
    let error = node.export(&["nothing:1"], Oci).await.expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    node.import(&Archive::of(&app(), "app:1").bytes()).await.expect("import");
    node.images.collect().await.expect("collect");
    let error = node.export(&["app:1"], Oci).await.expect_err("discarded");
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let text = error.chain();
    assert!(text.contains("only unpacked") && text.contains("discard_unpacked = false"), "{text}");
    assert!(text.contains("corten images check --repair docker.io/library/app:1"), "{text}");
}

#[tokio::test]
async fn a_damaged_blob_ends_the_archive_with_an_error_that_names_it() {
    let node = Node::new();
    let image = app();
    node.import(&Archive::of(&image, "app:1").bytes()).await.expect("import");
    let victim = &image.blobs[2].0;
    let path = node.root.join("content/blobs").join(victim.replace(':', "/"));
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[100_000] ^= 1;
    std::fs::write(&path, bytes).expect("damage");
    for format in [Oci, Docker] {
        let error = node.export(&["app:1"], format).await.expect_err("damaged");
        assert!(
            error.chain().contains(victim.as_str()) && error.chain().contains("damaged"),
            "{}",
            error.chain()
        );
    }
}

#[tokio::test]
async fn an_image_stays_until_its_export_has_ended() {
    let node = Node::new();
    let big = noise(6_000_000, 2);
    let image = Image::new("app", &[layer(&[("big", &big)])]);
    node.import(&Archive::of(&image, "app:1").bytes()).await.expect("import");
    let mut exported = node.images.export(&["app:1".to_owned()], Oci).await.expect("export");
    let mut archive = exported.parts.recv().await.expect("a part").expect("sound").to_vec();
    node.images.remove("app:1").await.expect("remove");
    while let Some(part) = exported.parts.recv().await {
        archive.extend_from_slice(&part.expect("the blobs are still there"));
    }
    assert_eq!(files(&archive).len(), 5);
}
