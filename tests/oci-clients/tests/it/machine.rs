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

/// Who makes the cgroups of containers, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// The runtime itself, as root.
    Cgroupfs,
    /// Systemd, asked by the runtime: a scope for each container.
    Systemd,
    /// The systemd of an ordinary user, who runs the engine, too: the user [`USER`].
    UsersSystemd,
}

/// The guest of `cargo xtask vm` has this user, with a systemd that always runs (loginctl(1), `enable-linger`).
const USER: &str = "corten";

impl Manager {
    /// Whether it is there; says what is not so. Systemd's scopes are tested where a node has them today: on cgroup v2.
    pub fn available(self, what: &str) -> bool {
        let is_there = |path: &str| Path::new(path).exists();
        let why = if self == Manager::Cgroupfs {
            return true;
        } else if !is_there("/run/systemd/system") {
            "this machine was not started with systemd".to_owned()
        } else if !is_there("/sys/fs/cgroup/cgroup.controllers") {
            "cgroup v2 is not the hierarchy here".to_owned()
        } else if self == Manager::UsersSystemd && !is_there(&format!("{}/bus", Self::users_folder())) {
            format!("there is no user {USER:?} with a systemd and a bus of its own")
        } else {
            return true;
        };
        eprintln!("skipped: {what} with systemd's scopes: {why}");
        false
    }

    /// Time for one command of an engine. Systemd may be that of an interpreted machine, where a process costs 60 times as
    /// much.
    pub fn patience(self) -> Duration {
        Duration::from_secs(if self == Manager::Cgroupfs { 60 } else { 240 })
    }

    /// A command with that time limit, as the user and in what a login would give.
    pub fn limited(self, program: &str) -> Command {
        let seconds = self.patience().as_secs() as u32;
        if self != Manager::UsersSystemd {
            return limited(seconds, program);
        }
        let (id, folder) = (Self::users_id().to_string(), Self::users_folder());
        let mut command = limited(seconds, "setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--init-groups", program]);
        command.envs([("USER", USER), ("LOGNAME", USER), ("HOME", &format!("/home/{USER}"))]);
        command.env("XDG_RUNTIME_DIR", &folder);
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={folder}/bus"));
        command
    }

    /// Gives a folder to the user.
    pub fn give(self, folder: &Path) {
        if self == Manager::UsersSystemd {
            let id = Some(Self::users_id());
            std::os::unix::fs::chown(folder, id, id).unwrap();
        }
    }

    fn users_id() -> u32 {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let line = users.lines().find(|line| line.split(':').next() == Some(USER));
        line.and_then(|line| line.split(':').nth(2)?.parse().ok()).unwrap_or(u32::MAX)
    }

    fn users_folder() -> String {
        format!("/run/user/{}", Self::users_id())
    }

    /// The group of systemd itself, from the root of the hierarchy.
    fn group(self) -> String {
        let id = Self::users_id();
        match self {
            Manager::Cgroupfs | Manager::Systemd => String::new(),
            Manager::UsersSystemd => format!("user.slice/user-{id}.slice/user@{id}.service"),
        }
    }

    fn systemctl(self, words: &[&str]) -> Output {
        let user = (self == Manager::UsersSystemd).then_some("--user");
        self.limited("systemctl").args(user).args(words).output().unwrap()
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

/// A parent of cgroups, in every hierarchy that an engine makes it in; with systemd a slice. Removed when dropped.
pub struct Cgroups {
    /// Its name below the root of a hierarchy.
    pub name: String,
    manager: Manager,
}

impl Cgroups {
    /// The path of a unit's group in the slice, from the root of the hierarchy.
    pub fn path(&self, unit: &str) -> String {
        let above = self.manager.group();
        Path::new("/").join(above).join(&self.name).join(unit).display().to_string()
    }

    /// What systemd says of some properties of a unit.
    pub fn properties<const N: usize>(&self, unit: &str, names: [&str; N]) -> [String; N] {
        let output = self.manager.systemctl(&["show", "-p", &names.join(","), unit]);
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        names.map(|name| value(name).unwrap_or_else(|| panic!("no {name} in {text}")).to_owned())
    }

    /// The units of systemd's, also failed ones, whose names hold a part.
    pub fn units_with(&self, part: &str) -> Vec<String> {
        let output = self.manager.systemctl(&["list-units", "--all", "--plain", "--no-legend", "--full"]);
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl Cgroups {
    /// A name that no other test has: that of the test's folder. A slice's has no dashes, each of which would be a slice around
    /// it (systemd.slice(5)).
    pub fn of(folder: &Path, manager: Manager) -> Self {
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("corten-test-clients-{folder}");
        match manager {
            Manager::Cgroupfs => Self { name, manager },
            Manager::Systemd | Manager::UsersSystemd => {
                Self { name: format!("{}.slice", name.replace('-', "_")), manager }
            }
        }
    }

    /// Every group below the parent, deepest first, the parents last.
    pub fn all(&self) -> Vec<PathBuf> {
        let kinds = ["cgroup", "cgroup2"];
        let mounts = mounts::all().unwrap_or_default();
        let roots = mounts.into_iter().filter(|mount| kinds.contains(&mount.kind.as_str()));
        let mut found = Vec::new();
        for root in roots {
            walk(&root.target.join(self.manager.group()).join(&self.name), &mut found);
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
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.manager != Manager::Cgroupfs {
            // Else it stays active, without a group.
            let _ = self.manager.systemctl(&["stop", &self.name]);
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

/// Looks again for a minute.
#[track_caller]
pub fn until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "it never came to be");
        std::thread::sleep(Duration::from_millis(20));
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
