//! Every snapshotter under the real daemon, from the pull to the last trace. Each test is a node whose mounts are all
//! shared and nobody else's.

mod apart;
mod bounded;
mod keepers;
mod lazy;

use crate::node::Node;
use apart::apart;
use keepers::{Containerd, Pool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::TempRoot;
use test_support::image::{Image, Layer};
use test_support::registry::{OciServer, serve_oci};

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 14] = [
    "cat",
    "dd",
    "df",
    "head",
    "ls",
    "mkdir",
    "rm",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "tail",
    "touch",
    "wc",
];

/// A layer with a shell; none where there is no program to copy, which is said.
fn shell() -> Option<Layer> {
    let base = Layer::new().dir("bin", 0o755).dir("tmp", 0o1777).dir("data", 0o755);
    let Ok(layer) = base.copy("bin/busybox", 0o755, Path::new(BUSYBOX)) else {
        println!("skipped: there is no {BUSYBOX} here");
        return None;
    };
    let with = |layer: Layer, name: &&str| layer.symlink(&format!("bin/{name}"), "busybox");
    Some(APPLETS.iter().fold(layer, with))
}

/// Two layers, of which the upper one changes and deletes, behind a registry of this process.
fn served() -> Option<(OciServer, String)> {
    let below = shell()?.file("data/below", 0o644, "from below\n").file("data/changed", 0o644, "1\n").file(
        "data/gone",
        0o644,
        "",
    );
    let above = Layer::new().file("data/changed", 0o644, "2\n").whiteout("data/gone").file(
        "data/large",
        0o644,
        vec![7; 3 << 20],
    );
    let image = Image::builder().layer(below).layer(above).env(&["PATH=/bin"]).build().expect("image");
    let server = serve_oci(&[("app", "1", &image)]).expect("a registry");
    let reference = server.reference("app", "1");
    Some((server, reference))
}

/// The folders of a snapshotter and of the content store, which hold nothing once there is no image and no container.
fn folders(temp: &TempRoot, snapshotter: &str) -> Vec<PathBuf> {
    let of = |name: &str| temp.root().join("snapshots").join(snapshotter).join(name);
    let content = ["blobs/sha256", "ingest"].map(|name| temp.root().join("content").join(name));
    ["layers", "containers", "ingest", "trash"].map(of).into_iter().chain(content).collect()
}

/// Points where something is mounted in a process's mount namespace, but not those of the pods' own folders.
fn mounted(node: &Node) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", node.pid())).expect("mountinfo");
    let state = node.temp.state().display().to_string();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| !point.starts_with(&state)).map(str::to_owned).collect()
}

/// Sees each change of a process's mount table, however short (proc_pid_mountinfo(5): a change wakes poll(2) with
/// `POLLPRI`).
struct Watch(std::fs::File);

impl Watch {
    fn of(pid: i32) -> Watch {
        let watch = Watch(std::fs::File::open(format!("/proc/{pid}/mountinfo")).expect("mountinfo"));
        watch.changed();
        watch
    }

    /// Whether anything was mounted or unmounted since this was asked last.
    fn changed(&self) -> bool {
        let mut asked = [PollFd::new(&self.0, PollFlags::PRI)];
        poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
        asked[0].revents().intersects(PollFlags::PRI | PollFlags::ERR)
    }
}

/// Files below a folder that are shown as loop devices.
fn loops(folder: &Path) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block").expect("/sys/block").flatten();
    let files = devices.filter_map(|d| std::fs::read_to_string(d.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file.trim()).starts_with(folder)).collect()
}

