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
    assert_eq!(data.propagation, [1 << 18 | 1 << 14]);
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
        ("/hooks", json!({ "prestart": hook }), "hooks.prestart"),
        ("/hooks", json!({ "poststop": hook }), "hooks.poststop"),
        ("/vm", json!({ "kernel": { "path": "/k" } }), "vm"),
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
fn scheduling_memory_and_the_execution_domain_are_in_the_kernels_numbers() {
    let of = |pointer: &str, value: Value| plan(with(pointer, value)).expect(pointer).process;
    let idle = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 1 });
    assert_eq!(of("/process/ioPriority", idle).scheduling.io_priority, Some((3, 1)));
    let deadline = json!({
        "policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RECLAIM", "SCHED_RESET_ON_FORK"],
        "runtime": 1, "deadline": 2, "period": 3,
    });
    let policy = of("/process/scheduler", deadline).scheduling.policy.expect("a policy");
    assert_eq!((policy.policy, policy.flags), (6, 3));
    assert_eq!((policy.runtime, policy.deadline, policy.period), (1, 2, 3));
    let cpus = of("/process/execCPUAffinity", json!({ "initial": "0-1", "final": "7,3" })).scheduling;
    assert_eq!((cpus.initial_cpus, cpus.final_cpus), (vec![0, 1], vec![3, 7]));
    assert_eq!(of("/linux/personality", json!({ "domain": "LINUX32" })).personality, Some(8));
    let bind = json!({ "mode": "MPOL_BIND", "nodes": "0,2", "flags": ["MPOL_F_STATIC_NODES"] });
    let policy = of("/linux/memoryPolicy", bind).memory_policy.expect("a policy");
    assert_eq!((policy.mode, policy.nodes), (2 | 1 << 15, vec![0, 2]));
    let named = |no_new_keyring| {
        let options = PlanOptions { no_new_keyring, ..PlanOptions::default() };
        plan_with(runc(), &options).expect("fine").process.keyring
    };
    assert_eq!((named(false), named(true)), (Some("_ses.c1".into()), None));
}

#[test]
fn hooks_of_the_container_and_its_clocks_are_in_the_plan() {
    let hook = json!([{ "path": "/bin/true", "args": ["true", "x"], "env": ["A=b"], "timeout": 3 }]);
    let hooks =
        plan(with("/hooks", json!({ "createContainer": hook, "startContainer": hook }))).expect("fine").hooks;
    assert_eq!(hooks.create_container, hooks.start_container);
    assert_eq!((hooks.create_container[0].timeout, hooks.create_container[0].args.len()), (Some(3), 2));
    let mut spec =
        with("/linux/timeOffsets", json!({ "monotonic": { "secs": -1, "nanosecs": 5 }, "boottime": {} }));
    assert!(plan(spec.clone()).is_err(), "there is no time namespace");
    spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({ "type": "time" }));
    let offsets = plan(spec).expect("fine").namespaces.time_offsets;
    assert_eq!(offsets.len(), 2);
    assert_eq!((offsets[0].seconds, offsets[0].nanoseconds), (-1, 5));
}

#[test]
fn broken_specifications_are_refused() {
    for (pointer, value, names) in [
        ("/process/args", json!([]), "process.args"),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_RT", "priority": 8 }), "process.ioPriority"),
        ("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": 20 }), "process.scheduler.nice"),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_OTHER", "priority": 1 }),
            "process.scheduler.priority",
        ),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "5-1" }), "linux.memoryPolicy.nodes"),
        ("/linux/personality", json!({ "domain": "LINUX", "flags": ["X"] }), "linux.personality.flags"),
        ("/linux/timeOffsets", json!({ "realtime": { "secs": 1 } }), "realtime"),
        ("/hooks", json!({ "createContainer": [{ "path": "true" }] }), "createContainer"),
        ("/hooks", json!({ "startContainer": [{ "path": "/true", "timeout": -1 }] }), "startContainer"),
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
        (
            "/mounts/-",
            json!({ "destination": "/x", "source": "/x", "options": ["bind", "ridmap"] }),
            "uidMappings",
        ),
        ("/mounts/-", json!({ "destination": "/x", "type": "tmpfs", "options": ["idmap"] }), "bind"),
        ("/mounts/-", json!({ "destination": "/", "type": "tmpfs" }), "whole root"),
        ("/mounts/-", json!({ "destination": "/proc", "type": "tmpfs" }), "/proc"),
        ("/mounts/-", json!({ "destination": "/a/../proc/sys", "type": "tmpfs" }), "/proc/sys"),
        (
            "/mounts/-",
            json!({ "destination": "/x", "type": "cgroup2", "options": ["nsdelegate"] }),
            "nsdelegate",
        ),
        ("/linux/mountLabel", json!("a\nb"), "mountLabel"),
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

