//! What this node offers, probed once at the start of the daemon.

use cgroups::{Cgroups, Mode};
use rustix::fs::FileType;
use spec::{HostDevice, NodeFacts};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How deep `/dev` is walked for a privileged container's devices.
const DEV_DEPTH: usize = 4;
/// How many device nodes are taken.
const DEVICES_MAX: usize = 4096;

/// Probes the node.
pub(crate) fn probe(cgroups: &Cgroups) -> NodeFacts {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = |field: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(field));
        line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
    };
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let score =
        fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
    let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    NodeFacts {
        bounding_capabilities: mask("CapBnd:"),
        own_oom_score_adj: score,
        can_lower_oom: mask("CapEff:") & CAP_SYS_RESOURCE != 0,
        nofile_hard: nofile.maximum.unwrap_or(u64::MAX),
        has_apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|t| t.starts_with('Y')),
        apparmor_default: None,
        has_selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        has_seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
        cgroup_v2: cgroups.mode() == Mode::V2,
        cgroup_mount: true,
        swap_accounting: swap_accounting(cgroups),
        rro: true,
        // Read anew for each privileged container.
        devices: Vec::new(),
        extra_masked_paths: thermal_paths(),
    }
}

fn swap_accounting(cgroups: &Cgroups) -> bool {
    cgroups.mode() == Mode::V2 || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

/// Counters that leak what neighbours do (runc and moby mask them since CVE-less reports of 2023–2024).
fn thermal_paths() -> Vec<String> {
    let Ok(cpus) = fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let throttle = |entry: fs::DirEntry| {
        let path = entry.path().join("thermal_throttle");
        path.is_dir().then(|| path.to_string_lossy().into_owned())
    };
    cpus.flatten().filter_map(throttle).collect()
}

/// The device nodes at a path: itself, or those in a folder.
pub(crate) fn devices_at(path: &Path) -> Vec<HostDevice> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => devices_below(path),
        Ok(meta) => device(path, &meta).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

fn devices_below(root: &Path) -> Vec<HostDevice> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            // Links are left out, and with them loops; terminals and shared memory are each container's own.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_dir()
                && depth < DEV_DEPTH
                && !["pts", "shm", "mqueue", "fd"].iter().any(|n| entry.file_name() == *n)
            {
                folders.push((path, depth + 1));
            } else if let Some(device) = device(&path, &meta)
                && found.len() < DEVICES_MAX
            {
                found.push(device);
            }
        }
    }
    found.sort_by(|a: &HostDevice, b| a.path.cmp(&b.path));
    found
}

fn device(path: &Path, meta: &fs::Metadata) -> Option<HostDevice> {
    let kind = FileType::from_raw_mode(meta.mode());
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return None;
    }
    Some(HostDevice {
        path: path.to_str()?.to_owned(),
        block: kind == FileType::BlockDevice,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}
