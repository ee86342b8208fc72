//! What both engines' tests stand on: the runtime under test, images as archives, cgroups of our own, terminals.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use test_support::kernel::mounts;

/// The runtime: `OCI_RUNTIME`, else corten-oci as built.
pub fn runtime() -> PathBuf {
    match std::env::var_os("OCI_RUNTIME") {
        Some(path) => PathBuf::from(path),
        None => test_support::programs::oci().unwrap_or_else(|problem| panic!("{problem}")),
    }
}

/// Whether the programs are there and we are root; says what is missing.
pub fn available(what: &str, programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {what} is run as root here");
        return false;
    }
    let missing = programs.iter().find(|program| !Path::new(program).is_file());
    match missing {
        Some(program) => {
            eprintln!("skipped: {what} is not installed ({program})");
            false
        }
        None => true,
    }
}

/// A command with a time limit: an engine that hangs fails its test, and no other.
pub fn limited(seconds: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string()]).arg(program);
    command
}

/// Standard output and standard error, for messages.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}: {} {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// A parent of cgroups, in every hierarchy that an engine makes it in. Removed when dropped.
pub struct Cgroups {
    /// Its name below the root of a hierarchy.
    pub name: String,
}

impl Cgroups {
    /// A name that no other test has: that of the test's folder.
    pub fn of(folder: &Path) -> Self {
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        Self { name: format!("corten-test-clients-{folder}") }
    }

    /// Every group below the parent, deepest first, the parents last.
    pub fn all(&self) -> Vec<PathBuf> {
        let kinds = ["cgroup", "cgroup2"];
        let mounts = mounts::all().unwrap_or_default();
        let roots = mounts.into_iter().filter(|mount| kinds.contains(&mount.kind.as_str()));
        let mut found = Vec::new();
        for root in roots {
            walk(&root.target.join(&self.name), &mut found);
        }
        found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        found.dedup();
        found
    }
}

impl Cgroups {
    /// Removes what engines leave for others to use again: the parent, and podman's group of its conmon processes, which
    /// end a moment after their containers.
    pub fn remove_within(&self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            let groups = self.all();
            let busy = groups.iter().filter(|group| std::fs::remove_dir(group).is_err()).count();
            if busy == 0 || Instant::now() > end {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    found.push(dir.to_owned());
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk(&entry.path(), found);
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.remove_within(Duration::from_secs(2));
    }
}

/// Reads a file of a cgroup of `controller` that lies below our parent and whose path ends as given.
pub fn cgroup_file(cgroups: &Cgroups, ends: &str, file: &str) -> String {
    let group = cgroups
        .all()
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(ends) && path.join(file).is_file());
    let path = group.unwrap_or_else(|| panic!("no cgroup …{ends} has {file}")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display())).trim().to_owned()
}
