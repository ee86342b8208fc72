//! What the kernel still holds: the proof that nothing was left.
//!
//! A [`Watch`] says what is ours, so that tests which run side by side do not see each other's things.
//! Only `whole_node` compares everything, for a caller that has the machine to itself. This looks and
//! never removes; nothing here asks the product, only the kernel and the disk.

pub mod cgroups;
pub mod links;
pub mod mounts;
pub mod namespaces;
pub mod processes;
pub mod tables;

use crate::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What belongs to the one who looks.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Root, state and config directories.
    pub roots: Vec<PathBuf>,
    /// Pod ids, container ids and names of cgroups: what contains one of them is ours.
    pub names: Vec<String>,
    /// Directories that must hold nothing in the end, as those of writable snapshots and pods.
    pub empty: Vec<PathBuf>,
    /// Also compares every link, address, network namespace and nftables table of the node.
    pub whole_node: bool,
}

/// What was there before.
#[derive(Debug, Clone)]
pub struct Baseline {
    watch: Watch,
    seen: BTreeSet<String>,
    notes: Vec<String>,
}

impl Watch {
    /// Everything that is below one directory or names it.
    pub fn root(path: &Path) -> Self {
        Self { roots: vec![path.to_owned()], ..Self::default() }
    }

    /// Also what contains this id or name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Also this directory, which must be empty or gone.
    #[must_use]
    pub fn empty(mut self, path: impl Into<PathBuf>) -> Self {
        self.empty.push(path.into());
        self
    }

    /// Also everything else on the node.
    #[must_use]
    pub fn whole_node(mut self) -> Self {
        self.whole_node = true;
        self
    }

    fn look(&self) -> Result<(BTreeSet<String>, Vec<String>)> {
        let mut found = BTreeSet::new();
        let mut notes = Vec::new();
        found.extend(processes::of(self)?.iter().map(ToString::to_string));
        found.extend(mounts::of(self)?.iter().map(ToString::to_string));
        found.extend(cgroups::of(self)?.into_iter().map(|path| format!("cgroup {path}")));
        for dir in &self.empty {
            found.extend(entries(dir).into_iter().map(|path| format!("file {}", path.display())));
        }
        if self.whole_node {
            found
                .extend(namespaces::network()?.into_iter().map(|inode| format!("network namespace {inode}")));
            found.extend(links::names()?.into_iter().map(|name| format!("network link {name}")));
            found.extend(links::addresses()?.into_iter().map(|address| format!("address {address}")));
            match tables::nft()? {
                Some(tables) => found.extend(tables.into_iter().map(|name| format!("nftables {name}"))),
                None => notes.push("nftables were not looked at: nft is not installed".to_owned()),
            }
        }
        Ok((found, notes))
    }
}

impl Baseline {
    /// Looks once.
    pub fn take(watch: Watch) -> Result<Self> {
        let (seen, notes) = watch.look()?;
        Ok(Self { watch, seen, notes })
    }

    /// Adds what became known later, as the ids of pods.
    pub fn add_names(&mut self, names: impl IntoIterator<Item = String>) {
        self.watch.names.extend(names);
    }

    /// What was not looked at, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What is there now and was not before, one readable line each.
    pub fn diff(&self) -> Result<Vec<String>> {
        let (now, _) = self.watch.look()?;
        Ok(now.difference(&self.seen).cloned().collect())
    }

    /// As [`Baseline::diff`], looking again until it is empty or `patience` ends: the kernel takes down
    /// network namespaces and cgroups behind the back of the one who dropped them.
    pub fn diff_within(&self, patience: Duration) -> Result<Vec<String>> {
        let end = Instant::now() + patience;
        loop {
            let left = self.diff()?;
            if left.is_empty() || Instant::now() > end {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fails the test with the list of what is left after five seconds.
    ///
    /// # Panics
    /// When something is left, or when it cannot be told.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        match self.diff_within(Duration::from_secs(5)) {
            Ok(left) => assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  ")),
            Err(problem) => panic!("it cannot be told what is left: {problem}"),
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Whether a text names something of ours.
fn names_ours(watch: &Watch, text: &str) -> bool {
    watch.names.iter().any(|name| text.contains(name.as_str()))
        || watch.roots.iter().any(|root| mentions(text, root))
}

/// Whether a text holds `root` as a path, not only as the beginning of a longer name.
fn mentions(text: &str, root: &Path) -> bool {
    let root = root.as_os_str().to_string_lossy();
    let ends =
        |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    text.match_indices(root.as_ref()).any(|(at, found)| ends(&text[at + found.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_mentioned_by_a_longer_name() {
        let root = Path::new("/var/tmp/ct-ab");
        assert!(mentions("upperdir=/var/tmp/ct-ab/x,workdir", root));
        assert!(mentions("--state=/var/tmp/ct-ab", root));
        assert!(!mentions("/var/tmp/ct-abc/x", root));
    }

    #[test]
    fn a_process_and_a_file_that_stay_are_told_and_then_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let pods = dir.path().join("pods");
        let before = Baseline::take(Watch::root(dir.path()).empty(&pods)).expect("a baseline");
        assert_eq!(before.diff().expect("a look"), Vec::<String>::new());
        std::fs::create_dir_all(pods.join("one")).expect("a folder");
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(dir.path()).spawn().expect("a process");
        // The shell of a process is seen by its working directory once it has been executed.
        std::thread::sleep(Duration::from_millis(50));
        let left = before.diff().expect("a look");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert_eq!(left.len(), 2, "{left:?}");
        std::fs::remove_dir_all(&pods).expect("removed");
        before.assert_nothing_left();
    }
}
