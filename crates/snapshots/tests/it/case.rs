//! One snapshotter in a directory of its own, and a look at a container's root as the container sees it.

use crate::builder::Builder;
use container::plan::RootSource;
use layers::{Compression, UnpackLimits, Unpacked};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use snapshots::{ChainId, LayerDraft, Snapshotter};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub struct Case {
    pub name: &'static str,
    pub top: tempfile::TempDir,
    pub snapshotter: Arc<dyn Snapshotter>,
}

impl Case {
    pub fn new(name: &'static str) -> Self {
        let top = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let snapshotter = snapshots::open(name, top.path()).expect("open");
        Self { name, top, snapshotter }
    }

    /// Where the snapshotter keeps its directories.
    pub fn path(&self, below: &str) -> PathBuf {
        self.top.path().join(self.name).join(below)
    }

    pub fn count(&self, below: &str) -> usize {
        std::fs::read_dir(self.path(below)).expect("read_dir").count()
    }

    /// As after a crash: a new process opens what is on the disk.
    pub fn reopen(self) -> Self {
        let snapshotter = snapshots::open(self.name, self.top.path()).expect("reopen");
        Self { snapshotter, ..self }
    }

    pub fn draft(&self, chain: &ChainId, parent: Option<&ChainId>, layer: Builder) -> (LayerDraft, Unpacked) {
        let draft = self.snapshotter.begin_layer(chain, parent).expect("begin");
        let limits = UnpackLimits::default();
        let bytes = layer.end();
        let mode = self.snapshotter.whiteouts();
        let unpacked = layers::unpack(bytes.as_slice(), Compression::None, draft.dir.as_fd(), mode, &limits)
            .expect("unpack");
        (draft, unpacked)
    }

    /// Unpacks and commits layers, the bottom one first, and gives them topmost first.
    pub fn stack(&self, layers: impl IntoIterator<Item = Builder>) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::new();
        for layer in layers {
            let id = fresh();
            let (draft, unpacked) = self.draft(&id, chain.first(), layer);
            self.snapshotter.commit_layer(draft, &id, &chain, &unpacked).expect("commit");
            chain.insert(0, id);
        }
        chain
    }

    pub fn view(&self, id: &str, chain: &[ChainId]) -> View {
        View::new(&self.snapshotter.prepare(id, chain).expect("prepare"))
    }
}

/// A chain id that no other has.
pub fn fresh() -> ChainId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut raw = [0; 32];
    raw[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    ChainId::sha256(&raw)
}

/// A container's root: an overlay mounted without a place in any mount table, or the directory.
pub struct View(pub OwnedFd);

impl View {
    pub fn new(source: &RootSource) -> Self {
        match source {
            RootSource::Directory(path) => {
                let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
                Self(rustix::fs::open(path, flags, rustix::fs::Mode::empty()).expect("open"))
            }
            RootSource::Overlay { lower, upper, work } => {
                let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).expect("fsopen");
                let set = |key: &str, value: &str| {
                    rustix::mount::fsconfig_set_string(&context, key, value)
                        .unwrap_or_else(|e| panic!("{key}={value}: {e}"));
                };
                for layer in lower {
                    set("lowerdir+", layer);
                }
                set("upperdir", upper);
                set("workdir", work);
                rustix::mount::fsconfig_create(&context).expect("create");
                let (flags, attributes) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
                Self(rustix::mount::fsmount(&context, flags, attributes).expect("fsmount"))
            }
        }
    }

    /// The path of a file in it, as this process can use it.
    pub fn path(&self, below: &str) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(below)
    }

    pub fn read(&self, below: &str) -> String {
        std::fs::read_to_string(self.path(below)).unwrap_or_else(|e| panic!("{below}: {e}"))
    }

    pub fn names(&self, below: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(below))
            .expect("read_dir")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
            .collect();
        names.sort();
        names
    }

    pub fn write(&self, below: &str, data: &str) {
        std::fs::write(self.path(below), data).expect("write");
    }
}
