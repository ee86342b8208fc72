//! Archives that are broken, or made to break something.

use super::{Archive, docker_save, entry, gzip};
use crate::image::{GZIP, Image, OCI_INDEX, OCI_MANIFEST, descriptor, digest, layer};
use crate::node::Node;
use bytes::Bytes;
use types::ErrorKind;

fn sound() -> (Image, Archive) {
    let image = Image::new("app", &[layer(&[("a", b"1")])]);
    let archive = Archive::of(&image, "app:1");
    (image, archive)
}

#[tokio::test]
async fn names_and_links_that_leave_the_archive_are_refused_and_make_no_file() {
    let node = Node::new();
    let outside = tempfile::tempdir().expect("temp dir");
    let target = outside.path().join("evil");
    for name in ["../evil", "blobs/../../evil", "/etc/evil", &target.display().to_string()] {
        let (_, archive) = sound();
        node.refused(&archive.file(name, "x").bytes(), "leads out of the archive").await;
    }
    for link in ["../../etc/shadow", "/etc/shadow"] {
        let (_, archive) = sound();
        node.refused(&archive.clone().symlink("a/layer.tar", link).bytes(), "leads out of the archive").await;
        node.refused(&archive.hardlink("a/layer.tar", link).bytes(), "leads out of the archive").await;
    }
    assert!(!target.exists());
}

#[tokio::test]
async fn links_in_a_ring_lead_nowhere_and_say_so() {
    let node = Node::new();
    let image = Image::small("app");
    let config = digest(&image.config).replace("sha256:", "");
    let archive = Archive::default()
        .symlink("a", "b")
        .symlink("b", "a")
        .file(&config, image.config.clone())
        .file("manifest.json", format!(r#"[{{"Config":"{config}","Layers":["a"]}}]"#));
    node.refused(&archive.bytes(), "has no layer \"a\"").await;
}

#[tokio::test]
async fn a_blob_that_is_not_what_its_name_says_is_refused() {
    let node = Node::new();
    let (image, archive) = sound();
    let hex = image.id().replace("sha256:", "");
    let archive = archive.without(&hex).file(&format!("blobs/sha256/{hex}"), "something else");
    node.refused(&archive.bytes(), "is damaged").await;
}

#[tokio::test]
async fn missing_blobs_are_named() {
    let node = Node::new();
    for at in 0..2 {
        let (image, archive) = sound();
        let hex = image.blobs[at].0.replace("sha256:", "");
        let error = node.refused(&archive.without(&hex).bytes(), &hex).await;
        assert!(error.chain().contains("archive"), "{}", error.chain());
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
    }
    let (image, archive) = sound();
    let manifest = digest(&image.manifest).replace("sha256:", "");
    node.refused(&archive.without(&manifest).bytes(), "it is not whole").await;
}

#[tokio::test]
async fn a_layer_whose_content_is_not_what_the_configuration_says_is_refused() {
    let node = Node::new();
    let image = Image::new("app", &[(layer(&[("a", b"1")]).0, digest(b"another"))]);
    node.refused(&Archive::of(&image, "app:1").bytes(), "the image is broken").await;
    let tar =
        super::docker_save(&Image::small("app"), &[("l", b"no tar at all".as_slice().into())], &["app:1"]);
    node.refused(&tar.bytes(), "cannot unpack layer").await;
}

#[tokio::test]
async fn sizes_that_do_not_agree_are_refused() {
    let node = Node::new();
    let (image, _) = sound();
    let wrong = descriptor(OCI_MANIFEST, &digest(&image.manifest), image.manifest.len() + 1);
    let archive = Archive::default().blobs(&image).layout(&[wrong]);
    node.refused(&archive.bytes(), "and the archive says").await;
    let config = descriptor("application/vnd.oci.image.config.v1+json", &image.id(), image.config.len());
    let (layer, _) = (&image.blobs[1].1, ());
    let short = descriptor(GZIP, &digest(layer), layer.len() - 1);
    let manifest: Bytes = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{short}]}}"#).into();
    let archive =
        Archive::default().blobs(&image).blob(&manifest).layout(&[entry(OCI_MANIFEST, &manifest, None)]);
    node.refused(&archive.bytes(), &digest(layer)).await;
    let huge = descriptor(OCI_MANIFEST, &digest(&image.manifest), 1 << 40);
    let error = node
        .refused(&Archive::default().blobs(&image).layout(&[huge]).bytes(), "the most that is taken")
        .await;
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test]
async fn things_that_are_there_twice_are_refused_unless_they_are_the_same() {
    let node = Node::new();
    let (image, archive) = sound();
    node.refused(&archive.clone().layout(&[]).bytes(), "is there twice").await;
    node.refused(&archive.clone().file("x", "1").file("x", "2").bytes(), "with different content").await;
    node.refused(&archive.clone().file("x", "1").symlink("x", "y").bytes(), "with different content").await;
    node.refused(&archive.clone().symlink("x", "y").file("x", "1").bytes(), "with different content").await;
    node.refused(&archive.clone().symlink("x", "y").symlink("x", "z").bytes(), "with different content")
        .await;
    let same = archive.blobs(&image).file("x", "1").file("./x", "1");
    node.import(&same.bytes()).await.expect("the same content is no contradiction");
}

