//! A process as `/proc` of the host shows it (proc(5)).

use crate::Groups;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// By its id on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
}

/// One line of mountinfo.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The path inside its file system.
    pub root: String,
    /// Where it is, in the process's own root.
    pub target: String,
    /// The mount's own options, as `rw`, `nosuid`.
    pub options: Vec<String>,
    /// `shared:1`, `master:2`, …; none for a private mount.
    pub propagation: Vec<String>,
    /// `tmpfs`, `proc`, …
    pub kind: String,
    /// Device or what was named instead of one.
    pub source: String,
    /// The options of the file system.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether the mount's own options hold all of these.
    #[must_use]
    pub fn has(&self, options: &[&str]) -> bool {
        options.iter().all(|option| self.options.iter().any(|own| own == option))
    }
}

impl Process {
    /// The process with that id.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        Self { pid }
    }

    /// The process that runs this.
    #[must_use]
    pub fn own() -> Self {
        Self { pid: std::process::id().cast_signed() }
    }

    /// The path of a file in its folder of `/proc`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// A file of its folder, trimmed.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        let text = std::fs::read(&path).unwrap_or_else(|said| panic!("{}: {said}", path.display()));
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    /// Whether it is there and no zombie.
    #[must_use]
    pub fn lives(&self) -> bool {
        let stat = std::fs::read_to_string(self.path("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    /// A field of `status`, as `CapEff` or `NoNewPrivs`.
    #[track_caller]
    #[must_use]
    pub fn status(&self, field: &str) -> String {
        let text = self.read("status");
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
    }

    /// A capability set of `status`, as `CapBnd`.
    #[track_caller]
    #[must_use]
    pub fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(&self.status(set), 16).expect("a capability set is a hexadecimal number")
    }

    /// Soft and hard limit by the kernel's words, as `Max open files`.
    #[track_caller]
    #[must_use]
    pub fn limit(&self, words: &str) -> (String, String) {
        let text = self.read("limits");
        let line = text.lines().find_map(|line| line.strip_prefix(words));
        let mut parts = line.unwrap_or_else(|| panic!("no {words} in {text}")).split_whitespace();
        (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned())
    }

    /// The namespace of a kind, as `net:[4026531840]`.
    #[track_caller]
    #[must_use]
    pub fn namespace(&self, kind: &str) -> String {
        let path = self.path("ns").join(kind);
        std::fs::read_link(&path)
            .unwrap_or_else(|said| panic!("{}: {said}", path.display()))
            .display()
            .to_string()
    }

    /// Environment, by name.
    #[track_caller]
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let text = self.read("environ");
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Its mounts, the oldest first.
    #[track_caller]
    #[must_use]
    pub fn mounts(&self) -> Vec<Mount> {
        self.read("mountinfo").lines().filter_map(parse).collect()
    }

    /// The topmost mount at a place.
    #[track_caller]
    #[must_use]
    pub fn mount_at(&self, target: &str) -> Mount {
        let found = self.mounts().into_iter().rfind(|mount| mount.target == target);
        found.unwrap_or_else(|| panic!("no mount at {target} in {}", self.read("mountinfo")))
    }

    /// Its cgroups.
    #[must_use]
    pub fn groups(&self) -> Groups {
        Groups::of(self.pid)
    }
}

/// `36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw`
fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    let mut left = left.split(' ').skip(3);
    let (root, target, options) = (left.next()?, left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, source, super_options) = (right.next()?, right.next()?, right.next()?);
    Some(Mount {
        root: root.to_owned(),
        target: target.to_owned(),
        options: list(options),
        propagation: left.map(str::to_owned).collect(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        super_options: list(super_options),
    })
}