/// Removes what is left, and looks whether anything is.
fn assert_goes_without_a_trace(node: Node, image: &str, empty: &[PathBuf]) {
    node.ok(&["rmp", "-f", "-a"]);
    let said = node.ok(&["rmi", "--prune"]);
    assert!(said.contains(image), "{said}");
    assert!(node.ok(&["images", "-q"]).is_empty());
    let left = || -> Vec<PathBuf> {
        let entries = empty.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !left().is_empty() {
        assert!(
            std::time::Instant::now() < end,
            "layers or blobs are left: {:?}: {}",
            left(),
            node.daemon_log()
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let root = node.temp.root();
    node.wait_for("the end of all loop devices", |_| loops(&root).is_empty());
    node.assert_nothing_left();
}

/// Pull, two pods that write, two restarts of the daemon, a stop, and the removal of everything.
fn lives(temp: TempRoot, snapshotter: &str, more: &str, empty: &[PathBuf]) {
    let Some((_server, image)) = served() else { return };
    let config = format!("[snapshots]\nsnapshotter = {snapshotter:?}\n{more}");
    let mut node = Node::bare(temp, &config, empty);
    node.start();
    let (before, watch) = (mounted(&node), Watch::of(node.pid()));
    node.ok(&["pull", &image]);
    assert!(!watch.changed(), "something was attached while the layers were unpacked");
    let script = "cat /data/changed /data/below; test -e /data/gone && echo there; \
        echo mine > /data/changed; mkdir /made; echo new > /made/file; rm /data/below; echo written; \
        trap 'exit 7' TERM; while :; do sleep 0.1; done";
    let (_, one) = node.container_of(&image, "one", script);
    node.wait_for("what it writes", |n| n.log("one").contains("written"));
    let (_, two) = node.container_of(&image, "two", "cat /data/changed /data/below; sleep 1000");
    node.wait_for("what it reads", |n| n.log("two").contains("from below"));
    for name in ["one", "two"] {
        let log = node.log(name);
        assert!(log.contains(" stdout F 2\n") && log.contains(" stdout F from below\n"), "{name}: {log}");
        assert!(!log.contains("there"), "{name}: {log}");
    }
    assert_eq!(mounted(&node), before, "the node's mount table shows a layer");
    for signal in [Signal::KILL, Signal::TERM] {
        node.end_daemon(signal);
        node.start();
        assert_eq!(node.status(&one, "state"), "CONTAINER_RUNNING", "{signal:?}");
        let read = ["exec", "-s", one.as_str(), "cat", "/data/changed", "/made/file"];
        assert_eq!(node.ok(&read), "mine\nnew", "{signal:?}");
        node.fails(&["exec", "-s", &one, "cat", "/data/below"]);
    }
    node.ok(&["exec", "-s", &one, "sh", "-c", "echo more >> /made/file"]);
    assert_eq!(node.ok(&["exec", "-s", &one, "tail", "-n", "1", "/made/file"]), "more");
    assert_eq!(node.ok(&["exec", "-s", &two, "cat", "/data/changed"]), "2");
    assert!(!node.ok(&["rmi", "--prune"]).contains(&image), "it is in use");
    node.ok(&["stop", "-t", "30", &one]);
    assert_eq!(node.status(&one, "exitCode"), 7);
    assert_goes_without_a_trace(node, &image, empty);
}

fn place() -> TempRoot {
    TempRoot::new().expect("a temporary root")
}

#[test]
fn pods_live_on_overlayfs_and_go_without_a_trace() {
    apart(|| {
        let temp = place();
        let empty = folders(&temp, "overlayfs");
        lives(temp, "overlayfs", "", &empty);
    });
}

#[test]
fn pods_live_on_erofs_images_and_go_without_a_trace() {
    apart(|| {
        let temp = place();
        let empty = folders(&temp, "erofs");
        lives(temp, "erofs", "", &empty);
    });
}

#[test]
fn pods_live_on_native_copies_and_go_without_a_trace() {
    apart(|| {
        let temp = place();
        let empty = folders(&temp, "native");
        lives(temp, "native", "", &empty);
    });
}

#[test]
fn pods_live_on_a_btrfs_and_go_without_a_trace() {
    apart(|| {
        let temp = place();
        let disk = temp.path().join("disk");
        std::fs::File::create(&disk).and_then(|file| file.set_len(512 << 20)).expect("a disk");
        match Command::new("mkfs.btrfs").arg("-q").arg(&disk).output() {
            Ok(made) => assert!(made.status.success(), "{made:?}"),
            Err(_) => return println!("skipped: there is no mkfs.btrfs here"),
        }
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "btrfs", "-o", "loop"]).arg(&disk).arg(temp.root()).output();
        let mounted = mounted.expect("mount");
        if !mounted.status.success() {
            let words = String::from_utf8_lossy(&mounted.stderr);
            return println!("skipped: this kernel does not mount a btrfs: {}", words.trim());
        }
        let empty = folders(&temp, "btrfs");
        lives(temp, "btrfs", "", &empty);
    });
}

#[test]
fn pods_live_on_thin_devices_and_go_without_a_trace() {
    apart(|| {
        let Some(pool) = Pool::new() else { return };
        let temp = place();
        let empty = folders(&temp, "devmapper");
        lives(temp, "devmapper", &pool.config(), &empty);
        assert_eq!(pool.active(), [""; 0]);
    });
}

#[test]
fn pods_live_on_the_layers_of_containerd_and_go_without_a_trace() {
    apart(|| {
        let Some(containerd) = Containerd::start() else { return };
        let temp = place();
        let mut empty = folders(&temp, "proxy");
        empty.push(containerd.snapshots());
        lives(temp, "proxy", &containerd.config(), &empty);
    });
}