#[tokio::test]
async fn documents_that_say_nothing_usable_are_refused_with_their_names() {
    let node = Node::new();
    let file = |name: &str, text: &str| Archive::default().file(name, text.to_owned());
    node.refused(&Archive::default().bytes(), "neither index.json nor manifest.json").await;
    node.refused(b"", "neither index.json nor manifest.json").await;
    node.refused(b"this is no tar", "cannot read the archive").await;
    node.refused(&file("index.json", "{").bytes(), "not JSON").await;
    node.refused(&file("index.json", r#"{"manifests":[]}"#).bytes(), "holds no image").await;
    node.refused(&file("manifest.json", "{}").bytes(), "manifest.json of the archive").await;
    node.refused(&file("manifest.json", "[]").bytes(), "holds no image").await;
    node.refused(&file("manifest.json", r#"[{"Config":"x"}]"#).bytes(), "has no configuration \"x\"").await;
    let newer =
        file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#).file("index.json", r#"{"manifests":[]}"#);
    node.refused(&newer.bytes(), "only 1.0.0").await;
    let (_, archive) = sound();
    node.refused(
        &archive.without("index.json").symlink("index.json", "other").bytes(),
        "it has to be a file",
    )
    .await;
    let many: Vec<String> = (0..1001).map(|n| descriptor(OCI_MANIFEST, &digest(&[n as u8]), 1)).collect();
    let error = node.refused(&Archive::default().layout(&many).bytes(), "1001 images").await;
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test]
async fn an_archive_that_could_be_read_as_two_things_is_refused_as_in_cve_2021_41190() {
    let node = Node::new();
    let (image, _) = sound();
    // An index's type over an image's content.
    let archive =
        Archive::default().blobs(&image).layout(&[entry(OCI_INDEX, &image.manifest, Some("app:1"))]);
    node.refused(&archive.bytes(), "it is refused").await;
    let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    node.refused(&Archive::default().file("index.json", both).bytes(), "CVE-2021-41190").await;
}

#[tokio::test]
async fn devices_are_refused_and_names_that_no_registry_could_have_ask_for_another() {
    let node = Node::new();
    let (image, archive) = sound();
    node.refused(&archive.device("blobs/dev").bytes(), "is no file").await;
    let archive = Archive::of(&image, "host/UPPER/:::");
    node.refused(&archive.bytes(), "--name").await;
    node.import_as(&archive.bytes(), super::named("fine:1")).await.expect("with a name of the user's");
}

#[tokio::test]
async fn documents_that_would_fill_the_memory_together_are_refused() {
    let node = Node::new();
    let (layer, diff_id) = layer(&[("a", b"1")]);
    let (mut archive, mut entries) = (Archive::default(), Vec::new());
    for n in 0..9 {
        // Each is as large as a configuration may be.
        let mut config = Image::new(&format!("app{n}"), &[(layer.clone(), diff_id.clone())]).config.to_vec();
        config.resize(8 << 20, b' ');
        let image = Image::of(config.into(), std::slice::from_ref(&layer));
        archive = archive.blob(&image.manifest).blob(&image.config);
        entries.push(entry(OCI_MANIFEST, &image.manifest, Some(&format!("app:{n}"))));
    }
    let archive = archive.blob(&layer).layout(&entries);
    let error = node.refused(&archive.bytes(), "64 MiB together").await;
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", error.chain());
}

#[tokio::test]
async fn a_flood_of_entries_ends_with_its_limit() {
    let node = Node::new();
    let mut archive = Archive::default();
    for n in 0..20_001 {
        archive = archive.symlink(&format!("l{n}"), "x");
    }
    let error = node.refused(&gzip(&archive.bytes()), "more than 20000 entries").await;
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test]
async fn an_old_docker_archive_without_its_manifest_is_told_from_a_broken_one() {
    let node = Node::new();
    let image = Image::small("app");
    let archive =
        docker_save(&image, &[("l", image.blobs[1].1.clone())], &["app:1"]).without("manifest.json");
    node.refused(&archive.bytes(), "since Docker 1.10").await;
}
