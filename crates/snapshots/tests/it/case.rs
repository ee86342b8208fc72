//! One snapshotter in a directory of its own, and a look at a container's root as the container sees it.

use crate::builder::Builder;
use crate::pool::ThinPool;
use container::plan::{RootIds, RootSource};
use layers::{Compression, UnpackLimits, Unpacked};
use snapshots::{ChainId, LayerDraft, Snapshotter};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes a test of each of these functions, for every snapshotter that this machine can have.
macro_rules! every_snapshotter {
    ($($test:ident),* $(,)?) => {
        every_snapshotter!(@ overlayfs [$($test)*]);
        every_snapshotter!(@ erofs [$($test)*]);
        every_snapshotter!(@ native [$($test)*]);
        every_snapshotter!(@ btrfs [$($test)*]);
        every_snapshotter!(@ devmapper [$($test)*]);
    };
    (@ $name:ident [$($test:ident)*]) => {
        mod $name {
            $(#[test] fn $test() {
                if let Some(case) = crate::case::Case::open(stringify!($name)) {
                    super::$test(case)
                }
            })*
        }
    };
}

/// A folder, and whether it goes with this.
pub struct Top {
    path: PathBuf,
    /// Before the folder that it lies in.
    _disk: Option<Disk>,
    pub pool: Option<ThinPool>,
    _own: Option<tempfile::TempDir>,
}

impl Top {
    /// For a snapshotter of this name: one that needs a file system of its own gets one.
    pub fn new(name: &str) -> Self {
        let own = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let disk = if name == "btrfs" { Disk::btrfs(own.path()) } else { None };
        let pool = if name == "devmapper" { ThinPool::new(own.path(), 1 << 30) } else { None };
        let path = disk.as_ref().map_or(own.path(), |disk| &disk.0).to_owned();
        Self { path, _disk: disk, pool, _own: Some(own) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A mounted file system, which only this thread and those that it starts see.
struct Disk(PathBuf);

impl Disk {
    /// A btrfs in a file of `folder`; `None` where there are no tools for it, which is said.
    fn btrfs(folder: &Path) -> Option<Self> {
        let (image, place) = (folder.join("disk"), folder.join("place"));
        std::fs::File::create(&image).expect("create").set_len(512 << 20).expect("size");
        std::fs::create_dir(&place).expect("mkdir");
        let made = match std::process::Command::new("mkfs.btrfs").arg("-q").arg(&image).output() {
            Ok(output) => output,
            Err(_) => {
                println!("SKIPPED: there is no mkfs.btrfs here");
                return None;
            }
        };
        assert!(made.status.success(), "{made:?}");
        sys::process::unshare(sys::process::namespace::MOUNT).expect("unshare");
        container::root::detach_from_node().expect("private");
        let mut mount = std::process::Command::new("mount");
        let mounted =
            mount.args(["-t", "btrfs", "-o", "loop"]).arg(&image).arg(&place).output().expect("mount");
        if !mounted.status.success() {
            println!(
                "SKIPPED: this kernel does not mount it: {}",
                String::from_utf8_lossy(&mounted.stderr).trim()
            );
            return None;
        }
        Some(Self(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The rest goes with the namespace.
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A snapshotter of this name in a folder.
fn open(name: &str, folder: &Path) -> types::Result<Arc<dyn Snapshotter>> {
    match name {
        "devmapper" => snapshots::open_devmapper(folder, &crate::pool::config(folder)),
        other => snapshots::open(other, folder),
    }
}

pub struct Case {
    pub name: &'static str,
    pub top: Top,
    pub snapshotter: Arc<dyn Snapshotter>,
}

impl Case {
    pub fn new(name: &'static str) -> Self {
        let top = Top::new(name);
        let snapshotter = open(name, top.path()).expect("open");
        Self { name, top, snapshotter }
    }

    /// In a folder that others made, and remove.
    pub fn within(name: &'static str, folder: &Path) -> Self {
        let snapshotter = open(name, folder).expect("open");
        Self { name, top: Top { path: folder.to_owned(), _disk: None, pool: None, _own: None }, snapshotter }
    }

    /// As [`Case::new`]; none where this machine cannot, which is said.
    pub fn open(name: &'static str) -> Option<Self> {
        let top = Top::new(name);
        match open(name, top.path()) {
            Ok(snapshotter) => Some(Self { name, top, snapshotter }),
            Err(error) => {
                println!("SKIPPED: {}", error.chain());
                None
            }
        }
    }

    /// Where the snapshotter keeps its directories.
    pub fn path(&self, below: &str) -> PathBuf {
        self.top.path().join(self.name).join(below)
    }

    /// Whether a container has a whole tree of its own, and no overlay.
    pub fn whole(&self) -> bool {
        matches!(self.name, "native" | "btrfs" | "devmapper")
    }

    /// What a layer's content is in. Of a thin device it is the place to mount at.
    pub fn layer_content(&self, chain: &ChainId) -> PathBuf {
        let name = if self.name == "erofs" { "layer.erofs" } else { "fs" };
        self.path("layers").join(chain.hex()).join(name)
    }

    pub fn count(&self, below: &str) -> usize {
        std::fs::read_dir(self.path(below)).expect("read_dir").count()
    }

    /// As after a crash: a new process opens what is on the disk.
    pub fn reopen(self) -> Self {
        let snapshotter = open(self.name, self.top.path()).expect("reopen");
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

/// A chain id that no other has; every second one as artifacts have it.
pub fn fresh() -> ChainId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut raw = [0; 64];
    raw[..8].copy_from_slice(&number.to_be_bytes());
    if number.is_multiple_of(2) {
        ChainId::sha512(&raw)
    } else {
        ChainId::sha256(raw[..].first_chunk().expect("32 of 64"))
    }
}

/// A container's root: an overlay mounted without a place in any mount table, or the directory.
pub struct View(pub OwnedFd);

impl View {
    pub fn new(source: &RootSource) -> Self {
        Self::with_ids(source, &RootIds::default())
    }

    /// As the container's own process mounts it: in a mount namespace that is not the node's.
    pub fn with_ids(source: &RootSource, ids: &RootIds) -> Self {
        Self::try_new(source, ids).unwrap_or_else(|failure| panic!("{source:?}: {failure}"))
    }

    pub fn try_new(source: &RootSource, ids: &RootIds) -> Result<Self, container::Failure> {
        std::thread::scope(|scope| {
            let mount = scope.spawn(|| {
                sys::process::unshare(sys::process::namespace::MOUNT).expect("a mount namespace");
                container::root::detach_from_node()?;
                container::root::detached(source, ids, container::root::Attach::Here)
            });
            mount.join().expect("the thread that mounts").map(Self)
        })
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
