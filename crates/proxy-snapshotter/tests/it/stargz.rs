//! Layers that are not downloaded: the stargz snapshotter, built from Debian's Go packages, gets them file by file
//! from a registry on loopback when they are read.

use crate::builder::Builder;
use crate::{View, fresh, until};
use proxy_snapshotter::{Proxy, ProxyConfig};
use snapshots::{RemoteLayer, Snapshotter};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::image::{Blob, Image};
use test_support::registry::Registry;
use test_support::{Supervised, TempRoot};
use types::Digest;

/// Builds the program beside this file, once for all runs; `None`, said, where Go or its packages are missing.
fn program() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (program, source) =
        (folder.join("stargz"), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stargz.go"));
    let time = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    if time(&program) > time(Path::new(source)) {
        return Some(program);
    }
    if !Path::new("/usr/share/gocode/src/github.com/containerd/stargz-snapshotter").exists() {
        println!("SKIPPED: Debian's Go packages of the stargz snapshotter are not installed");
        return None;
    }
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&program, Path::new(source)])
        .env("GOPATH", "/usr/share/gocode")
        .env("GO111MODULE", "off")
        .env("GOCACHE", folder.join("go"))
        .output()
        .expect("go");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// A running snapshotter.
struct Stargz {
    root: TempRoot,
    _server: Supervised,
}

impl Stargz {
    fn start(program: &Path) -> Stargz {
        let root = TempRoot::new().expect("a folder");
        let (folder, socket, log) = (root.path().join("r"), root.path().join("s"), root.path().join("log"));
        let arguments = ["serve".as_ref(), folder.as_os_str(), socket.as_os_str()];
        let server = Supervised::start(program, &arguments, &log).expect("start");
        until("stargz does not answer", || UnixStream::connect(&socket).is_ok());
        Stargz { root, _server: server }
    }

    fn open(&self) -> Proxy {
        let config = ProxyConfig { address: self.root.path().join("s"), snapshotter: "stargz".into() };
        Proxy::open(&self.root.path().join("ours"), config).expect("open")
    }

    /// Bytes of what it fetched.
    fn fetched(&self) -> u64 {
        let du = Command::new("du")
            .args(["-s", "-x", "--block-size=1"])
            .arg(self.root.path().join("r/stargz"))
            .output();
        let du = String::from_utf8(du.expect("du").stdout).expect("UTF-8");
        du.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Stargz {
    fn drop(&mut self) {
        // Its file systems outlive it.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = self.root.path().to_string_lossy().into_owned();
        for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|p| p.starts_with(&ours))
        {
            let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A layer of stargz's form.
struct Converted {
    digest: Digest,
    toc: String,
    data: Vec<u8>,
}

fn convert(program: &Path, archive: &[u8]) -> Converted {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::File::create(&from).and_then(|mut file| file.write_all(archive)).expect("write");
    let output = Command::new(program).arg("convert").args([&from, &to]).output().expect("convert");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8(output.stdout).expect("UTF-8");
    let data = std::fs::read(&to).expect("read");
    let toc = words.split_whitespace().next().expect("a digest").to_owned();
    Converted {
        digest: Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", data.clone()).digest,
        toc,
        data,
    }
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(bytes)
    .collect()
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
    let blobs =
        layers.iter().map(|l| Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", l.data.clone()));
    let blobs: Vec<Blob> = blobs.collect();
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
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest.clone()).collect();
    let mut chain = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let id = fresh();
        let annotations = [("containerd.io/snapshot/stargz/toc.digest".to_owned(), layer.toc.clone())].into();
        let remote = RemoteLayer {
            chain: &id,
            parent: chain.first(),
            reference: &reference,
            digest: &layer.digest,
            size: layer.data.len() as u64,
            above: &digests[at..],
            manifest: &manifest,
            annotations: &annotations,
        };
        let there = proxy.remote_layer(&remote);
        let log = std::fs::read_to_string(stargz.root.path().join("log")).unwrap_or_default();
        assert!(matches!(there, Ok(true)), "stargz does not get layer {at} by itself: {there:?}: {log}");
        assert!(proxy.has_layer(&id));
        chain.insert(0, id);
    }
    let container = View::new(&proxy.prepare("c", &chain).expect("prepare"));
    assert_eq!(container.read("d/new"), "from above");
    assert!(!container.path("d/small").exists(), "what the upper layer deletes is gone");
    let few = stargz.fetched();
    assert!(few < 2 << 20, "{few} bytes were fetched for one small file");
    assert!(std::fs::read(container.path("d/large")).expect("read") == large, "the large file is whole");
    assert!(stargz.fetched() > few, "it was fetched when it was read");
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
    for annotations in [
        [("x".to_owned(), String::new())],
        [("containerd.io/snapshot/stargz/toc.digest".to_owned(), manifest.to_string())],
    ] {
        let id = fresh();
        let remote = RemoteLayer {
            chain: &id,
            parent: None,
            reference: &reference,
            digest: &layers[0].digest,
            size: layers[0].data.len() as u64,
            above: &digests,
            manifest: &manifest,
            annotations: &annotations.into(),
        };
        assert!(!proxy.remote_layer(&remote).expect("asked") && !proxy.has_layer(&id));
    }
}
