//! Specifications as `runc spec`, Podman and Docker write them.

use container::plan::{LaunchPlan, MountSource, Namespace, RootSource, User};
use corten_spec::{PlanOptions, plan_from_oci};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use types::{ErrorKind, Result};

/// What `runc spec` writes, shortened.
fn runc() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "consoleSize": { "height": 24, "width": 80 },
            "user": { "uid": 7, "gid": 8, "umask": 18, "additionalGids": [9] },
            "args": ["sh"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512 }],
            "noNewPrivileges": true,
            "oomScoreAdj": 100
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runc",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
            { "destination": "/data", "source": "data", "options": ["rbind", "rprivate", "rro", "rw", "nodev"] }
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network", "path": "/run/netns/a" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "rootfsPropagation": "rslave",
            "sysctl": { "net.ipv4.ip_forward": "1", "kernel.domainname": "x" },
            "devices": [
                { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 5, "gid": 5 },
                { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 33206 }
            ],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] }
        }
    })
}

fn plan_with(value: Value, options: &PlanOptions) -> Result<LaunchPlan> {
    let spec: Spec = serde_json::from_value(value).expect("a specification");
    plan_from_oci("c1", &spec, "/bundle".as_ref(), options)
}

fn plan(value: Value) -> Result<LaunchPlan> {
    plan_with(value, &PlanOptions::default())
}

#[test]
fn the_fields_of_runcs_own_example_reach_the_plan() {
    let plan = plan(runc()).expect("runc's example");
    assert_eq!(plan.root.source, RootSource::Directory("/bundle/rootfs".into()));
    assert!(plan.root.readonly);
    assert_eq!(plan.root.propagation, 1 << 19 | 1 << 14);
    assert_eq!(plan.hostname.as_deref(), Some("runc"));
    assert_eq!(plan.namespaces.network, Namespace::Path("/run/netns/a".into()));
    assert_eq!((&plan.namespaces.pid, &plan.namespaces.user), (&Namespace::New, &Namespace::Inherit));
    assert_eq!(plan.masked_paths, ["/proc/kcore"]);
    assert_eq!(plan.sysctls.len(), 2);
    let process = &plan.process;
    assert_eq!(process.user, User::Ids { uid: 7, gid: 8, groups: vec![9] });
    assert_eq!(
        (process.umask, process.console_size, process.oom_score_adj),
        (Some(18), Some((24, 80)), Some(100))
    );
    assert_eq!(
        (process.rlimits[0].resource, process.rlimits[0].soft, process.rlimits[0].hard),
        (7, 512, 1024)
    );
    let caps = process.capabilities.expect("capabilities");
    assert_eq!((caps.bounding, caps.inheritable, caps.ambient), (1 << 5, 0, 0));
    assert!(process.no_new_privileges && process.terminal);
    assert_eq!(plan.devices.len(), 7);
    assert_eq!((plan.devices[0].uid, plan.devices[0].mode), (5, 0o666));
    assert_eq!((plan.devices[6].path.as_str(), plan.devices[6].mode), ("/dev/fuse", 0o666));
}

#[test]
fn mount_options_are_read_as_runc_reads_them() {
    let plan = plan(runc()).expect("runc's example");
    let [proc, dev, cgroup, data] = &plan.mounts[..] else { panic!("four mounts") };
    assert!(matches!(&proc.source, MountSource::Filesystem { kind, .. } if kind == "proc"));
    let options = vec!["mode=755".to_owned(), "size=65536k".to_owned()];
    assert!(matches!(&dev.source, MountSource::Filesystem { options: o, .. } if *o == options));
    assert_eq!((dev.set, dev.clear), (0x2 | 0x20, 0x70));
    assert_eq!(cgroup.source, MountSource::Cgroup);
    assert_eq!((cgroup.set, cgroup.clear), (0x1 | 0x2 | 0x4 | 0x8, 0x70));
    assert_eq!(data.source, MountSource::Bind { path: "/bundle/data".into(), recursive: true });
    assert_eq!((data.set, data.clear, data.set_recursive), (0x4, 0x1, 0x1));
    assert_eq!(data.propagation, 1 << 18 | 1 << 14);
}

#[test]
fn no_capabilities_section_means_no_capabilities() {
    let mut spec = runc();
    spec["process"].as_object_mut().expect("process").remove("capabilities");
    assert_eq!(plan(spec).expect("fine").process.capabilities.map(|c| c.permitted), Some(0));
}

#[test]
fn a_bound_dev_is_left_alone() {
    let mut spec = runc();
    spec["mounts"][1] = json!({ "destination": "/dev", "source": "/dev", "options": ["rbind"] });
    let plan = plan(spec).expect("fine");
    assert!(plan.devices.is_empty() && !plan.dev_links);
}

/// Sets `value` at a JSON pointer, whose parent must be there.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = runc();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match parent {
        Value::Array(list) => list.push(value),
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        _ => panic!("{pointer}"),
    }
    spec
}

