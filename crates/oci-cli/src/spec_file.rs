//! `spec`: a `config.json` to start from, which this program takes as it is.

use crate::arguments::SpecFile;
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
    let text = serde_json::to_string_pretty(&specification())
        .map_err(|e| Error::internal(format!("the specification is no JSON: {e}")))?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(fail)?;
    file.write_all(format!("{text}\n").as_bytes()).map_err(fail)
}

/// A shell in its own namespaces with three capabilities, as runc's (`libcontainer/specconv/example.go`), but
/// without a terminal, which would need somebody to take it.
fn specification() -> serde_json::Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |target: &str, kind: &str, options: &[&str]| serde_json::json!({ "destination": target, "type": kind, "source": kind, "options": options });
    serde_json::json!({
        "ociVersion": oci_spec::runtime::VERSION,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Wishes, parse, plan};
    use std::path::Path;

    #[test]
    fn what_is_written_is_taken_back_without_a_word() {
        let spec = parse(specification().to_string().as_bytes()).expect("parses");
        let plan = plan("c", &spec, Path::new("/b"), Wishes { no_pivot: false }).expect("is planned");
        assert_eq!(plan.process.args, [b"sh".to_vec()]);
        assert_eq!(plan.mounts.len(), 7);
        crate::limits::Limits::of(spec.linux().as_ref().and_then(|l| l.resources().as_ref()))
            .expect("limits");
    }
}
