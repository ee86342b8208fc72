//! Where guests are kept: `CORTEN_VM_DIR`, else `corten/vm` in the user's cache folder.
//!
//! A folder per guest, named after its recipe and made under another name first, so one that is there is
//! whole. Folders of processes that are gone are removed; nothing else ever is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Guests of other recipes that stay, for work on two branches.
const KEPT: usize = 1;

/// The folder of all guests.
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// Makes it where it is not there.
    pub fn open() -> Result<Self, String> {
        let named =
            |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
        let root = named("CORTEN_VM_DIR")
            .or_else(|| Some(cache()?.join("corten/vm")))
            .ok_or("neither CORTEN_VM_DIR nor XDG_CACHE_HOME nor HOME says where to keep the guest")?;
        Self::at(&root)
    }

    fn at(root: &Path) -> Result<Self, String> {
        make(&root.join("passing"))?;
        Ok(Self { root: root.to_owned() })
    }

    /// The folder of the guest of this name.
    pub fn guest(&self, key: &str) -> PathBuf {
        self.root.join(format!("guest-{key}"))
    }

    /// Downloaded packages, for the next build.
    pub fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    /// The log of the last build.
    pub fn build_log(&self) -> PathBuf {
        self.root.join("build.log")
    }

    /// Held by one process at a time while it makes a guest or saves one.
    pub fn lock(&self) -> Result<File, String> {
        self.locked("lock")
    }

    fn locked(&self, name: &str) -> Result<File, String> {
        let path = self.root.join(name);
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        opened
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|said| format!("cannot lock {}: {said}", path.display()))
    }

    /// A folder for this process and purpose, removed when dropped, or by another process once we are gone.
    pub fn passing(&self, purpose: &str) -> Result<Passing, String> {
        let parent = self.root.join("passing");
        // Between a folder's making and its locking nobody may sweep.
        let _guard = self.locked("passing.lock")?;
        sweep(&parent);
        let path = parent.join(format!("{purpose}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        make(&path)?;
        let lock = File::create(path.join("lock"))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|said| format!("cannot lock {}: {said}", path.display()))?;
        Ok(Passing { path, _lock: lock })
    }

    /// Removes guests that this recipe has replaced, but the ones used last. Only under the lock. A guest
    /// that runs has its files open, so it goes on.
    pub fn remove_old(&self, key: &str) {
        let used = |path: &Path| {
            std::fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let mut others: Vec<_> = entries(&self.root)
            .into_iter()
            .filter(|path| name(path).starts_with("guest-") && *path != self.guest(key))
            .collect();
        others.sort_by_key(|path| std::cmp::Reverse(used(path)));
        for path in others.into_iter().skip(KEPT) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// A folder that goes with us.
pub struct Passing {
    path: PathBuf,
    _lock: File,
}

impl Passing {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes folders whose process is gone: nobody holds their lock.
fn sweep(parent: &Path) {
    for path in entries(parent) {
        if File::open(path.join("lock")).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn make(path: &Path) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|said| format!("cannot make {}: {said}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(test: &str) -> (Place, PathBuf) {
        let root = std::env::temp_dir().join(format!("xtask-place-{test}-{}", std::process::id()));
        (Place::at(&root).expect("made"), root)
    }

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_runs_is_not() {
        let (place, root) = place("sweep");
        let dead = root.join("passing/run-1");
        std::fs::create_dir_all(dead.join("deep")).expect("a folder");
        std::fs::write(dead.join("lock"), "").expect("a file");
        let first = place.passing("one").expect("made");
        let second = place.passing("two").expect("made");
        assert!(!dead.exists() && first.path().is_dir() && second.path().is_dir());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        drop(second);
        std::fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn the_guest_of_this_recipe_and_one_other_stay() {
        let (place, root) = place("old");
        for key in ["a", "b", "c"] {
            std::fs::create_dir_all(place.guest(key)).expect("a folder");
        }
        place.remove_old("a");
        assert!(place.guest("a").is_dir());
        assert_eq!(entries(&root).iter().filter(|path| name(path).starts_with("guest-")).count(), 2);
        std::fs::remove_dir_all(root).expect("removed");
    }
}
