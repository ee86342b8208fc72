//! Groups on the machine's own kernel, and on trees that look like other machines.
//!
//! Real groups are named `corten-test-<pid>-…` and removed with what is in them, also when a test fails.

mod devices;
mod kernel;
mod limits;
mod measures;
mod scope;
mod trees;

use cgroups::{Cgroups, Entry, Group, Mode};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A group that is killed and removed in the end.
struct Temporary {
    cgroups: Cgroups,
    group: Group,
}

impl Temporary {
    /// `None`, with a printed reason, where this machine does not let us make groups.
    fn new(name: &str) -> Option<Self> {
        Self::with(name, Cgroups::probe)
    }

    /// As if the machine had only the hierarchies of one version.
    fn only(name: &str, v2: bool) -> Option<Self> {
        Self::with(name, || only_version(v2))
    }

    fn with(name: &str, probe: impl FnOnce() -> types::Result<Cgroups>) -> Option<Self> {
        if !rustix_is_root() {
            eprintln!("skipped {name}: making groups needs root");
            return None;
        }
        let cgroups = match probe() {
            Ok(cgroups) => cgroups,
            Err(error) => {
                eprintln!("skipped {name}: {}", error.chain());
                return None;
            }
        };
        let path = format!("/corten-test-{}-{name}", std::process::id());
        match cgroups.create(&path) {
            Ok(group) => Some(Self { cgroups, group }),
            Err(error) => {
                eprintln!("skipped {name}: {}", error.chain());
                None
            }
        }
    }

    /// Starts a shell in the group.
    fn shell(&self, script: &str) -> Child {
        shell_in(&self.group, script)
    }

    /// Where the file of a controller is on this machine.
    fn file(&self, controller: &str, file: &str) -> PathBuf {
        let info = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let v1 = self.cgroups.mode() != Mode::V2 && controller != "unified";
        let mount = info.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let is = match v1 {
                true => {
                    right.starts_with("cgroup ")
                        && right.rsplit(' ').next()?.split(',').any(|o| o == controller)
                }
                false => right.starts_with("cgroup2 "),
            };
            is.then(|| left.split(' ').nth(4).unwrap().to_owned())
        });
        PathBuf::from(format!("{}{}/{file}", mount.expect("the controller is mounted"), self.group.path()))
    }

    /// Whether the controller has a hierarchy of v1.
    fn has_v1(&self, controller: &str) -> bool {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let mut names = own.lines().filter_map(|line| line.split(':').nth(1));
        names.any(|names| names.split(',').any(|name| name == controller))
    }

    fn read(&self, controller: &str, file: &str) -> String {
        std::fs::read_to_string(self.file(controller, file)).unwrap().trim().to_owned()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = self.group.kill();
        if let Err(error) = self.group.remove() {
            eprintln!("could not clean up: {}", error.chain());
        }
    }
}

/// This machine's hierarchies of one version.
fn only_version(v2: bool) -> types::Result<Cgroups> {
    let info = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let kind = if v2 { " - cgroup2 " } else { " - cgroup " };
    let info: String =
        info.lines().filter(|line| line.contains(kind)).map(|line| format!("{line}\n")).collect();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    Cgroups::probe_at(std::path::Path::new("/"), &info, &own)
}

/// A single-threaded shell that writes itself into the group, then runs the script.
fn shell_in(group: &Group, script: &str) -> Child {
    shell_with(&group.entry().unwrap(), script)
}

/// As [`shell_in`], with descriptors that lead into a group or scope.
fn shell_with(entry: &Entry, script: &str) -> Child {
    use std::os::fd::AsRawFd;
    let own = std::process::id();
    let mut enter = String::new();
    for fd in &entry.tasks {
        enter.push_str(&format!("echo 0 > /proc/{own}/fd/{} || exit 97; ", fd.as_raw_fd()));
    }
    if let Some(fd) = &entry.directory {
        enter.push_str(&format!("echo 0 > /proc/{own}/fd/{}/cgroup.procs || exit 97; ", fd.as_raw_fd()));
    }
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("{enter} echo in; {script}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The descriptors must live until the shell is in. No more is read than its word: the rest is the caller's.
    let mut word = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word)
        .expect("the shell could not enter the group");
    assert_eq!(&word, b"in\n");
    child
}

fn rustix_is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("Uid:\t0\t0\t")))
}
