//! Images whose layers nobody downloads: the stargz snapshotter, built from Debian's Go packages, gets their files one by
//! one when they are read.

#[path = "../../../../../crates/proxy-snapshotter/tests/it/lazy_server.rs"]
mod lazy_server;

use super::{apart, assert_goes_without_a_trace, folders, place, shell};
use crate::node::Node;
use lazy_server::{Converted, Server, noise, program};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use test_support::TempRoot;
use test_support::image::{Blob, Image, Layer};
use test_support::registry::Registry;

/// Of the large file, which does not compress.
const LARGE: usize = 8 << 20;

/// Passes connections on to a registry and counts what comes back.
struct Counter {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Counter {
    fn before(registry: SocketAddr) -> Counter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, bytes) = (listener.local_addr().expect("an address"), Arc::new(AtomicU64::new(0)));
        let counted = bytes.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(registry) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                let counted = counted.clone();
                std::thread::spawn(move || pass(from, to, None));
                std::thread::spawn(move || pass(server, client, Some(counted.as_ref())));
            }
        });
        Counter { address, bytes }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, counted: Option<&AtomicU64>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some(counted) = counted {
            counted.fetch_add(count as u64, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A layer as a manifest and a configuration name it.
struct Described {
    blob: Blob,
    diff_id: String,
    toc: Option<String>,
}

fn lazy(program: &Path, folder: &Path, layer: &Layer) -> Described {
    let Converted { blob, toc, diff_id } =
        Converted::new(program, folder, &layer.archive().expect("an archive"));
    Described { blob, diff_id, toc: Some(toc) }
}

fn plain(layer: &Layer) -> Described {
    let packed = layer.pack().expect("a layer");
    let blob = Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", packed.data);
    Described { blob, diff_id: packed.diff_id.to_string(), toc: None }
}

fn image(layers: &[Described]) -> Image {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    let descriptors = layers.iter().map(|layer| {
        let mut descriptor = layer.blob.descriptor();
        if let Some(toc) = &layer.toc {
            descriptor["annotations"] = serde_json::json!({ (Converted::ANNOTATION): toc });
        }
        descriptor
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": config.descriptor(),
        "layers": descriptors.collect::<Vec<_>>(),
    });
    let blobs = layers.iter().map(|layer| layer.blob.clone()).chain([config]).collect();
    Image { top: Blob::new(kind, manifest.to_string().into_bytes()), manifests: Vec::new(), blobs, id: None }
}

/// A registry that counts, a stargz snapshotter, and folders for both.
struct Place {
    registry: Registry,
    counter: Counter,
    stargz: Server,
    program: std::path::PathBuf,
    // After what uses it.
    folder: TempRoot,
}

impl Place {
    fn new() -> Option<Place> {
        let program = program()?;
        if !Registry::available() {
            println!("skipped: docker-registry is not installed");
            return None;
        }
        if !Path::new("/dev/fuse").exists() {
            println!("skipped: this kernel has no FUSE");
            return None;
        }
        let folder = place();
        let registry = Registry::start().expect("registry");
        let counter = Counter::before(registry.address());
        let stargz = Server::start(&program, folder.path());
        Some(Place { registry, counter, stargz, program, folder })
    }

    /// Puts an image into the registry; its name by way of the counter.
    fn push(&self, name: &str, layers: &[Described]) -> String {
        self.registry.push(name, "1", &image(layers)).expect("pushed");
        format!("{}/{name}:1", self.counter.address)
    }

    fn lazy(&self, layer: &Layer) -> Described {
        lazy(&self.program, self.folder.path(), layer)
    }

    fn config(&self) -> String {
        let address = self.stargz.socket();
        format!(
            "[snapshots]\nsnapshotter = \"proxy\"\n[snapshots.proxy]\naddress = {address:?}\nsnapshotter = \"stargz\"\n"
        )
    }

    /// What a daemon's content store holds of these layers.
    fn kept(node: &Node, layers: &[Described]) -> usize {
        let blobs = node.temp.root().join("content/blobs/sha256");
        let path = |layer: &&Described| blobs.join(layer.blob.digest.hex()).exists();
        layers.iter().filter(path).count()
    }
}

#[test]
fn a_pulled_image_runs_although_its_layers_were_not_downloaded_and_what_is_read_comes() {
    apart(|| {
        let (Some(place), Some(shell)) = (Place::new(), shell()) else { return };
        let large = noise(LARGE);
        let below = shell.file("data/large", 0o644, large).file("data/small", 0o644, "from below\n");
        let above = Layer::new().file("data/new", 0o644, "from above\n").whiteout("data/small");
        let layers = [place.lazy(&below), place.lazy(&above)];
        let total: u64 = layers.iter().map(|layer| layer.blob.data.len() as u64).sum();
        let reference = place.push("lazy", &layers);
        let mixed = [
            place.lazy(&Layer::new().dir("data", 0o755).file("data/first", 0o644, "first\n")),
            plain(&Layer::new().file("data/second", 0o644, noise(1 << 20))),
        ];
        let mixed_reference = place.push("mixed", &mixed);
        let temp = super::place();
        let empty = folders(&temp, "proxy");
        let mut node = Node::bare(temp, &place.config(), &empty);
        node.start();

        let before = place.counter.bytes();
        node.ok(&["pull", &reference]);
        let fetched = place.counter.bytes() - before;
        assert!(fetched < total / 4, "{fetched} of {total} bytes came with the pull: {}", place.stargz.log());
        assert_eq!(Place::kept(&node, &layers), 0, "a layer was downloaded");
        let archive = node.temp.path().join("archive").display().to_string();
        let said = node.fails(&["images", "export", "-f", &archive, &reference]);
        assert!(said.contains("layer"), "{said}");

        let script = "cat /data/new; ls /data; echo mine > /data/mine; echo up; sleep 1000";
        let (_, id) = node.container_of(&reference, "lazy", script);
        node.wait_for("its output", |n| n.log("lazy").contains("stdout F up"));
        let log = node.log("lazy");
        assert!(
            log.contains("from above") && log.contains("stdout F large") && !log.contains("small"),
            "{log}"
        );
        let running = place.counter.bytes() - before;
        assert!(running < LARGE as u64, "{running} bytes came before the large file was read");
        node.end_daemon(Signal::KILL);
        node.start();
        assert_eq!(node.ok(&["exec", "-s", &id, "cat", "/data/mine"]), "mine");
        assert_eq!(node.ok(&["exec", "-s", &id, "sh", "-c", "cat /data/large | wc -c"]), LARGE.to_string());
        let read = place.counter.bytes() - before;
        assert!(read > LARGE as u64, "{read} bytes came, and the large file alone has {LARGE}");

        // A layer that stargz leaves to us is downloaded, on top of one that it got.
        let before = place.counter.bytes();
        node.ok(&["pull", &mixed_reference]);
        assert!(place.counter.bytes() - before > 1 << 20);
        assert_eq!(
            (Place::kept(&node, &mixed[..1]), Place::kept(&node, &mixed[1..])),
            (0, 1),
            "{}",
            place.stargz.log()
        );
        // What is there is one question to the registry.
        let before = place.counter.bytes();
        node.ok(&["pull", &reference]);
        assert!(place.counter.bytes() - before < 64 << 10);
        node.ok(&["rmi", &mixed_reference]);
        assert_goes_without_a_trace(node, &reference, &empty);
        assert_eq!(place.stargz.mounts(), [""; 0]);
    });
}

#[test]
fn a_stargz_that_is_gone_fails_pulls_and_starts_in_words_and_one_that_is_back_serves_them() {
    apart(|| {
        let (Some(mut place), Some(shell)) = (Place::new(), shell()) else { return };
        let layers = [place.lazy(&shell)];
        let reference = place.push("lazy", &layers);
        let temp = super::place();
        let empty = folders(&temp, "proxy");
        let mut node = Node::bare(temp, &place.config(), &empty);
        node.start();
        place.stargz.vanish();
        let socket = place.stargz.socket().display().to_string();
        let said = node.fails(&["pull", &reference]);
        assert!(said.contains(&socket), "{said}");
        assert!(node.ok(&["images", "-q"]).is_empty());
        place.stargz = Server::start(&place.program, place.folder.path());
        let before = place.counter.bytes();
        node.ok(&["pull", &reference]);
        let (fetched, size) = (place.counter.bytes() - before, layers[0].blob.data.len() as u64);
        assert!(fetched < size / 4, "{fetched} of {size} bytes came with the pull: {}", place.stargz.log());
        let (_, id) = node.container_of(&reference, "back", "echo up; sleep 1000");
        node.wait_for("its output", |n| n.log("back").contains("stdout F up"));
        node.ok(&["stop", "-t", "0", &id]);
        assert_goes_without_a_trace(node, &reference, &empty);
    });
}
