//! The same image unpacked by Debian's containerd: what its snapshots show, merged by overlayfs, is what ours show,
//! entry by entry.
//!
//! It starts a containerd with folders and a socket of its own. Overlays are mounted nowhere: they are looked at through
//! their descriptor (fsmount(2), Linux 5.2).

use crate::builder::Builder;
use crate::look::{Full, full};
use crate::oddities::{first, second, third};
use crate::sandbox::Sandbox;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use test_support::image::{Compression, Layer};
use test_support::registry::serve_oci;
use test_support::{Image, Supervised, TempRoot};

const PATIENCE: Duration = Duration::from_secs(60);

struct Containerd {
    daemon: Option<Supervised>,
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
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.devmapper\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\", \
             \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.internal.v1.tracing\"]\n\
             [grpc]\naddress = \"{dir}/s\"\n[ttrpc]\naddress = \"{dir}/s.ttrpc\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n"
        );
        let file = root.path().join("config.toml");
        std::fs::write(&file, config).expect("write");
        let log = root.path().join("log");
        let daemon =
            Supervised::start(Path::new("/usr/bin/containerd"), &[Path::new("--config"), &file], &log)
                .expect("start");
        let made = Self { daemon: Some(daemon), root };
        let end = Instant::now() + PATIENCE;
        while made.ctr(&["version"]).is_err() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < end, "containerd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(made)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("timeout");
        command.args(["60", "/usr/bin/ctr", "--address"]).arg(self.root.path().join("s")).args(arguments);
        let output = command.output().expect("ctr");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Pulls, and gives the folders of the image's layers, topmost first.
    fn pull(&self, reference: &str, chain: &str, key: &str) -> Result<Vec<PathBuf>, String> {
        self.ctr(&["images", "pull", "--plain-http", "--snapshotter", "overlayfs", reference])?;
        // Nothing refers to the view, so containerd's collection may come in between.
        let mut tries = 0..20;
        let mount = loop {
            self.ctr(&["snapshots", "--snapshotter", "overlayfs", "view", key, chain])?;
            match self.ctr(&["snapshots", "--snapshotter", "overlayfs", "mounts", "/nowhere", key]) {
                Ok(mount) => break mount,
                Err(error) if tries.next().is_none() => return Err(error),
                Err(_) => {}
            }
        };
        let mount = mount.trim();
        // One layer is a bind mount of its folder, several are an overlay of them.
        let option = mount.split([',', ' ']).find_map(|word| word.strip_prefix("lowerdir="));
        Ok(match option {
            Some(folders) => folders.split(':').map(PathBuf::from).collect(),
            None => {
                mount.split(' ').find(|word| word.ends_with("/fs")).map(PathBuf::from).into_iter().collect()
            }
        })
    }

    fn end(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.end().expect("an end");
        }
    }
}

/// What the layers, topmost first, show together.
fn merged(layers: &[PathBuf], empty: &Path) -> Option<BTreeMap<PathBuf, Full>> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).expect("overlay");
    for layer in layers.iter().map(PathBuf::as_path).chain([empty]) {
        if let Err(error) = fsconfig_set_string(context.as_fd(), "lowerdir+", layer) {
            println!("skipped: this kernel's overlay takes no single layers (Linux 6.8): {error}");
            return None;
        }
    }
    fsconfig_create(context.as_fd()).expect("an overlay");
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags).expect("fsmount");
    let path = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
    Some(full(&path))
}

/// The layers of one image, by containerd and by us, must show the same.
fn compare(containerd: &Containerd, name: &str, tars: Vec<Vec<u8>>, packed: Compression) {
    let mut builder = Image::builder();
    for tar in &tars {
        builder = builder.layer(Layer::raw(tar.clone()).compression(packed));
    }
    let image = builder.build().expect("an image");
    let server = serve_oci(&[(name, "t", &image)]).expect("a registry");
    let mut below: Vec<Sandbox> = Vec::new();
    let mut implied = BTreeSet::new();
    let mut chain = None::<types::Digest>;
    for tar in &tars {
        let sandbox = Sandbox::new();
        let unpacked = sandbox.unpack(tar).unwrap_or_else(|e| panic!("{name}: {}", e.chain()));
        let lower: Vec<_> = below.iter().rev().map(Sandbox::fd).collect();
        layers::settle(sandbox.fd().as_fd(), &lower, &unpacked.pending).expect("settle");
        implied.extend(unpacked.pending.implied_dirs);
        chain = Some(match chain {
            None => unpacked.diff_id,
            Some(below) => {
                use sha2::Digest;
                types::Digest::sha256(&sha2::Sha256::digest(format!("{below} {}", unpacked.diff_id)).into())
            }
        });
        below.push(sandbox);
    }
    let chain = chain.expect("a layer").to_string();
    let folders = containerd
        .pull(&server.reference(name, "t"), &chain, name)
        .unwrap_or_else(|e| panic!("{name}: containerd says {e}"));
    assert_eq!(folders.len(), tars.len(), "{folders:?}");
    let empty = Sandbox::new();
    let ours: Vec<PathBuf> = below.iter().rev().map(Sandbox::root).collect();
    let (Some(mut ours), Some(mut theirs)) = (merged(&ours, &empty.root()), merged(&folders, &empty.root()))
    else {
        return;
    };
    // Both are the moment of unpacking, or of the last change in the directory.
    for path in &implied {
        for tree in [&mut ours, &mut theirs] {
            if let Some(full) = tree.get_mut(path) {
                full.node.mtime = (0, 0);
            }
        }
    }
    for (path, theirs) in &theirs {
        assert_eq!(ours.get(path), Some(theirs), "{name}: {path:?}, ours and containerd's");
    }
    for path in ours.keys() {
        assert!(theirs.contains_key(path), "{name}: only ours has {path:?}");
    }
    assert!(ours.len() > 3, "{name} compares something");
}

#[test]
fn every_kind_of_entry_equals_containerds_snapshot() {
    let Some(containerd) = Containerd::start() else { return };
    for (name, packed) in
        [("gzip", Compression::Gzip), ("plain", Compression::None), ("zstd", Compression::Zstd)]
    {
        compare(&containerd, name, vec![first(), second(), third()], packed);
    }
    compare(
        &containerd,
        "sparse",
        vec![sparse(), Builder::default().file("over", b"").end()],
        Compression::Gzip,
    );
    containerd.end();
}

/// GNU tar's own archive of files with holes, in two of the formats that containerd takes. It refuses the old one.
fn sparse() -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let source = Sandbox::new();
    for (name, offset) in [("one", 1 << 20), ("two", 0), ("three", 3 << 19)] {
        let file = std::fs::File::create(source.root().join(name)).expect("create");
        file.set_len(2 << 20).expect("a length");
        file.write_all_at(b"data", offset).expect("write");
    }
    let mut all = Vec::new();
    for format in [&["--format=pax", "--sparse-version=1.0"], &["--format=pax", "--sparse-version=0.1"]] {
        let output = Command::new("tar")
            .args([
                "--create",
                "--sparse",
                "--hole-detection=raw",
                "--blocking-factor=1",
                "--numeric-owner",
                "--directory",
            ])
            .arg(source.root())
            .args(format)
            .arg(format!("--transform=s,^,{}/,", format.last().expect("a word").replace(['-', '='], "")))
            .args(["one", "two", "three"])
            .output()
            .expect("tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        all.extend_from_slice(&output.stdout[..output.stdout.len() - 1024]);
    }
    all.extend_from_slice(&[0; 1024]);
    all
}
