//! The proxied snapshotters of others: Debian's containerd, the stargz snapshotter of Debian's Go packages, and one of
//! ours that lies.

#[path = "../../../layers/tests/it/builder.rs"]
#[allow(dead_code)]
mod builder;
mod containerd;
mod lazy_server;
mod liar;
mod stargz;

use builder::Builder;
use container::plan::{RootIds, RootSource};
use layers::{Compression, UnpackLimits};
use snapshots::{ChainId, Snapshotter};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A chain id that no other has.
fn fresh() -> ChainId {
    use std::sync::atomic::{AtomicU8, Ordering};
    static NEXT: AtomicU8 = AtomicU8::new(1);
    ChainId::sha256(&[NEXT.fetch_add(1, Ordering::Relaxed); 32])
}

/// Unpacks and commits a layer on top of `below` (topmost first).
fn commit(snapshotter: &dyn Snapshotter, below: &[ChainId], layer: Builder) -> ChainId {
    let chain = fresh();
    let draft = snapshotter.begin_layer(&chain, below.first()).expect("begin");
    let archive = layer.end();
    let (mode, limits) = (snapshotter.whiteouts(), UnpackLimits::default());
    let unpacked = layers::unpack(archive.as_slice(), Compression::None, draft.dir.as_fd(), mode, &limits);
    snapshotter.commit_layer(draft, &chain, below, &unpacked.expect("unpack")).expect("commit");
    chain
}

/// A root, mounted as a container mounts it.
struct View(OwnedFd);

impl View {
    fn new(source: &RootSource) -> View {
        std::thread::scope(|scope| {
            let mount = scope.spawn(|| {
                sys::process::unshare(sys::process::namespace::MOUNT).expect("a mount namespace");
                container::root::detach_from_node()?;
                container::root::detached(source, &RootIds::default(), container::root::Attach::Here)
            });
            View(mount.join().expect("the thread that mounts").unwrap_or_else(|e| panic!("{source:?}: {e}")))
        })
    }

    fn path(&self, below: &str) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(below)
    }

    fn read(&self, below: &str) -> String {
        std::fs::read_to_string(self.path(below)).unwrap_or_else(|e| panic!("{below}: {e}"))
    }
}

/// Waits until something is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
