//! `features`: what this program can do (OCI runtime specification, "Features Structure"). Names only what works.

use crate::print;
use types::{Error, Result};

/// The verb.
pub fn print_features() -> Result<()> {
    let text = serde_json::to_string_pretty(&features())
        .map_err(|e| Error::internal(format!("the features are no JSON: {e}")))?;
    print(&format!("{text}\n"))
}

fn features() -> serde_json::Value {
    serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": crate::SPECIFICATION,
        "hooks": HOOKS,
        "mountOptions": MOUNT_OPTIONS.as_slice(),
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": spec::capability_names(u64::MAX),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": ACTIONS,
                "operators": OPERATORS,
                "archs": ARCHITECTURES,
                "knownFlags": FILTER_FLAGS,
                "supportedFlags": FILTER_FLAGS,
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": { "modes": MEMORY_MODES, "flags": MEMORY_FLAGS },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
        // They change what is not the container's: which unit of systemd's, and how it is set.
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    })
}

const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Those that filters are made for; others in a profile are passed over.
const ARCHITECTURES: [&str; 5] =
    ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"];

const FILTER_FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// set_mempolicy(2); the specification names them so.
const MEMORY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];

const MEMORY_FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// What `spec` understands; propagation is part of it.
const MOUNT_OPTIONS: [&str; 61] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Wishes, parse, plan};
    use serde_json::{Value, json};
    use std::path::Path;

    fn taken(change: impl FnOnce(&mut Value)) -> std::result::Result<(), String> {
        let mut specification = crate::spec_file::specification();
        change(&mut specification);
        let spec = parse(specification.to_string().as_bytes()).map_err(|e| e.chain())?;
        let wishes = Wishes { no_pivot: false, no_new_keyring: false };
        plan("c", &spec, Path::new("/b"), wishes, &mut Vec::new()).map(|_| ()).map_err(|e| e.chain())
    }

    fn user_namespace(specification: &mut Value) {
        let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
        specification["linux"]["uidMappings"] = map.clone();
        specification["linux"]["gidMappings"] = map;
    }

    #[test]
    fn what_is_told_is_taken() {
        for hook in HOOKS {
            taken(|c| c["hooks"] = json!({ hook: [{ "path": "/bin/true" }] })).expect(hook);
        }
        for kind in NAMESPACES {
            taken(|c| {
                c["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "cgroup" }]);
                if !["mount", "cgroup"].contains(&kind) {
                    c["linux"]["namespaces"].as_array_mut().expect("list").push(json!({ "type": kind }));
                }
                if kind == "user" {
                    user_namespace(c);
                }
                c["hostname"] = Value::Null;
                c["mounts"] = json!([]);
            })
            .expect(kind);
        }
        for option in MOUNT_OPTIONS {
            let with = |kind: &str, source: &str| {
                taken(|c| {
                    c["linux"]["namespaces"].as_array_mut().expect("list").push(json!({ "type": "user" }));
                    user_namespace(c);
                    let options = if kind == "bind" { json!(["bind", option]) } else { json!([option]) };
                    let mount =
                        json!({ "destination": "/x", "type": kind, "source": source, "options": options });
                    c["mounts"].as_array_mut().expect("list").push(mount);
                })
            };
            with("tmpfs", "tmpfs").or_else(|_| with("bind", "/tmp")).expect(option);
        }
        for action in ACTIONS {
            let rule = json!([{ "names": ["getpid"], "action": action }]);
            taken(|c| {
                c["linux"]["seccomp"] =
                    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule, "listenerPath": "/s" })
            })
            .expect(action);
        }
        for operator in OPERATORS {
            let args = json!([{ "index": 0, "value": 1, "valueTwo": 1, "op": operator }]);
            let rule = json!([{ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": args }]);
            taken(|c| c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule }))
                .expect(operator);
        }
        let seccomp = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES, "flags": FILTER_FLAGS,
        });
        taken(|c| c["linux"]["seccomp"] = seccomp).expect("architectures and flags");
        for mode in MEMORY_MODES {
            let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode) { "" } else { "0" };
            taken(|c| c["linux"]["memoryPolicy"] = json!({ "mode": mode, "nodes": nodes })).expect(mode);
        }
        for flag in MEMORY_FLAGS {
            let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": [flag] });
            taken(|c| c["linux"]["memoryPolicy"] = policy).expect(flag);
        }
    }

    #[test]
    fn the_document_is_the_specifications() {
        let read: oci_spec::runtime::Features =
            serde_json::from_value(features()).expect("its own type reads it");
        assert_eq!((read.oci_version_min().as_str(), read.oci_version_max().as_str()), ("1.0.0", "1.3.0"));
        assert!(read.linux().as_ref().expect("linux").capabilities().as_ref().expect("list").len() > 40);
    }
}
