//! The ids of a new user namespace: written from outside while its first process is held (user_namespaces(7),
//! "User and group ID mappings").

use crate::failure::{Failure, Step, Tried};
use crate::plan::IdMap;
use rustix::io::Errno;
use std::process::{Command, Stdio};

/// Where the helpers of shadow-utils are that map the ranges of `/etc/subuid` for an ordinary user. Never searched
/// in `PATH`: they are setuid programs.
const NEWUIDMAP: &str = "/usr/bin/newuidmap";
const NEWGIDMAP: &str = "/usr/bin/newgidmap";

/// Maps the ids of the user namespace of process `pid`, which has to be a child that waits.
pub(crate) fn write(pid: i32, uids: &[IdMap], gids: &[IdMap]) -> Step {
    if uids.is_empty() || gids.is_empty() {
        return Err(Failure::request("a new user namespace needs linux.uidMappings and linux.gidMappings"));
    }
    if rustix::process::geteuid().is_root() {
        write_file(pid, "uid_map", &lines(uids))?;
        return write_file(pid, "gid_map", &lines(gids));
    }
    let own = |maps: &[IdMap], id: u32| matches!(maps, [one] if one.outside == id && one.length == 1);
    if own(gids, rustix::process::getegid().as_raw()) {
        // Else a group that takes rights away could be dropped (CVE-2014-8989).
        write_file(pid, "setgroups", "deny")?;
        write_file(pid, "gid_map", &lines(gids))?;
    } else {
        ask(NEWGIDMAP, pid, gids, "/etc/subgid")?;
    }
    if own(uids, rustix::process::geteuid().as_raw()) {
        write_file(pid, "uid_map", &lines(uids))
    } else {
        ask(NEWUIDMAP, pid, uids, "/etc/subuid")
    }
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.inside, map.outside, map.length)).collect()
}

fn write_file(pid: i32, file: &str, text: &str) -> Step {
    match std::fs::write(format!("/proc/{pid}/{file}"), text) {
        Ok(()) => Ok(()),
        // The kernel answers EPERM for ids that the writer has not, EINVAL for ranges that overlap.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            Err(Failure::request(format!("the kernel refuses the {file} {text:?}: do its ranges overlap?")))
        }
        Err(error) => Err(error).tried(|| format!("cannot write the {file} of the user namespace")),
    }
}

fn ask(helper: &str, pid: i32, maps: &[IdMap], ranges: &str) -> Step {
    let mut command = Command::new(helper);
    command
        .arg(pid.to_string())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for map in maps {
        command.args([map.inside, map.outside, map.length].map(|number| number.to_string()));
    }
    let output = command.output().map_err(|error| {
        Failure::system(format!(
            "cannot run {helper}, which maps more than this user's own id ({error}); install it (package uidmap)"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    said.truncate(said.char_indices().nth(500).map_or(said.len(), |(at, _)| at));
    Err(Failure::request(format!(
        "{helper} refuses the mapping ({said}); is the range this user's in {ranges}?"
    )))
}
