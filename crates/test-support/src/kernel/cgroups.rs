//! Directories of every cgroup hierarchy, version 1 and 2 (cgroups(7)).
//!
//! Only by name, even where the whole node is watched: services of the node come and go with theirs.

use super::{Watch, mounts};
use crate::Result;
use std::path::{Path, PathBuf};

/// Hierarchies have few levels; this stops at a loop that a mount could make.
const DEPTH: usize = 16;

/// Those whose path holds one of our names.
pub(super) fn of(watch: &Watch) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for mount in
        mounts::all()?.into_iter().filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"))
    {
        walk(&mount.target, DEPTH, &mut found);
    }
    found.sort();
    found.dedup();
    let mut paths: Vec<_> = found.into_iter().map(|path| path.display().to_string()).collect();
    paths.retain(|path| watch.names.iter().any(|name| path.contains(name.as_str())));
    Ok(paths)
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_groups_are_ours() {
        let watch = Watch::default().named("no-cgroup-is-called-like-this");
        assert_eq!(of(&watch).expect("a list"), Vec::<String>::new());
    }
}
