//! The contract, with Debian's containerd keeping the layers: its overlayfs snapshotter, and its native one.

use crate::builder::Builder;
use crate::{View, commit, fresh, until};
use container::plan::RootSource;
use proxy_snapshotter::{Proxy, ProxyConfig};
use snapshots::Snapshotter;
use std::os::unix::net::UnixStream;
use std::path::Path;
use test_support::{Supervised, TempRoot};
use types::ErrorKind;

/// A containerd with folders of its own.
struct Containerd {
    root: TempRoot,
    daemon: Option<Supervised>,
}

impl Containerd {
    fn start() -> Option<Containerd> {
        let program = Path::new("/usr/bin/containerd");
        if !program.exists() {
            println!("SKIPPED: there is no containerd here");
            return None;
        }
        let root = TempRoot::new().expect("a folder");
        let dir = root.path().display();
        let config = format!(
            r#"version = 2
root = "{dir}/c"
state = "{dir}/d"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{dir}/s"
[ttrpc]
  address = "{dir}/s.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
"#
        );
        std::fs::write(root.path().join("config.toml"), config).expect("write");
        let mut made = Containerd { root, daemon: None };
        made.run();
        Some(made)
    }

    fn run(&mut self) {
        let (config, log) = (self.root.path().join("config.toml"), self.root.path().join("log"));
        let arguments = ["--config".as_ref(), config.as_os_str()];
        self.daemon =
            Some(Supervised::start(Path::new("/usr/bin/containerd"), &arguments, &log).expect("start"));
        let socket = self.root.path().join("s");
        until("containerd does not answer", || UnixStream::connect(&socket).is_ok());
    }

    fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.end().expect("end");
        }
    }

    fn config(&self, snapshotter: &str) -> ProxyConfig {
        ProxyConfig { address: self.root.path().join("s"), snapshotter: snapshotter.into() }
    }

    fn open(&self, snapshotter: &str) -> Proxy {
        Proxy::open(&self.root.path().join("ours"), self.config(snapshotter)).expect("open")
    }
}

fn base() -> Builder {
    Builder::default()
        .dir("d", 0o755)
        .file("d/gone", b"1")
        .file("d/changed", b"1")
        .dir("o", 0o755)
        .file("o/hidden", b"1")
}

fn upper() -> Builder {
    Builder::default()
        .file("d/.wh.gone", b"")
        .file("d/changed", b"2")
        .file("o/.wh..wh..opq", b"")
        .file("o/new", b"2")
        .hardlink("o/link", "o/new")
}

#[test]
fn layers_and_containers_are_kept_by_another_process() {
    let Some(containerd) = Containerd::start() else { return };
    for name in ["overlayfs", "native"] {
        let proxy = containerd.open(name);
        let first = commit(&proxy, &[], base());
        let second = commit(&proxy, std::slice::from_ref(&first), upper());
        let chain = [second.clone(), first.clone()];
        let mut listed = proxy.layers().expect("layers");
        listed.sort_by_key(|chain| chain.hex().to_owned());
        let mut expected = chain.to_vec();
        expected.sort_by_key(|chain| chain.hex().to_owned());
        assert_eq!(listed, expected, "{name}");
        assert!(chain.iter().all(|layer| proxy.has_layer(layer)) && !proxy.has_layer(&fresh()));

        let a = View::new(&proxy.prepare("a", &chain).expect("prepare"));
        let b = View::new(&proxy.prepare("b", &chain).expect("prepare"));
        assert_eq!((a.read("d/changed"), a.read("o/link")), ("2".into(), "2".into()), "{name}");
        assert!(!a.path("d/gone").exists() && !a.path("o/hidden").exists(), "{name}");
        std::fs::write(a.path("d/changed"), "3").expect("write");
        assert_eq!(b.read("d/changed"), "2", "containers do not see each other");
        let view = View::new(&proxy.view(&chain).expect("view"));
        assert_eq!(view.read("d/changed"), "2");
        for layers in [&chain[..], &chain[1..]] {
            // A bare directory could be made writable by whoever may change mounts.
            let again = proxy.view(layers).expect("again");
            assert!(matches!(again, RootSource::Overlay { ref upper, .. } if upper.is_empty()), "{again:?}");
            let error = std::fs::write(View::new(&again).path("d/changed"), "3").expect_err("read-only");
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        }
        let mut containers = proxy.containers().expect("containers");
        containers.sort();
        assert_eq!(containers, ["a", "b"]);
        assert!(proxy.usage("a").expect("usage").inodes > 0);
        assert!(proxy.layer_usage(&first).expect("usage").bytes > 0);

        // A layer that others stand on stays, and what was removed stays removed.
        assert_eq!(proxy.remove_layer(&first).expect_err("in use").kind(), ErrorKind::FailedPrecondition);
        drop((a, b, view));
        for id in ["a", "b", "b"] {
            proxy.remove(id).expect("remove");
        }
        for layer in [&second, &first, &first] {
            proxy.remove_layer(layer).expect("remove");
        }
        assert!(
            proxy.layers().expect("layers").is_empty() && proxy.containers().expect("containers").is_empty()
        );
    }
}

