//! The same image, pulled through the CRI by us and by Debian's containerd: what lies in both overlayfs snapshotters, layer by
//! layer and entry by entry. Nothing is mounted: whiteouts and opaque directories are compared as they are on the disk.

use crate::look::{self, Full, Node as Look, full};
use crate::node::{Node, corten, text};
use crate::oddities;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use test_support::image::{Compression, Image, Layer};
use test_support::{Supervised, TempRoot};

const PATIENCE: Duration = Duration::from_secs(60);

/// A containerd with folders and a socket of its own, of which the images are used and nothing else.
struct Containerd {
    daemon: Supervised,
    root: TempRoot,
}

impl Containerd {
    fn start() -> Option<Self> {
        for program in ["/usr/bin/containerd", "/usr/bin/ctr"] {
            if !Path::new(program).is_file() {
                println!("skipped: {program} is not installed");
                return None;
            }
        }
        let root = TempRoot::new().expect("a place");
        let dir = root.path().display();
        let config = format!(
            "version = 2\nroot = \"{dir}/root/c\"\nstate = \"{dir}/state/c\"\n\
             disabled_plugins = [\"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.aufs\", \
             \"io.containerd.internal.v1.tracing\"]\n\
             [grpc]\naddress = \"{dir}/s\"\n[ttrpc]\naddress = \"{dir}/s.ttrpc\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nstream_server_port = \"0\"\ndisable_apparmor = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"{dir}/net.d\"\n"
        );
        let file = root.path().join("config.toml");
        std::fs::write(&file, config).expect("write");
        let log = root.path().join("log");
        let arguments = [Path::new("--config"), &file];
        let daemon = Supervised::start(Path::new("/usr/bin/containerd"), &arguments, &log).expect("start");
        let made = Self { daemon, root };
        let end = Instant::now() + PATIENCE;
        while !made.cri(&["images"]).status.success() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < end, "containerd's CRI does not answer: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(made)
    }

    /// A verb of ours, to its CRI.
    fn cri(&self, words: &[&str]) -> Output {
        let socket = format!("unix://{}", self.root.path().join("s").display());
        let mut command = Command::new(corten());
        command.env("CONTAINER_RUNTIME_ENDPOINT", socket).args(words).output().expect("the program runs")
    }

    fn ctr(&self, words: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args(["60", "/usr/bin/ctr", "--namespace", "k8s.io", "--address"]);
        let output = command.arg(self.root.path().join("s")).args(words).output().expect("ctr");
        assert!(output.status.success(), "ctr {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The folders of the layers below a chain id, the bottom one first.
    fn layers(&self, chain: &str) -> Vec<PathBuf> {
        self.ctr(&["snapshots", "--snapshotter", "overlayfs", "view", "look", chain]);
        let mount = self.ctr(&["snapshots", "--snapshotter", "overlayfs", "mounts", "/nowhere", "look"]);
        let lower = mount.trim().split([',', ' ']).find_map(|word| word.strip_prefix("lowerdir="));
        let lower = lower.unwrap_or_else(|| panic!("no overlay: {mount}"));
        lower.split(':').rev().map(PathBuf::from).collect()
    }
}

/// As it is on the disk, but for what says nothing: times of unpacking, and a whiteout's mode, owner and time, which nothing
/// looks at (Linux Documentation/filesystems/overlayfs.rst).
fn entries(layer: &Path, begun: i64) -> BTreeMap<PathBuf, Full> {
    let mut all = full(layer);
    for entry in all.values_mut() {
        let (kind, now) = (entry.node.mode & 0o170_000, entry.node.mtime.0 >= begun);
        if kind == 0o020_000 && entry.node.rdev == 0 {
            let mode = kind;
            entry.node = Look { mode, uid: 0, gid: 0, mtime: (0, 0), rdev: 0, content: Vec::new() };
        } else if kind == 0o040_000 && now {
            entry.node.mtime = (0, 0);
        }
    }
    all
}

#[test]
fn what_the_cri_pulls_lies_on_the_disk_as_containerd_lays_it() {
    let (Some(containerd), Some(node)) = (Containerd::start(), Node::serving()) else { return };
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let begun = i64::try_from(begun.as_secs()).expect("a time");
    let layers = [
        (oddities::first(), Compression::Gzip),
        (oddities::second(), Compression::Zstd),
        (oddities::third(), Compression::None),
    ];
    let image = layers.into_iter().fold(Image::builder(), |image, (archive, packed)| {
        image.layer(Layer::raw(archive).compression(packed))
    });
    let image = node.registry.push("odd", "1", &image.build().expect("an image")).expect("pushed");
    node.ok(&["pull", &image]);
    let pulled = containerd.cri(&["pull", &image]);
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    let said: serde_json::Value =
        serde_json::from_str(&node.ok(&["inspecti", "-o", "json", &image])).expect("JSON");
    let chains: Vec<&str> = said["info"]["layers"]
        .as_array()
        .unwrap_or_else(|| panic!("{said}"))
        .iter()
        .map(|layer| layer["chainID"].as_str().expect("a chain id"))
        .collect();
    let theirs = containerd.layers(chains.last().expect("a layer"));
    assert_eq!((chains.len(), theirs.len()), (3, 3));
    let mut seen = [0; 4];
    for (chain, theirs) in chains.iter().zip(&theirs) {
        let hex = chain.strip_prefix("sha256:").expect("sha256");
        let ours = node.temp.root().join("snapshots/overlayfs/layers").join(hex).join("fs");
        let root = |path: &Path| {
            let root = look::node(path);
            (root.mode, root.uid, root.gid)
        };
        assert_eq!(root(&ours), root(theirs), "the root of {chain}");
        let (mut ours, theirs) = (entries(&ours, begun), entries(theirs, begun));
        for (path, theirs) in &theirs {
            // A directory that the archive does not name is as old as its unpacking there. Ours is as old as the one below.
            if let Some(ours) = ours.get_mut(path).filter(|_| theirs.node.mtime == (0, 0)) {
                ours.node.mtime = (0, 0);
            }
            assert_eq!(ours.get(path), Some(theirs), "{path:?} of {chain}, ours and containerd's");
            let kind = theirs.node.mode & 0o170_000;
            seen[0] += usize::from(kind == 0o020_000 && theirs.node.rdev == 0);
            seen[1] += usize::from(theirs.attributes.contains_key("trusted.overlay.opaque"));
            seen[2] += usize::from(theirs.same_as.is_some());
            seen[3] += usize::from(theirs.node.rdev != 0);
        }
        for path in ours.keys() {
            assert!(theirs.contains_key(path), "only ours has {path:?} in {chain}");
        }
    }
    let [whiteouts, opaque, links, devices] = seen;
    assert!(whiteouts >= 5 && opaque >= 1 && links >= 2 && devices >= 2, "{seen:?}");
    let Containerd { daemon, root } = containerd;
    daemon.end().expect("an end");
    drop(root);
    node.assert_nothing_left();
}
