//! `spec`: a `config.json` to start from, which this program takes as it is.

use crate::arguments::SpecFile;
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use types::{Error, ErrorKind, Result};

/// The verb. Never overwrites.
pub fn write(asked: &SpecFile) -> Result<()> {
    let path = asked.bundle.join("config.json");
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(
            ErrorKind::AlreadyExists,
            format!("{} exists; remove it, or name another folder with --bundle", path.display()),
        ),
        _ => Error::with_source(ErrorKind::Internal, format!("cannot write {}", path.display()), e),
    };
    let mut specification = specification();
    if asked.rootless {
        for_ordinary_user(&mut specification);
    }
    let text = serde_json::to_string_pretty(&specification)
        .map_err(|e| Error::internal(format!("the specification is no JSON: {e}")))?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(fail)?;
    file.write_all(format!("{text}\n").as_bytes()).map_err(fail)
}

/// A shell in its own namespaces with three capabilities, as runc's (`libcontainer/specconv/example.go`), but
/// without a terminal, which would need somebody to take it.
pub fn specification() -> serde_json::Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |target: &str, kind: &str, options: &[&str]| serde_json::json!({ "destination": target, "type": kind, "source": kind, "options": options });
    serde_json::json!({
        "ociVersion": crate::SPECIFICATION,
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "corten",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                "/sys/firmware", "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

/// What an ordinary user cannot have is taken out, as runc does (`libcontainer/specconv/example.go`, `ToRootless`): a
/// user namespace of one's own with its one id, the node's network, no other group ids, and `/sys` from the node, as
/// sysfs wants a network namespace that belongs to the user namespace.
fn for_ordinary_user(specification: &mut Value) {
    let one = |id: u32| serde_json::json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    let linux = &mut specification["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(serde_json::json!({ "type": "user" }));
    }
    linux["uidMappings"] = one(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = one(rustix::process::getegid().as_raw());
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    let Some(mounts) = specification["mounts"].as_array_mut() else { return };
    mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|target| target.starts_with("/sys")));
    for mount in mounts.iter_mut() {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("gid=")));
        }
    }
    mounts.push(serde_json::json!({
        "destination": "/sys", "type": "none", "source": "/sys",
        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Wishes, parse, plan};
    use std::path::Path;

    #[test]
    fn what_is_written_is_taken_back_without_a_word() {
        let spec = parse(specification().to_string().as_bytes()).expect("parses");
        let wishes = Wishes { no_pivot: false, no_new_keyring: false };
        let plan = plan("c", &spec, Path::new("/b"), wishes, &mut Vec::new()).expect("is planned");
        assert_eq!(plan.process.args, [b"sh".to_vec()]);
        assert_eq!(plan.mounts.len(), 7);
        crate::limits::Limits::of(spec.linux().as_ref().and_then(|l| l.resources().as_ref()))
            .expect("limits");
    }

    #[test]
    fn an_ordinary_users_has_nothing_that_needs_more_than_one_id() {
        let mut specification = specification();
        for_ordinary_user(&mut specification);
        parse(specification.to_string().as_bytes()).expect("parses");
        assert!(!specification.to_string().contains("gid="));
        assert_eq!(specification["linux"].get("resources"), None);
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(specification["linux"]["uidMappings"][0]["hostID"], own);
        let kinds: Vec<_> = specification["linux"]["namespaces"].as_array().expect("list").iter().collect();
        assert!(kinds.iter().any(|kind| kind["type"] == "user"));
        assert!(kinds.iter().all(|kind| kind["type"] != "network"));
    }
}
