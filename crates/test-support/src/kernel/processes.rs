//! Processes that belong to somebody: by their name, arguments, folder, cgroup or root (proc(5)).

use super::{Watch, mentions, names_ours};
use crate::{Result, Tried};
use std::fmt;
use std::path::PathBuf;

/// One process, as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id in our own PID namespace.
    pub pid: i32,
    /// The name that the kernel keeps, at most 15 bytes.
    pub name: String,
    /// Arguments, joined by spaces.
    pub arguments: String,
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// Its parent.
    pub parent: i32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zombie = if self.state == 'Z' { " (zombie)" } else { "" };
        write!(f, "process {} {}{zombie}: {}", self.pid, self.name, self.arguments)
    }
}

/// Every process; those that end meanwhile are left out.
pub fn all() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").tried("read /proc")?.flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.extend(read(pid));
        }
    }
    Ok(found)
}

/// The processes that are ours, except the one that looks and its parents (their arguments name our roots).
pub(super) fn of(watch: &Watch) -> Result<Vec<Process>> {
    let all = all()?;
    let mut own = vec![std::process::id().cast_signed()];
    while let Some(parent) = own.last().and_then(|pid| all.iter().find(|p| p.pid == *pid)).map(|p| p.parent) {
        own.push(parent);
    }
    Ok(all.into_iter().filter(|process| !own.contains(&process.pid) && is_ours(watch, process)).collect())
}

fn is_ours(watch: &Watch, process: &Process) -> bool {
    let file =
        |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", process.pid)).unwrap_or_default();
    let link = |name: &str| std::fs::read_link(format!("/proc/{}/{name}", process.pid)).unwrap_or_default();
    if names_ours(watch, &process.arguments) || names_ours(watch, &file("cgroup")) {
        return true;
    }
    // A path of another mount namespace does not show ours, but the sources of its mounts do.
    let places = [link("cwd"), link("root"), link("exe")];
    if watch.roots.iter().any(|root| places.iter().any(|place: &PathBuf| place.starts_with(root))) {
        return true;
    }
    // A monitor runs from memory and may name nothing, but it holds its sockets and records open.
    if process.name.starts_with("corten") && holds(process.pid, watch) {
        return true;
    }
    link("ns/mnt") != std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default()
        && file("mountinfo").lines().any(|line| watch.roots.iter().any(|root| mentions(line, root)))
}

/// Whether a descriptor of the process is a file below our roots.
fn holds(pid: i32, watch: &Watch) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| watch.roots.iter().any(|root| target.starts_with(root)))
}

fn read(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&raw).trim_end_matches('\0').replace('\0', " ");
    parse_stat(&stat).map(|(name, state, parent)| Process { pid, name, arguments, state, parent })
}

/// The name may hold spaces and parentheses, so its end is the last one (proc_pid_stat(5)).
fn parse_stat(stat: &str) -> Option<(String, char, i32)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((name.to_owned(), state, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read() {
        assert_eq!(parse_stat("12 (a) b (c)) S 7 12 12"), Some(("a) b (c)".to_owned(), 'S', 7)));
        assert_eq!(parse_stat("12 nothing"), None);
    }

    #[test]
    fn the_looking_process_is_listed_and_never_its_own_leftover() {
        let own = std::process::id().cast_signed();
        assert!(all().expect("a list").iter().any(|process| process.pid == own));
        let here = std::env::current_exe().expect("a path");
        let watch = Watch::root(here.parent().expect("a folder"));
        assert!(!of(&watch).expect("a list").iter().any(|process| process.pid == own));
    }
}
