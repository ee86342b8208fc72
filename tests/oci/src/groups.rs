//! The cgroups of a process, in every hierarchy of version 1 and 2 (cgroups(7)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One group per controller (version 1), or one for all (version 2, under the name of the empty string).
#[derive(Debug, Clone)]
pub struct Groups {
    dirs: BTreeMap<String, PathBuf>,
}

impl Groups {
    /// The groups in which a process is.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        let text =
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the cgroup file of a process");
        let mounts = mounts();
        let mut dirs = BTreeMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(names), Some(path)) = (parts.next(), parts.next()) else { continue };
            for name in names.split(',') {
                if let Some((root, target)) = mounts.get(name) {
                    let below = Path::new(path).strip_prefix(root).unwrap_or_else(|_| Path::new(path));
                    dirs.insert(name.to_owned(), target.join(below.strip_prefix("/").unwrap_or(below)));
                }
            }
        }
        Self { dirs }
    }

    /// Every directory in any hierarchy whose own name holds `name`, the deepest first.
    #[must_use]
    pub fn named(name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for (_, target) in mounts().values() {
            walk(target, 4, &mut found);
        }
        found.retain(|path| path.to_string_lossy().contains(name));
        found.sort();
        found.dedup();
        found.reverse();
        found
    }

    /// Whether the controllers are in the one hierarchy of version 2.
    #[must_use]
    pub fn unified() -> bool {
        std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| !text.trim().is_empty())
    }

    /// The group of a controller, or of version 2 where it is there.
    #[must_use]
    pub fn dir(&self, controller: &str) -> Option<&Path> {
        self.dirs.get(controller).or_else(|| self.dirs.get("")).map(PathBuf::as_path)
    }

    /// The processes of the group.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let file = self.dir("pids").map(|dir| dir.join("cgroup.procs"));
        let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// All groups.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.dirs.values().map(PathBuf::as_path)
    }

    /// The trimmed content of the first group that has this file.
    #[must_use]
    pub fn read(&self, file: &str) -> Option<String> {
        self.dirs()
            .find_map(|dir| std::fs::read_to_string(dir.join(file)).ok())
            .map(|text| text.trim().to_owned())
    }

    /// The content of the file of version 2, or of version 1 where the groups are of that.
    #[must_use]
    pub fn either(&self, second: &str, first: &str) -> Option<String> {
        self.read(if Self::unified() { second } else { first })
    }
}

/// Controller to the root and the target of its mount; version 2 has the empty name.
fn mounts() -> BTreeMap<String, (PathBuf, PathBuf)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc/self/mountinfo");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (left, right): (Vec<_>, Vec<_>) = (left.split(' ').collect(), right.split(' ').collect());
        let place = || (PathBuf::from(left[3]), PathBuf::from(left[4]));
        match right[0] {
            "cgroup2" => drop(found.insert(String::new(), place())),
            "cgroup" => {
                let names = right.get(2).into_iter().flat_map(|options| options.split(','));
                found.extend(
                    names.filter(|name| !matches!(*name, "rw" | "ro")).map(|name| (name.to_owned(), place())),
                );
            }
            _ => {}
        }
    }
    found
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
        }
    }
}
