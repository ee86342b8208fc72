//! Which cgroup hierarchies this machine has, and where groups are made in them. Found once, at start.
//!
//! Group paths count from the root of each hierarchy's mount, as the kubelet's and containerd's do: a group
//! that the kubelet made is found where it made it, whatever group this process is in itself. Only where
//! that root cannot be written (a container with a read-only mount, a delegated subtree) do groups nest below
//! this process's own, and [`crate::Cgroups::notes`] says so.
//! Never mounts anything.

use crate::error::Error;
use rustix::fs::{Access, AtFlags, CWD, Mode as FileMode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Largest text that is read from `/proc` here.
const MAX_TEXT: usize = 4 << 20;

/// Which generation of cgroups the machine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Mode {
    /// Only version 1 hierarchies.
    V1,
    /// Only the unified hierarchy.
    V2,
    /// Version 1 hierarchies, and a unified one beside them.
    Hybrid,
}

/// The version of one hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    pub version: Version,
    /// Controllers that it has; `name=systemd` for a named one.
    pub controllers: Vec<String>,
    pub mount: PathBuf,
    pub root: OwnedFd,
    /// What group paths are prefixed with: empty, or our own group and a slash.
    pub base: String,
    /// Our own group in it when it was probed, relative to the mount; empty at its root.
    pub own: String,
    /// Which group of the hierarchy the mount's root is; `/` for the whole.
    mount_root: String,
}

/// All hierarchies.
#[derive(Debug)]
pub(crate) struct Layout {
    pub mode: Mode,
    pub hierarchies: Vec<Hierarchy>,
    pub notes: Vec<String>,
    /// False for trees of tests, whose word about our own group is final.
    live: bool,
}

impl Layout {
    /// Our own group in each hierarchy as it is now: a supervisor moves itself after it has probed.
    pub fn own_now(&self) -> Result<Vec<(&Hierarchy, String)>, Error> {
        if !self.live {
            return Ok(self.hierarchies.iter().map(|h| (h, h.own.clone())).collect());
        }
        let text = read_proc("/proc/self/cgroup")?;
        let lines = || text.lines().filter_map(own_line);
        let own = |h: &Hierarchy| {
            lines().find(|(names, _)| is_named(h, names)).map(|(_, path)| within(&h.mount_root, path))
        };
        Ok(self.hierarchies.iter().filter_map(|h| Some((h, own(h)?))).collect())
    }

    /// The hierarchy that has this controller.
    pub fn with(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.controllers.iter().any(|name| name == controller))
    }

    /// The unified hierarchy, whether or not it has controllers.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    pub fn probe() -> Result<Self, Error> {
        let mut layout = Self::probe_at(
            Path::new("/"),
            &read_proc("/proc/self/mountinfo")?,
            &read_proc("/proc/self/cgroup")?,
        )?;
        layout.live = true;
        Ok(layout)
    }

    /// Group paths count from the root of each mount, whatever may be written there.
    pub fn rooted(mut self) -> Self {
        for hierarchy in &mut self.hierarchies {
            hierarchy.base.clear();
        }
        self.notes.clear();
        self
    }

    /// `root` is put before every mount point, so that tests can show a tree of their own.
    pub fn probe_at(root: &Path, mountinfo: &str, own: &str) -> Result<Self, Error> {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut layout = Layout { mode: Mode::V1, hierarchies: Vec::new(), notes: Vec::new(), live: false };
        for (names, path) in own.lines().filter_map(own_line) {
            // The mount of the whole hierarchy is better than a bind of a part of it.
            let candidates = || mounts.iter().filter(|mount| mount.is_of(&names));
            let Some(mount) = candidates().find(|mount| mount.root == "/").or_else(|| candidates().next())
            else {
                continue;
            };
            let place = root.join(mount.point.trim_start_matches('/'));
            if let Some(hierarchy) = open(mount, &names, place, path, &mut layout.notes)? {
                layout.hierarchies.push(hierarchy);
            }
        }
        let v1 = layout
            .hierarchies
            .iter()
            .any(|h| h.version == Version::V1 && !h.controllers[0].starts_with("name="));
        layout.mode = match (v1, layout.unified().is_some()) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::V1,
            (false, true) => {
                // A lone named hierarchy beside v2 (systemd's, in "unified + legacy systemd" set-ups) manages nothing.
                layout.hierarchies.retain(|h| h.version == Version::V2);
                Mode::V2
            }
            (false, false) => return Err(Error::NoHierarchy),
        };
        Ok(layout)
    }
}

fn open(
    mount: &Mount,
    names: &[&str],
    place: PathBuf,
    own: &str,
    notes: &mut Vec<String>,
) -> Result<Option<Hierarchy>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match rustix::fs::openat(CWD, &place, flags, FileMode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(Error::io("open the cgroup hierarchy", place, errno)),
    };
    let version = if names.is_empty() { Version::V2 } else { Version::V1 };
    let controllers = match version {
        Version::V1 => names.iter().map(|name| (*name).to_owned()).collect(),
        Version::V2 => crate::files::read_in(&root, "cgroup.controllers")
            .map_err(|errno| Error::io("read the controllers of", &place, errno))?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    };
    let own = within(&mount.root, own);
    let writable = rustix::fs::accessat(&root, ".", Access::WRITE_OK, AtFlags::empty());
    let base = match writable {
        Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) if !own.is_empty() => {
            notes.push(format!(
                "groups are made below /{own} in {}: its root cannot be written ({errno})",
                place.display()
            ));
            format!("{own}/")
        }
        _ => String::new(),
    };
    Ok(Some(Hierarchy {
        version,
        controllers,
        mount: place,
        root,
        base,
        own,
        mount_root: mount.root.clone(),
    }))
}