#[test]
fn what_the_plan_cannot_say_is_refused_by_its_name() {
    let hook = json!([{ "path": "/bin/true" }]);
    for (pointer, value, names) in [
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 1 }), "process.ioPriority"),
        ("/process/scheduler", json!({ "policy": "SCHED_FIFO" }), "process.scheduler"),
        ("/process/execCPUAffinity", json!({ "initial": "0" }), "process.execCPUAffinity"),
        ("/linux/intelRdt", json!({ "closID": "x" }), "linux.intelRdt"),
        ("/linux/personality", json!({ "domain": "LINUX32" }), "linux.personality"),
        ("/linux/mountLabel", json!("system_u:object_r:x:s0"), "linux.mountLabel"),
        ("/linux/netDevices", json!({ "eth0": {} }), "linux.netDevices"),
        ("/linux/timeOffsets", json!({ "monotonic": { "secs": 1, "nanosecs": 0 } }), "linux.timeOffsets"),
        ("/hooks", json!({ "createContainer": hook }), "hooks.createContainer"),
        ("/hooks", json!({ "startContainer": hook }), "hooks.startContainer"),
        ("/hooks", json!({ "prestart": hook }), "hooks.prestart"),
        ("/hooks", json!({ "poststop": hook }), "hooks.poststop"),
        ("/vm", json!({ "kernel": { "path": "/k" } }), "vm"),
        (
            "/mounts/-",
            json!({ "destination": "/x", "source": "/x", "options": ["bind", "ridmap"] }),
            "ridmap",
        ),
        ("/mounts/-", json!({ "destination": "/x", "source": "/x", "options": ["remount"] }), "remount"),
        (
            "/mounts/-",
            json!({ "destination": "/x", "source": "/x", "options": ["bind", "shared", "slave"] }),
            "slave",
        ),
    ] {
        let error = plan(with(pointer, value)).expect_err(names);
        assert_eq!(error.kind(), ErrorKind::Unimplemented, "{names}");
        assert!(error.chain().contains(names), "{:?} does not name {names}", error.chain());
    }
    let hooks = with("/hooks", json!({ "prestart": hook, "createRuntime": hook, "poststop": hook }));
    plan_with(hooks, &PlanOptions { runs_hooks: true, ..PlanOptions::default() })
        .expect("the caller runs them");
}

#[test]
fn broken_specifications_are_refused() {
    for (pointer, value, names) in [
        ("/process/args", json!([]), "process.args"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/oomScoreAdj", json!(5000), "5000"),
        ("/process/user", json!({ "uid": 4_294_967_295_u32, "gid": 0 }), "4294967295"),
        ("/process/rlimits", json!([{ "type": "RLIMIT_CORE", "hard": 1, "soft": 2 }]), "RLIMIT_CORE"),
        ("/process/rlimits/-", json!({ "type": "RLIMIT_NOFILE", "hard": 1, "soft": 1 }), "twice"),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
        ("/linux/maskedPaths", json!(["proc/x"]), "proc/x"),
        ("/linux/namespaces", json!([{ "type": "pid" }, { "type": "uts" }]), "mount"),
        ("/linux/namespaces/-", json!({ "type": "pid" }), "twice"),
        ("/linux/namespaces/-", json!({ "type": "user" }), "uidMappings"),
        ("/linux/uidMappings", json!([{ "hostID": 1, "containerID": 0, "size": 1 }]), "user"),
        ("/linux/namespaces", json!([{ "type": "mount" }]), "hostname"),
        ("/linux/sysctl", json!({ "kernel.core_pattern": "x" }), "core_pattern"),
        ("/linux/devices", json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 1 }]), "dev/x"),
        (
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "c", "major": -1, "minor": 1 }]),
            "out of range",
        ),
        ("/mounts/-", json!({ "destination": "/x", "options": ["bind"] }), "source"),
        ("/mounts/-", json!({ "destination": "/x", "source": "/x" }), "neither a type"),
        (
            "/mounts/-",
            json!({ "destination": "/x", "source": "/x", "options": ["bind", "size=1"] }),
            "size=1",
        ),
        ("/mounts/-", json!({ "destination": "/x", "type": "proc", "options": ["tmpcopyup"] }), "tmpcopyup"),
    ] {
        let error = plan(with(pointer, value)).expect_err(names).chain();
        assert!(error.contains(names), "{error:?} does not name {names}");
    }
    let private = with("/linux/rootfsPropagation", json!("private"));
    assert!(plan_with(private, &PlanOptions { no_pivot: true, ..PlanOptions::default() }).is_err());
}

#[test]
fn a_user_namespace_brings_its_mappings() {
    let mut spec = with("/linux/namespaces/-", json!({ "type": "user" }));
    let map = json!([{ "hostID": 1000, "containerID": 0, "size": 65536 }]);
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
    let plan = plan(spec).expect("a user namespace");
    assert_eq!((plan.namespaces.user, plan.namespaces.uid_mappings[0].outside), (Namespace::New, 1000));
}
