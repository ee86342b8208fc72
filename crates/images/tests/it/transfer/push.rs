//! Pushes to the distribution project's own registry, as Debian packages it, and back.

use super::{Archive, entry, tools};
use crate::image::{Image, OCI_INDEX, OCI_MANIFEST, descriptor, digest, layer, noise};
use crate::node::{Node, Settings};
use crate::real::{REGISTRY, Registry};
use bytes::Bytes;
use corten_images::{ImportOptions, PushProgress, PushState, Pushed};
use std::path::Path;
use tokio::sync::mpsc;
use types::{ErrorKind, Reference, Result};

async fn registry() -> Option<Registry> {
    if !Path::new(REGISTRY).is_file() {
        eprintln!("skipped: docker-registry is not installed");
        return None;
    }
    Some(Registry::start().await)
}

async fn push(node: &Node, image: &str, to: &str) -> Result<(Pushed, Vec<PushProgress>)> {
    let (send, mut receive) = mpsc::unbounded_channel();
    let to = Some(to).filter(|to| !to.is_empty()).map(|to| Reference::parse(to).expect("name"));
    let pushed = node.images.push(image, to, None, Some(send)).await?;
    let mut told = Vec::new();
    while let Ok(event) = receive.try_recv() {
        told.push(event);
    }
    Ok((pushed, told))
}

fn ends(told: &[PushProgress]) -> Vec<PushState> {
    let is_end = |state: &PushState| !matches!(state, PushState::Waiting | PushState::Sending);
    told.iter().map(|event| event.state).filter(is_end).collect()
}

fn app() -> Image {
    Image::new("app", &[layer(&[("a", b"1")]), layer(&[("b", &noise(400_000, 4))]), layer(&[("a", b"1")])])
}

#[tokio::test]
async fn what_is_pushed_comes_back_with_the_same_digest_and_nothing_is_sent_twice() {
    let Some(registry) = registry().await else { return };
    let node = Node::new();
    let image = app();
    let name = format!("{}/team/app:1", registry.addr);
    node.import(&Archive::of(&image, &name).bytes()).await.expect("import");
    let (pushed, told) = push(&node, &name, "").await.expect("to where its name says");
    assert_eq!(pushed.digest.as_str(), digest(&image.manifest));
    assert_eq!((pushed.reference.to_string(), pushed.note), (name.clone(), None));
    assert_eq!(ends(&told), [PushState::Done; 3], "a configuration, and two layers that differ");
    let (again, told) = push(&node, &name, "").await.expect("again");
    assert_eq!(again.digest, pushed.digest);
    assert_eq!(ends(&told), [PushState::Present; 3]);
    let other = format!("{}/other/app:2", registry.addr);
    let (moved, told) = push(&node, &name, &other).await.expect("to another repository");
    assert_eq!(moved.digest, pushed.digest);
    assert_eq!(ends(&told), [PushState::Mounted; 3], "of the same registry, which has them");
    let back = Node::new();
    let record = back.images.pull(&Reference::parse(&other).expect("name"), None, None).await.expect("pull");
    assert_eq!(record.id.as_str(), image.id());
    assert_eq!(record.digests, [format!("{}/other/app@{}", registry.addr, digest(&image.manifest))]);
    if tools::have("skopeo") {
        let dir = tempfile::tempdir().expect("temp dir");
        let source = format!("docker://{other}");
        let raw = tools::skopeo(dir.path(), &["inspect", "--tls-verify=false", "--raw", &source]);
        assert_eq!(raw.as_bytes(), &image.manifest[..], "byte for byte");
        tools::skopeo(dir.path(), &["copy", "--src-tls-verify=false", &source, "dir:copied"]);
    }
}

#[tokio::test]
async fn an_index_is_pushed_where_all_of_it_is_here_and_else_the_image_for_this_machine() {
    let Some(registry) = registry().await else { return };
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
    let name = format!("{}/multi:1", registry.addr);
    let whole = Archive::default().blobs(&own).blobs(&other).blob(&index).layout(&[entry(
        OCI_INDEX,
        &index,
        Some(&name),
    )]);
    let node = Node::new();
    let all = ImportOptions { all_platforms: true, ..ImportOptions::default() };
    node.import_as(&whole.bytes(), all).await.expect("import");
    let (pushed, _) = push(&node, &name, "").await.expect("push");
    assert_eq!((pushed.digest.as_str(), pushed.note), (digest(&index).as_str(), None));
    let part = Node::new();
    part.import(&whole.bytes()).await.expect("import");
    part.images.collect().await.expect("collect");
    let (pushed, _) = push(&part, &name, &format!("{}/single:1", registry.addr)).await.expect("push");
    assert_eq!(pushed.digest.as_str(), digest(&own.manifest));
    let note = pushed.note.expect("it says so");
    assert!(note.contains("other platforms") && note.contains(&digest(&index)), "{note}");
}

#[tokio::test]
async fn what_cannot_be_pushed_is_refused_with_what_to_do() {
    let Some(registry) = registry().await else { return };
    let node = Node::with(Settings { discard: true, ..Settings::default() });
    let image = app();
    let name = format!("{}/app:1", registry.addr);
    node.import(&Archive::of(&image, &name).bytes()).await.expect("import");
    node.images.collect().await.expect("collect");
    let error = push(&node, &name, "").await.expect_err("its layers were discarded");
    assert!(error.chain().contains("discard_unpacked = false"), "{}", error.chain());
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let error = push(&node, &image.id(), "").await.expect_err("an id is no destination");
    assert!(error.chain().contains("name the destination"), "{}", error.chain());
    let error = push(&node, "nothing:1", "").await.expect_err("not here");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let to = format!("x@{}", digest(b"x"));
    let error = push(&node, &name, &to).await.expect_err("a digest is no destination");
    assert!(error.chain().contains("under a tag"), "{}", error.chain());
}

#[tokio::test]
async fn a_damaged_blob_is_told_from_a_registry_that_refuses() {
    let Some(registry) = registry().await else { return };
    let node = Node::new();
    let image = app();
    let name = format!("{}/app:1", registry.addr);
    node.import(&Archive::of(&image, &name).bytes()).await.expect("import");
    let victim = &image.blobs[2].0;
    let path = node.root.join("content/blobs").join(victim.replace(':', "/"));
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).expect("damage");
    let error = push(&node, &name, "").await.expect_err("damaged");
    let text = error.chain();
    assert!(text.contains(victim.as_str()) && text.contains("corten images check --repair"), "{text}");
}