/// A line of /proc/self/cgroup: the controllers (none for the unified hierarchy) and the group.
/// cgroups(7): `hierarchy-ID:controller-list:cgroup-path`.
fn own_line(line: &str) -> Option<(Vec<&str>, &str)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let names = fields.next()?.split(',').filter(|name| !name.is_empty()).collect();
    Some((names, fields.next()?))
}

fn is_named(hierarchy: &Hierarchy, names: &[&str]) -> bool {
    match hierarchy.version {
        Version::V2 => names.is_empty(),
        Version::V1 => hierarchy.controllers.iter().eq(names),
    }
}

/// A group relative to the mount. The mount can show a part of the hierarchy only; a group outside of it (`/..`) has
/// no name there, and counts as its root.
fn within(mount_root: &str, group: &str) -> String {
    let group = group.strip_prefix(mount_root.trim_end_matches('/')).unwrap_or("").trim_matches('/');
    if group.split('/').any(|part| part == "..") { String::new() } else { group.to_owned() }
}

/// A line of mountinfo (proc_pid_mountinfo(5)) that is about cgroups.
struct Mount<'a> {
    root: String,
    point: String,
    v2: bool,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let v2 = match right.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = right.nth(1)?;
        let mut left = left.split(' ').skip(3);
        Some(Mount { root: unescape(left.next()?), point: unescape(left.next()?), v2, options })
    }

    /// True when this mounts the hierarchy of these controllers (none: the unified one).
    fn is_of(&self, names: &[&str]) -> bool {
        match names {
            [] => self.v2,
            _ => !self.v2 && names.iter().all(|name| self.options.split(',').any(|option| option == *name)),
        }
    }
}

/// Undoes the octal escapes of mountinfo (`\040` and the like).
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten();
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_proc(path: &'static str) -> Result<String, Error> {
    use std::io::Read;
    let fail = |source| Error::Io { what: "read", path: path.into(), source };
    let mut text = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(MAX_TEXT as u64).read_to_end(&mut text).map_err(fail)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mountinfo(lines: &[(&str, &str, &str, &str)]) -> String {
        lines
            .iter()
            .map(|(root, point, kind, options)| {
                format!("30 24 0:26 {root} {point} rw,relatime shared:4 - {kind} {kind} {options}\n")
            })
            .collect()
    }

    fn tree(folders: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        root
    }

    #[test]
    fn a_unified_machine_is_v2() {
        let root = tree(&["sys/fs/cgroup"]);
        std::fs::write(root.path().join("sys/fs/cgroup/cgroup.controllers"), "cpuset cpu io memory pids\n")
            .unwrap();
        let info = mountinfo(&[("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate")]);
        let layout = Layout::probe_at(root.path(), &info, "0::/system.slice/corten.service\n").unwrap();
        assert_eq!(layout.mode, Mode::V2);
        assert_eq!(layout.with("memory").unwrap().own, "system.slice/corten.service");
        assert_eq!(layout.with("memory").unwrap().base, "");
        assert!(layout.with("freezer").is_none());
    }

    #[test]
    fn joined_and_named_hierarchies_and_a_unified_one_are_hybrid() {
        let root = tree(&["c/cpu,cpuacct", "c/memory", "c/systemd", "c/unified"]);
        std::fs::write(root.path().join("c/unified/cgroup.controllers"), "hugetlb\n").unwrap();
        let info = mountinfo(&[
            ("/", "/c/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            ("/docker/x", "/c/bound", "cgroup", "rw,memory"),
            ("/", "/c/memory", "cgroup", "rw,memory"),
            ("/", "/c/systemd", "cgroup", "rw,xattr,name=systemd"),
            ("/", "/c/unified", "cgroup2", "rw"),
            ("/", "/proc", "proc", "rw"),
        ]);
        let layout = Layout::probe_at(
            root.path(),
            &info,
            "5:name=systemd:/\n4:memory:/own/group\n2:cpu,cpuacct:/\n0::/\nrubbish\n",
        )
        .unwrap();
        assert_eq!(layout.mode, Mode::Hybrid);
        assert_eq!(layout.hierarchies.len(), 4);
        assert!(layout.with("memory").unwrap().mount.ends_with("c/memory"));
        assert_eq!(layout.with("memory").unwrap().own, "own/group");
        assert_eq!(layout.with("cpuacct").unwrap().version, Version::V1);
        assert_eq!(layout.with("hugetlb").unwrap().version, Version::V2);
    }

    #[test]
    fn a_part_of_a_hierarchy_shifts_our_own_group() {
        let root = tree(&["c"]);
        std::fs::write(root.path().join("c/cgroup.controllers"), "memory").unwrap();
        let info = mountinfo(&[("/docker/abc", "/c", "cgroup2", "rw")]);
        let layout = Layout::probe_at(root.path(), &info, "0::/docker/abc/init\n").unwrap();
        assert_eq!(layout.hierarchies[0].own, "init");
        let outside = Layout::probe_at(root.path(), &info, "0::/../other\n").unwrap();
        assert_eq!(outside.hierarchies[0].own, "");
    }

    #[test]
    fn a_machine_without_cgroups_is_told_what_to_do() {
        let root = tree(&[]);
        let error = Layout::probe_at(root.path(), "", "").unwrap_err();
        assert!(error.to_string().contains("mount cgroup2"));
    }

    #[test]
    fn escaped_mount_points_are_read() {
        assert_eq!(unescape("/a\\040b\\134c\\x"), "/a b\\c\\x");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_probe_panic(info in "\\PC{0,200}", own in "\\PC{0,100}") {
            let root = tempfile::tempdir().unwrap();
            let _ = Layout::probe_at(root.path(), &info, &own);
            let _ = unescape(&info);
        }
    }
}
