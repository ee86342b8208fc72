//! Artifacts: pulled, kept, checked, handed on and collected like images, and their blobs are files.

use crate::image::{Image, OCI_MANIFEST, descriptor, digest, layer, noise};
use crate::keep::trees::{blobs_are_whole, exactly, layer as tree};
use crate::node::{Node, Settings, metadata};
use crate::real::{REGISTRY, Registry};
use crate::server::{Server, Shelf};
use crate::transfer::{Archive, entry};
use bytes::Bytes;
use corten_images::ArchiveFormat::{Docker, Oci};
use corten_images::{Damaged, ImageRecord, Images, ImagesConfig, PackConfig, PackOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use types::{ErrorKind, Reference};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const NOTHING: &str = "application/vnd.oci.empty.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

/// An artifact of blobs: their media types, titles and contents.
fn artifact(blobs: &[(&str, Option<&str>, Bytes)]) -> Image {
    of(NOTHING, b"{}", r#""artifactType":"application/vnd.example","#, blobs)
}

fn of(kind: &str, config: &'static [u8], more: &str, blobs: &[(&str, Option<&str>, Bytes)]) -> Image {
    let layers: Vec<String> = blobs
        .iter()
        .map(|(kind, title, blob)| {
            let plain = descriptor(kind, &digest(blob), blob.len());
            match title {
                None => plain,
                Some(title) => {
                    let title = serde_json::to_string(title).expect("JSON");
                    format!(r#"{},"annotations":{{"{TITLE}":{title}}}}}"#, &plain[..plain.len() - 1])
                }
            }
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",{more}"config":{},"layers":[{}],"annotations":{{"org.opencontainers.image.created":"2026-01-31T00:00:00Z"}}}}"#,
        descriptor(kind, &digest(config), config.len()),
        layers.join(",")
    );
    let mut all = vec![(digest(config), Bytes::from_static(config))];
    all.extend(blobs.iter().map(|(_, _, blob)| (digest(blob), blob.clone())));
    Image {
        manifest: manifest.into(),
        manifest_type: OCI_MANIFEST.into(),
        config: Bytes::from_static(config),
        blobs: all,
    }
}

fn tar(name: &str, content: &[u8]) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    archive.append_data(&mut header, name, content).expect("append");
    archive.into_inner().expect("archive").into()
}

/// What `oras push` and its kin make, all in one.
fn model() -> Image {
    artifact(&[
        ("application/json", Some("models/llm/config.json"), Bytes::from_static(b"{\"a\":1}")),
        ("application/octet-stream", Some("models/llm/weights"), noise(700_000, 3).into()),
        (GZIP, Some("folder"), layer(&[("tree/inside", b"inside"), ("tree/notes.txt", b"old")]).0),
        (PLAIN, Some("tree/notes.txt"), Bytes::from_static(b"no archive")),
        (PLAIN, Some("data.tar"), tar("from-tar", b"unpacked")),
        ("text/plain", None, Bytes::from_static(b"nameless")),
        (NOTHING, None, Bytes::from_static(b"{}")),
    ])
}

async fn served(image: &Image) -> Server {
    Server::start(Shelf::default().with("v1", image), |_| None).await
}

async fn pulled(node: &Node, server: &Server) -> ImageRecord {
    node.images.pull(&server.name("app:v1"), None, None).await.unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// The text of a pull's error; nothing may be left of it.
async fn refused(image: &Image) -> String {
    let (server, node) = (served(image).await, Node::new());
    let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err("was accepted");
    assert!(node.images.list().is_empty() && node.content("ingest").is_empty());
    node.images.collect().await.expect("collect");
    assert!(node.content("blobs/sha256").is_empty());
    assert!(node.snapshotter.layers().expect("layers").is_empty());
    error.chain()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_is_pulled_and_listed_and_its_blobs_are_files_under_their_titles() {
    for (snapshotter, discard) in
        [("overlayfs", false), ("native", false), ("overlayfs", true), ("native", true)]
    {
        let image = model();
        let (server, node) =
            (served(&image).await, Node::with(Settings { snapshotter, discard, ..Settings::default() }));
        let record = pulled(&node, &server).await;
        let manifest = digest(&image.manifest);
        assert!(record.is_artifact());
        assert_eq!((record.id.as_str(), record.manifest.as_str()), (manifest.as_str(), manifest.as_str()));
        assert_eq!(record.names, [server.name("app:v1").to_string()]);
        assert_eq!(record.digests, [format!("{}/app@{manifest}", server.addr)]);
        assert_eq!(record.created.as_deref(), Some("2026-01-31T00:00:00Z"));
        let bytes: usize = image.blobs.iter().map(|(_, blob)| blob.len()).sum();
        assert_eq!(record.size, bytes as u64);
        let nameless = format!("sha256-{}", &digest(b"nameless")[7..]);
        for (path, content) in [
            ("models/llm/config.json", "{\"a\":1}"),
            ("tree/inside", "inside"),
            ("tree/notes.txt", "no archive"),
            ("from-tar", "unpacked"),
            (nameless.as_str(), "nameless"),
        ] {
            assert_eq!(node.file(&record, path).as_deref(), Some(content), "{snapshotter} {discard} {path}");
        }
        assert!(node.file(&record, "folder").is_none() && node.file(&record, "data.tar").is_none());
        let place = tree(&node, &record.chain[1]);
        assert!(std::fs::read(place.join("models/llm/weights")).expect("read") == noise(700_000, 3));
        for (path, mode) in [("models/llm/weights", 0o100644), ("models/llm", 0o40755), ("models", 0o40755)] {
            let meta = std::fs::symlink_metadata(place.join(path)).expect(path);
            assert_eq!((meta.mode(), meta.uid(), meta.gid(), meta.mtime()), (mode, 0, 0, 0), "{path}");
        }
        assert_eq!(record.chain.len(), 7);
        let kept = if discard { 2 } else { 2 + 6 };
        assert_eq!(node.content("blobs/sha256").len(), kept, "the configuration is a layer, too");
        // Nothing changed: one question.
        let requests = server.seen().len();
        assert_eq!(pulled(&node, &server).await, record);
        assert_eq!(server.seen().len(), requests + 1);
        exactly(&node, &node.images.list(), &[]);
        blobs_are_whole(&node);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_is_removed_goes_with_all_that_is_its_own_once_no_container_holds_it() {
    for snapshotter in ["overlayfs", "native"] {
        let image = model();
        let (server, node) =
            (served(&image).await, Node::with(Settings { snapshotter, ..Settings::default() }));
        let record = pulled(&node, &server).await;
        let node = node.restarted();
        assert_eq!(node.images.list().len(), 1, "it is recorded");
        let name = server.name("app:v1").to_string();
        assert!(node.images.hold_volumes("c1", std::slice::from_ref(&name)).is_ok());
        node.images.remove(&name).await.expect("remove");
        assert!(node.images.list().is_empty());
        assert_eq!(node.file(&record, "tree/inside").as_deref(), Some("inside"), "it is mounted somewhere");
        exactly(&node, &[], &record.chain);
        node.images.release("c1");
        node.images.collect().await.expect("collect");
        exactly(&node, &[], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_title_is_refused_with_its_blob_before_anything_is_fetched() {
    let long = "a".repeat(256);
    let huge = "a/".repeat(1 << 20) + "a";
    for (title, word) in [
        ("..", "no name"),
        ("../../etc/cron.d/x", "no name"),
        ("a/../../b", "no name"),
        ("/etc/passwd", "relative path"),
        ("a\0b", "control characters"),
        ("a\nb", "control characters"),
        (".wh.x", "whiteout"),
        ("a/.wh..wh..opq", "whiteout"),
        ("a/", "empty component"),
        (long.as_str(), "255"),
        (huge.as_str(), "4095"),
    ] {
        for kind in ["text/plain", PLAIN] {
            let blob = Bytes::from_static(b"hostile");
            let image = artifact(&[
                ("text/plain", Some("fine"), Bytes::from_static(b"x")),
                (kind, Some(title), blob.clone()),
            ]);
            let (server, node) = (served(&image).await, Node::new());
            let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err(word);
            let text = error.chain();
            assert!(text.contains(word) && text.contains(&digest(&blob)), "{word}: {text}");
            assert!(text.len() < 1000 && !text.contains(char::is_control), "{text}");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert_eq!(server.count("GET", "/blobs/"), 0);
            assert!(node.content("blobs/sha256").is_empty());
        }
    }
    for (one, other) in [("x", "x"), ("x", "./x"), ("x", "x/y"), ("x/y", "x")] {
        let image = artifact(&[
            ("text/plain", Some(one), Bytes::from_static(b"1")),
            ("text/plain", Some(other), Bytes::from_static(b"2")),
        ]);
        let text = refused(&image).await;
        assert!(text.contains(&digest(b"1")) && text.contains(&digest(b"2")), "{text}");
    }
    let mut lone = artifact(&[("text/plain", Some("TITLE"), Bytes::from_static(b"1"))]);
    lone.manifest = String::from_utf8_lossy(&lone.manifest).replace("TITLE", "\\ud800").into();
    assert!(refused(&lone).await.contains("not JSON"), "a title is text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_not_what_its_manifest_says_never_becomes_a_file() {
    let content = noise(300_000, 5);
    let blob = Bytes::from(content.clone());
    let name = digest(&blob);
    let mut other = content.clone();
    other[299_999] ^= 1;
    let short = content[..299_000].to_vec();
    let long = [content.clone(), vec![0; 1]].concat();
    for kind in ["text/plain", PLAIN] {
        let image = artifact(&[(kind, Some("file"), blob.clone())]);
        for wrong in [&other, &short, &long] {
            let mut shelf = Shelf::default().with("v1", &image);
            shelf.put_blob(&name, wrong.clone());
            let (server, node) = (Server::start(shelf, |_| None).await, Node::new());
            let error = node.images.pull(&server.name("app:v1"), None, None).await.expect_err("wrong");
            assert!(error.chain().contains(&name), "{}", error.chain());
            assert!(node.images.list().is_empty() && node.content("ingest").is_empty());
            assert!(node.snapshotter.layers().expect("layers").is_empty());
        }
    }
    // An archive is one by its type, and then it has to be one.
    let image = artifact(&[(GZIP, Some("x.tar.gz"), blob)]);
    assert!(refused(&image).await.contains(&name));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_layers_hold_for_files_before_they_are_fetched() {
    let image = artifact(&[
        ("text/plain", Some("a"), noise(60_000, 7).into()),
        ("text/plain", Some("b"), noise(60_000, 8).into()),
        (PLAIN, Some("c"), noise(60_000, 9).into()),
    ]);
    for (each, all, word) in
        [(50_000, 1 << 30, "max_layer_bytes"), (1 << 30, 150_000, "max_image_bytes"), (1 << 30, 1 << 30, "")]
    {
        let (server, dir) = (served(&image).await, tempfile::tempdir_in("/var/tmp").expect("temp dir"));
        let config = ImagesConfig {
            unpack: layers::UnpackLimits { max_bytes: each, ..layers::UnpackLimits::DEFAULT },
            max_image_bytes: all,
            ..ImagesConfig::new(dir.path())
        };
        let snapshotter = snapshots::open("overlayfs", &dir.path().join("snapshots")).expect("snapshots");
        let images = Images::open(config, Arc::new(metadata(dir.path())), snapshotter).expect("images");
        match images.pull(&server.name("app:v1"), None, None).await {
            Ok(_) => assert_eq!(word, ""),
            Err(error) => {
                assert!(!word.is_empty() && error.chain().contains(word), "{word}: {}", error.chain());
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
                let blobs = server.seen().iter().filter(|seen| seen.path.contains("/blobs/")).count();
                assert!(blobs <= 1, "the configuration at most");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_image_can_claim_the_layers_of_an_artifact() {
    let file = artifact(&[("text/plain", Some("secret"), Bytes::from_static(b"secret"))]);
    let server = served(&file).await;
    let node = Node::new();
    let record = pulled(&node, &server).await;
    assert_eq!(record.chain[0].algorithm(), types::digest::Algorithm::Sha512);
    let (blob, _) = layer(&[("own", b"own")]);
    let thief = Image::new("thief", &[(blob, record.chain[0].to_string())]);
    let other = served(&thief).await;
    let error = node.images.pull(&other.name("app:v1"), None, None).await.expect_err("a stolen layer");
    assert!(error.chain().contains("only sha256"), "{}", error.chain());
    assert_eq!(node.images.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_with_a_configuration_of_a_platform_alone_are_a_volume() {
    // KEP-4639, "Example using ORAS".
    let layers = [layer(&[("dir/file", b"layer0")]).0, layer(&[("file", b"layer1")]).0];
    let blobs: Vec<_> = layers.iter().map(|blob| (GZIP, Some("layer.tar"), blob.clone())).collect();
    let kind = "application/vnd.oci.image.config.v1+json";
    let image = of(kind, br#"{"architecture":"amd64","os":"linux"}"#, "", &blobs);
    let (server, node) = (served(&image).await, Node::new());
    let record = pulled(&node, &server).await;
    assert!(record.is_artifact());
    assert_eq!(node.file(&record, "dir/file").as_deref(), Some("layer0"));
    assert_eq!(node.file(&record, "file").as_deref(), Some("layer1"));
    assert!(node.images.check(&[], false, None, None).await.expect("check").damages.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_damage_in_files_and_blobs_and_repairs_it() {
    for (snapshotter, discard) in [("overlayfs", false), ("native", false), ("overlayfs", true)] {
        let image = model();
        let (server, node) =
            (served(&image).await, Node::with(Settings { snapshotter, discard, ..Settings::default() }));
        let record = pulled(&node, &server).await;
        let report = node.images.check(&[], false, None, None).await.expect("check");
        assert!(report.damages.is_empty(), "{snapshotter} {discard}: {:?}", report.damages);
        assert_eq!(report.layers + report.measured, 7);
        assert!(discard || report.measured == 0, "the kept ones are compared byte by byte");
        let file = tree(&node, &record.chain[1]).join("models/llm/weights");
        if discard {
            std::fs::remove_file(&file).expect("remove");
        } else {
            let open = std::fs::File::options().write(true).open(&file).expect("open");
            open.write_all_at(&[!noise(700_000, 3)[99]], 99).expect("write");
            open.set_times(std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).expect("times");
        }
        let report = node.images.check(&[], false, None, None).await.expect("check");
        let damage = &report.damages[0];
        assert_eq!((damage.part, &damage.digest), (Damaged::Layer, &record.chain[1]), "{snapshotter}");
        assert!(
            discard || damage.what == "/models/llm/weights has other content from byte 99 on",
            "{damage:?}"
        );
        let requests = server.seen().len();
        let report = node.images.check(&[], true, None, None).await.expect("repair");
        assert!(report.damages.iter().all(|damage| damage.repaired), "{snapshotter}: {:?}", report.damages);
        assert!(std::fs::read(&file).expect("read") == noise(700_000, 3));
        assert_eq!(server.seen().len() == requests, !discard, "a kept blob is enough");
        if !discard {
            let blob = node.root.join("content/blobs/sha256").join(&digest(&noise(700_000, 3))[7..]);
            std::fs::remove_file(&blob).expect("remove");
            let report = node.images.check(&[], true, None, None).await.expect("repair");
            assert!(report.damages.len() == 1 && report.damages[0].repaired, "{:?}", report.damages);
            blobs_are_whole(&node);
        }
        assert!(node.images.check(&[], false, None, None).await.expect("check").damages.is_empty());
        node.images.collect().await.expect("collect");
        exactly(&node, &node.images.list(), &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_goes_out_as_a_layout_and_comes_back_and_is_told_in_full() {
    let image = model();
    let (server, node) = (served(&image).await, Node::new());
    let record = pulled(&node, &server).await;
    let name = record.names[0].clone();
    let archive = node.export(&[&name], Oci).await.expect("export");
    let other = Node::with(Settings { snapshotter: "native", ..Settings::default() });
    let imported = other.import(&archive).await.expect("import");
    assert_eq!((&imported[0].id, &imported[0].names), (&record.id, &record.names));
    let back = other.images.find(&name).expect("found");
    assert_eq!((&back.chain, back.size), (&record.chain, record.size));
    assert_eq!(other.file(&back, "models/llm/config.json").as_deref(), Some("{\"a\":1}"));
    assert_eq!(other.export(&[&name], Oci).await.expect("again"), archive);
    let error = node.export(&[&name], Docker).await.expect_err("no such form");
    assert!(error.chain().contains("artifact") && error.chain().contains("oci-archive"), "{}", error.chain());
    let details = node.images.details(&record).await.expect("details");
    assert_eq!(details.artifact_type.as_deref(), Some("application/vnd.example"));
    assert_eq!(details.manifest.digest, record.manifest);
    let chain: Vec<_> = details.layers.iter().map(|layer| layer.chain.clone()).collect();
    assert_eq!(chain, record.chain);
    assert!(details.layers.iter().all(|layer| layer.diff_id.is_none() && layer.unpacked.is_some()));
    let (blob, diff_id) = layer(&[("a", b"1")]);
    let stored = node.images.store_layer(crate::transfer::incoming(&blob)).await.expect("stored");
    let options = PackOptions {
        name: Reference::parse("packed:1").expect("name"),
        base: Some(name),
        created: None,
        created_by: "test".into(),
        config: PackConfig::default(),
    };
    let diff_id = types::Digest::parse(&diff_id).expect("digest");
    let error = node.images.pack(stored, diff_id, options).await.expect_err("no base");
    assert!(error.chain().contains("is an artifact"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_is_pushed_byte_for_byte() {
    if !std::path::Path::new(REGISTRY).is_file() {
        eprintln!("skipped: docker-registry is not installed");
        return;
    }
    let registry = Registry::start().await;
    let (image, node) = (model(), Node::new());
    let name = format!("{}/team/model:1", registry.addr);
    node.import(&Archive::of(&image, &name).bytes()).await.expect("import");
    let pushed = node.images.push(&name, None, None, None).await.expect("push");
    assert_eq!(pushed.digest.as_str(), digest(&image.manifest));
    let other = Node::new();
    let reference = Reference::parse(&name).expect("name");
    let record = other.images.pull(&reference, None, None).await.expect("pull");
    assert_eq!(record.id.as_str(), digest(&image.manifest));
    assert_eq!(other.file(&record, "tree/notes.txt").as_deref(), Some("no archive"));
}

#[tokio::test]
async fn of_artifacts_beside_an_image_those_with_names_of_their_own_are_taken_in() {
    let image = Image::small("app");
    let blob = |text: &'static str| [("text/plain", Some("file"), Bytes::from_static(text.as_bytes()))];
    let (named, nameless) = (artifact(&blob("named")), artifact(&blob("nameless")));
    let about =
        format!(r#""subject":{},"#, descriptor(OCI_MANIFEST, &digest(&image.manifest), image.manifest.len()));
    let signature = of(NOTHING, b"{}", &about, &blob("signature"));
    let all = Archive::default().blobs(&image).blobs(&named).blobs(&nameless).blobs(&signature).layout(&[
        entry(OCI_MANIFEST, &image.manifest, Some("docker.io/library/app:1")),
        entry(OCI_MANIFEST, &named.manifest, Some("docker.io/library/rules:1")),
        entry(OCI_MANIFEST, &nameless.manifest, None),
        entry(OCI_MANIFEST, &signature.manifest, Some("docker.io/library/app:signature")),
    ]);
    let node = Node::new();
    let imported = node.import(&all.bytes()).await.expect("import");
    let ids: Vec<&str> = imported.iter().map(|image| image.id.as_str()).collect();
    assert_eq!(ids, [image.id().as_str(), digest(&named.manifest).as_str()]);
    let alone = Archive::default().blobs(&nameless).layout(&[entry(OCI_MANIFEST, &nameless.manifest, None)]);
    let imported = node.import(&alone.bytes()).await.expect("alone");
    assert_eq!(imported[0].id.as_str(), digest(&nameless.manifest));
}
