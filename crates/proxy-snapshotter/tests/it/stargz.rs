//! Layers that are not downloaded: the stargz snapshotter, built from Debian's Go packages, gets them file by file
//! from a registry on loopback when they are read.

use crate::builder::Builder;
use crate::lazy_server::{Converted, Server, noise, program};
use crate::{View, fresh};
use proxy_snapshotter::{Proxy, ProxyConfig};
use snapshots::{RemoteLayer, Snapshotter};
use std::path::Path;
use test_support::TempRoot;
use test_support::image::{Blob, Image};
use test_support::registry::Registry;
use types::Digest;

/// A running snapshotter in a folder of its own.
struct Stargz {
    // Before the folder.
    server: Server,
    root: TempRoot,
}

impl Stargz {
    fn start(program: &Path) -> Stargz {
        let root = TempRoot::new().expect("a folder");
        Stargz { server: Server::start(program, root.path()), root }
    }

    fn open(&self) -> Proxy {
        let config = ProxyConfig { address: self.server.socket(), snapshotter: "stargz".into() };
        Proxy::open(&self.root.path().join("ours"), config).expect("open")
    }
}

fn convert(program: &Path, archive: &[u8]) -> Converted {
    let folder = tempfile::tempdir().expect("a folder");
    Converted::new(program, folder.path(), archive)
}

#[test]
fn a_layer_is_there_without_being_downloaded_and_its_files_are_right() {
    let Some(program) = program() else { return };
    if !Registry::available() {
        println!("SKIPPED: there is no docker-registry here");
        return;
    }
    let registry = Registry::start().expect("registry");
    let large = noise(8 << 20);
    let below =
        Builder::default().dir("d", 0o755).file("d/large", &large).file("d/small", b"from below").end();
    let above = Builder::default().file("d/.wh.small", b"").file("d/new", b"from above").end();
    let layers = [convert(&program, &below), convert(&program, &above)];
    let blobs: Vec<Blob> = layers.iter().map(|layer| layer.blob.clone()).collect();
    let config = Blob::new(
        "application/vnd.oci.image.config.v1+json",
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec(),
    );
    let described: Vec<String> = blobs.iter().map(|blob| blob.descriptor().to_string()).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        config.descriptor(),
        described.join(",")
    );
    let top = Blob::new("application/vnd.oci.image.manifest.v1+json", manifest.into_bytes());
    let manifest = top.digest.clone();
    let image =
        Image { top, manifests: vec![], blobs: blobs.into_iter().chain([config]).collect(), id: None };
    let reference = registry.push("lazy", "1", &image).expect("push");

    let stargz = Stargz::start(&program);
    let proxy = stargz.open();
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.blob.digest.clone()).collect();
    let mut chain = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let id = fresh();
        let annotations = [(Converted::ANNOTATION.to_owned(), layer.toc.clone())].into();
        let remote = RemoteLayer {
            chain: &id,
            parent: chain.first(),
            reference: &reference,
            digest: &layer.blob.digest,
            size: layer.blob.data.len() as u64,
            above: &digests[at..],
            manifest: &manifest,
            annotations: &annotations,
        };
        let there = proxy.remote_layer(&remote);
        let log = stargz.server.log();
        assert!(matches!(there, Ok(true)), "stargz does not get layer {at} by itself: {there:?}: {log}");
        assert!(proxy.has_layer(&id));
        chain.insert(0, id);
    }
    let container = View::new(&proxy.prepare("c", &chain).expect("prepare"));
    assert_eq!(container.read("d/new"), "from above");
    assert!(!container.path("d/small").exists(), "what the upper layer deletes is gone");
    let few = stargz.server.fetched();
    assert!(few < 2 << 20, "{few} bytes were fetched for one small file");
    assert!(std::fs::read(container.path("d/large")).expect("read") == large, "the large file is whole");
    assert!(stargz.server.fetched() > few, "it was fetched when it was read");
    std::fs::write(container.path("d/large"), "mine").expect("the writable layer is one");
    assert_eq!(container.read("d/large"), "mine");
    drop(container);
    proxy.remove("c").expect("remove");

    assert!(proxy.layers().expect("layers").len() == 2);
    for layer in &chain {
        proxy.remove_layer(layer).expect("remove");
    }
    proxy.sweep().expect("sweep");
    assert!(proxy.layers().expect("layers").is_empty());
    // Without the digest of its table of contents, or with a wrong one, nobody could verify it: no lazy layer. Another
    // snapshotter: this one has seen the right digest.
    let stargz = Stargz::start(&program);
    let proxy = stargz.open();
    for annotations in
        [[("x".to_owned(), String::new())], [(Converted::ANNOTATION.to_owned(), manifest.to_string())]]
    {
        let id = fresh();
        let remote = RemoteLayer {
            chain: &id,
            parent: None,
            reference: &reference,
            digest: &layers[0].blob.digest,
            size: layers[0].blob.data.len() as u64,
            above: &digests,
            manifest: &manifest,
            annotations: &annotations.into(),
        };
        assert!(!proxy.remote_layer(&remote).expect("asked") && !proxy.has_layer(&id));
    }
}