fn mount_of(value: Value) -> container::plan::Mount {
    plan(with("/mounts/-", value)).expect("a mount").mounts.pop().expect("the last")
}

#[test]
fn every_option_of_the_specification_is_taken() {
    // "Linux mount options" of config.md, version 1.3.
    let all = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
        nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
        rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime \
        rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw \
        shared silent slave strictatime suid symfollow sync unbindable";
    for option in all.split_whitespace() {
        let bound = mount_of(json!({ "destination": "/x", "source": "/s", "options": ["bind", option] }));
        let bits = bound.set | bound.clear | bound.set_recursive | bound.clear_recursive;
        let told =
            bits != 0 || !bound.propagation.is_empty() || matches!(bound.source, MountSource::Remount { .. });
        let silent = "async bind defaults dirsync iversion lazytime loud mand noiversion nolazytime nomand rbind \
            silent sync";
        assert_eq!(told, !silent.split_whitespace().any(|name| name == option), "{option}");
        let made =
            mount_of(json!({ "destination": "/x", "type": "tmpfs", "source": "/s", "options": [option] }));
        if let MountSource::Filesystem { options, .. } = &made.source {
            assert_eq!((made.set_recursive, made.clear_recursive), (0, 0), "{option}");
            let vfs = ["dirsync", "lazytime", "mand", "sync"].contains(&option);
            assert_eq!(options.is_empty(), !vfs, "{option}: {options:?}");
        }
    }
}

#[test]
fn propagations_add_up_as_mount_2_has_them() {
    const REC: u32 = 1 << 14;
    let of = |options: &[&str]| {
        let mut all = vec!["bind"];
        all.extend(options);
        mount_of(json!({ "destination": "/x", "source": "/s", "options": all })).propagation
    };
    assert_eq!(of(&["shared", "slave"]), [1 << 19]);
    assert_eq!(of(&["slave", "shared"]), [1 << 19, 1 << 20]);
    assert_eq!(of(&["rprivate", "slave"]), [1 << 18 | REC, 1 << 19]);
    assert_eq!(of(&["slave", "rprivate"]), [1 << 18 | REC]);
}

#[test]
fn a_mount_label_goes_to_the_file_systems_that_take_it() {
    let plan = plan(with("/linux/mountLabel", json!("system_u:object_r:x:s0:c1,c2"))).expect("a plan");
    for mount in &plan.mounts {
        let MountSource::Filesystem { kind, options, .. } = &mount.source else { continue };
        let labelled = options.iter().any(|option| option == "context=system_u:object_r:x:s0:c1,c2");
        assert_eq!(labelled, kind != "proc", "{kind}: {options:?}");
    }
}

#[test]
fn mappings_make_an_idmapped_mount_and_the_option_alone_takes_the_containers() {
    use container::plan::Idmap;
    let maps = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    let own = mount_of(json!({
        "destination": "/x", "source": "/s", "options": ["rbind", "ridmap"], "uidMappings": maps, "gidMappings": maps
    }));
    assert_eq!((own.idmap, own.uid_mappings[0].outside), (Idmap::Recursive, 1000));
    let mut spec = with("/linux/namespaces/-", json!({ "type": "user" }));
    spec["linux"]["uidMappings"] = maps.clone();
    spec["linux"]["gidMappings"] = maps;
    spec["mounts"] = json!([{ "destination": "/x", "source": "/s", "options": ["bind", "idmap"] }]);
    let theirs = plan(spec).expect("a plan").mounts.remove(0);
    assert_eq!((theirs.idmap, theirs.uid_mappings.len()), (Idmap::Single, 0));
}