#[test]
fn layers_are_listed_so_that_all_can_be_removed_one_after_the_other() {
    let Some(containerd) = Containerd::start() else { return };
    let proxy = containerd.open("overlayfs");
    let mut chain = Vec::new();
    for _ in 0..8 {
        let below = chain.clone();
        chain.insert(0, commit(&proxy, &below, Builder::default().file("f", b"1")));
    }
    let other = commit(&proxy, &chain[6..], upper());
    let listed = proxy.layers().expect("layers");
    assert!(listed.len() == 9 && listed.contains(&other), "{listed:?}");
    for layer in &listed {
        proxy.remove_layer(layer).expect("nothing stands on it any more");
    }
    assert!(proxy.layers().expect("layers").is_empty());
}

#[test]
fn what_a_process_left_half_done_is_removed_by_the_next_and_another_daemons_is_not_touched() {
    let Some(containerd) = Containerd::start() else { return };
    let proxy = containerd.open("overlayfs");
    let other =
        Proxy::open(&containerd.root.path().join("other"), containerd.config("overlayfs")).expect("open");
    let kept = commit(&proxy, &[], base());
    let half = fresh();
    // As after a kill: the draft is not dropped.
    std::mem::forget(proxy.begin_layer(&half, Some(&kept)).expect("begin"));
    let theirs = commit(&other, &[], base());
    let begun = other.begin_layer(&fresh(), Some(&theirs)).expect("begin");
    drop(proxy);
    let proxy = containerd.open("overlayfs");
    assert!(proxy.has_layer(&kept) && !proxy.has_layer(&half) && !proxy.has_layer(&theirs));
    // Nothing stands on it any more.
    proxy.remove_layer(&kept).expect("remove");
    assert_eq!(other.remove_layer(&theirs).expect_err("their draft").kind(), ErrorKind::FailedPrecondition);
    drop(begun);
    other.sweep().expect("sweep");
    other.remove_layer(&theirs).expect("remove");
}

#[test]
fn when_the_other_process_is_gone_calls_fail_in_words_and_work_again_when_it_is_back() {
    let Some(mut containerd) = Containerd::start() else { return };
    let proxy = containerd.open("overlayfs");
    let layer = commit(&proxy, &[], base());
    containerd.stop();
    let error = proxy.layers().expect_err("nobody answers");
    assert!(error.message().contains(containerd.root.path().to_str().expect("UTF-8")), "{error}");
    assert!(!proxy.has_layer(&layer));
    let error = Proxy::open(&containerd.root.path().join("new"), containerd.config("overlayfs"));
    assert!(error.err().expect("nobody answers").chain().contains("is it running"));
    containerd.run();
    until("it is not found again", || proxy.has_layer(&layer));
    proxy.remove_layer(&layer).expect("remove");
    let error = Proxy::open(&containerd.root.path().join("new"), containerd.config("floppy"));
    assert!(error.is_err(), "there is no snapshotter of that name");
}
