//! What attacks on a runtime are made of: names that are exchanged while they are looked up, a hostile program
//! for the inside of a container, and witnesses on the node that must stay as they are. Never asks the runtime.

use rustix::fs::{CWD, RenameFlags};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Two names of one folder that change places without end (renameat2(2), `RENAME_EXCHANGE`), until dropped.
pub struct Exchange {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Exchange {
    /// Both names have to be there.
    pub fn start(one: impl Into<PathBuf>, other: impl Into<PathBuf>) -> Self {
        let (one, other) = (one.into(), other.into());
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                // Full speed would starve the victim of the folder's lock, and of one of two processors.
                std::thread::sleep(std::time::Duration::from_micros(20));
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    /// How often they changed places so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Puts the hostile program (`src/bin/oci-attacker.rs`) at `/oci-attacker` of a root, with the libraries that it
/// needs, and makes `/out` for what it has to say.
pub fn install_attacker(program: &Path, rootfs: &Path) {
    let copy = rootfs.join("oci-attacker");
    std::fs::copy(program, &copy).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(rootfs.join("out")).unwrap();
    std::fs::set_permissions(rootfs.join("out"), std::fs::Permissions::from_mode(0o777)).unwrap();
    // It is built as this program is, so it needs what this program has loaded.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libraries: std::collections::BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .filter(|p| p.contains(".so"))
        .collect();
    for library in libraries {
        let name = Path::new(library).file_name().unwrap();
        // The loader's path is fixed in the program; the others are looked for in these folders.
        for folder in ["lib", "lib64"] {
            let target = rootfs.join(folder);
            std::fs::create_dir_all(&target).unwrap();
            if !target.join(name).exists() {
                std::fs::copy(library, target.join(name)).unwrap();
            }
        }
    }
}

/// Lines that the attacker wrote into a file of `/out`.
pub fn loot(rootfs: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(rootfs.join("out").join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Tells the attacker to stop and waits until it has. How often it had its chance, which is never 0.
///
/// # Panics
/// When it had none: then its test proves nothing.
#[track_caller]
pub fn stop_attacker(rootfs: &Path) -> usize {
    std::fs::write(rootfs.join("out/stop"), "").expect("a file in the container's root");
    crate::output::until("the attacker's end", || loot(rootfs, "ended").first().cloned());
    let turns = loot(rootfs, "turns").iter().filter_map(|turns| turns.parse::<usize>().ok()).sum();
    assert!(turns > 0, "the attacker had no turn");
    turns
}

/// Everything below a folder of the node that an attacker aims at: names, kinds, modes, owners, contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    path: PathBuf,
    seen: BTreeMap<PathBuf, String>,
}

impl Witness {
    /// Looks at it now.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut seen = BTreeMap::new();
        look(&path, &mut seen);
        Self { path, seen }
    }

    /// Fails when anything is different.
    #[track_caller]
    pub fn assert_untouched(&self, what: &str) {
        let now = Self::of(&self.path);
        let changed: Vec<_> = now
            .seen
            .iter()
            .filter(|(path, seen)| self.seen.get(*path) != Some(seen))
            .map(|(path, seen)| format!("{} is {seen}", path.display()))
            .chain(
                self.seen
                    .keys()
                    .filter(|p| !now.seen.contains_key(*p))
                    .map(|p| format!("{} is gone", p.display())),
            )
            .collect();
        assert!(changed.is_empty(), "{what}: the node's files changed: {changed:?}");
    }
}

fn look(path: &Path, seen: &mut BTreeMap<PathBuf, String>) {
    let Ok(stat) = std::fs::symlink_metadata(path) else { return };
    let content = if stat.is_file() { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    let link = std::fs::read_link(path).unwrap_or_default();
    seen.insert(
        path.to_owned(),
        format!(
            "{:o} {}:{} {:?} {}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            String::from_utf8_lossy(&content),
            link.display()
        ),
    );
    if stat.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            look(&entry.path(), seen);
        }
    }
}
