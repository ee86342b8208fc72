//! Golden files. A change in one of them is a change of what every container of that kind gets.

use crate::requests::{Request, mount, web, words};
use container::plan::{MountSource, Process, User};
use corten_spec::{Built, HostDevice, NodeFacts, SharedMemory};
use serde_json::{Value, json};
use types::container::{Device, Propagation};
use types::pod::{IdMapping, NamespaceMode, SecurityProfile};

/// Everything that was decided, in a form whose order is fixed and whose text can be read.
fn shown(built: &Built) -> Value {
    let mut spec = serde_json::to_value(&built.spec).expect("a specification");
    for set in spec["process"]["capabilities"].as_object_mut().expect("capabilities").values_mut() {
        let list = set.as_array_mut().expect("a set");
        list.sort_by_key(|name| name.as_str().map(str::to_owned));
    }
    // The profile is the seccomp crate's to keep.
    if spec["linux"].get("seccomp").is_some() {
        spec["linux"]["seccomp"] = json!("left out");
    }
    let plan = &built.plan;
    let mounts: Vec<Value> = plan
        .mounts
        .iter()
        .map(|m| {
            let source = match &m.source {
                MountSource::Bind { path, recursive } => format!("bind {path} recursive={recursive}"),
                MountSource::Filesystem { kind, source, options } => {
                    format!("{kind} {source} {}", options.join(","))
                }
                MountSource::Cgroup => "cgroup".to_owned(),
                MountSource::Remount { .. } => "remount".to_owned(),
                MountSource::Image { folder, image, .. } => format!("image {image} {folder}"),
            };
            let bits = format!(
                "set={:#x} clear={:#x} set_recursive={:#x} propagation={:#x}",
                m.set,
                m.clear,
                m.set_recursive,
                m.propagation.iter().fold(0, |all, kind| all | kind)
            );
            json!([m.target, source, bits])
        })
        .collect();
    let devices: Vec<String> = plan
        .devices
        .iter()
        .map(|d| format!("{} {} {}:{} {:o}", d.path, d.kind, d.major, d.minor, d.mode))
        .collect();
    json!({
        "plan": {
            "namespaces": serde_json::to_value(&plan.namespaces).expect("namespaces"),
            "root": serde_json::to_value(&plan.root).expect("root"),
            "mounts": mounts,
            "devices": devices,
            "dev_links": plan.dev_links,
            "masked_paths": plan.masked_paths,
            "readonly_paths": plan.readonly_paths,
            "sysctls": plan.sysctls,
            "process": process(&plan.process),
        },
        "spec": spec,
        "device_rules": built.device_rules.len(),
        "stop_signal": built.stop_signal,
        "resources": serde_json::to_value(&built.resources).expect("resources"),
        "warnings": built.warnings,
    })
}

fn process(process: &Process) -> Value {
    let text =
        |list: &[Vec<u8>]| list.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>();
    let caps = process.capabilities.expect("capabilities");
    json!({
        "args": text(&process.args),
        "env": text(&process.env),
        "cwd": process.cwd,
        "user": serde_json::to_value(&process.user).expect("user"),
        "capabilities": {
            "bounding": format!("{:#x}", caps.bounding),
            "effective": format!("{:#x}", caps.effective),
            "permitted": format!("{:#x}", caps.permitted),
            "inheritable": format!("{:#x}", caps.inheritable),
            "ambient": format!("{:#x}", caps.ambient),
        },
        "no_new_privileges": process.no_new_privileges,
        "oom_score_adj": process.oom_score_adj,
        "terminal": process.terminal,
        "apparmor": process.apparmor,
        "selinux": process.selinux,
        "seccomp": process.seccomp.is_some(),
    })
}

macro_rules! golden {
    ($request:expr) => {
        insta::with_settings!({ sort_maps => true, omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_json_snapshot!(shown(&$request.built()));
        })
    };
}

#[test]
fn plain() {
    golden!(web());
}

#[test]
fn non_root_with_strict_groups() {
    let mut request = web();
    let security = &mut request.container.security;
    security.run_as_user = Some(1000);
    security.run_as_group = Some(3000);
    security.supplemental_groups = vec![4000];
    security.supplemental_groups_strict = true;
    security.no_new_privs = true;
    security.readonly_rootfs = true;
    security.drop_capabilities = words(&["ALL"]);
    security.add_capabilities = words(&["NET_BIND_SERVICE"]);
    golden!(request);
}

fn privileged_request() -> Request {
    let mut request = web();
    request.pod.security.privileged = true;
    request.container.security.privileged = true;
    // Whatever else is asked: privileged has none of it.
    request.container.security.seccomp = SecurityProfile::RuntimeDefault;
    let node = |path: &str, block, major, minor| HostDevice {
        path: path.into(),
        block,
        major,
        minor,
        mode: 0o660,
        ..HostDevice::default()
    };
    request.facts = NodeFacts {
        // As a daemon without CAP_SYS_RESOURCE.
        bounding_capabilities: NodeFacts::default().bounding_capabilities & !(1 << 24),
        devices: vec![
            node("/dev/vda", true, 254, 0),
            node("/dev/null", false, 1, 3),
            node("/dev/pts/0", false, 136, 0),
            node("/dev/console", false, 5, 1),
            node("/dev/net/tun", false, 10, 200),
        ],
        ..NodeFacts::default()
    };
    request
}

#[test]
fn privileged() {
    golden!(privileged_request());
}

#[test]
fn host_network_with_a_terminal() {
    let mut request = web();
    for namespaces in [&mut request.pod.security.namespaces, &mut request.container.security.namespaces] {
        namespaces.network = NamespaceMode::Node;
        namespaces.ipc = NamespaceMode::Node;
        namespaces.pid = NamespaceMode::Node;
    }
    request.container.tty = true;
    request.container.stdin = true;
    request.container.command = words(&["/bin/sh"]);
    golden!(request);
}

#[test]
fn volumes_devices_and_propagation() {
    let mut request = web();
    request.container.mounts.extend([
        mount("/data", "/data/deep/inside", false),
        mount("/data", "/data", true),
        types::container::Mount {
            propagation: Propagation::HostToContainer,
            ..mount("/host", "/host", false)
        },
        types::container::Mount { propagation: Propagation::Bidirectional, ..mount("/csi", "/csi", false) },
        types::container::Mount { recursive_read_only: true, ..mount("/rro", "/rro", true) },
        types::container::Mount {
            uid_mappings: vec![IdMapping { host_id: 65_536, container_id: 0, length: 1000 }],
            gid_mappings: vec![IdMapping { host_id: 65_536, container_id: 0, length: 1000 }],
            ..mount("/mapped", "/mapped", false)
        },
    ]);
    request.volumes = vec![
        ("/var/cache/nginx".into(), "/state/c1/volumes/0".into()),
        ("/data".into(), "/state/c1/volumes/1".into()),
        ("relative".into(), "/state/c1/volumes/2".into()),
    ];
    request.container.devices = vec![Device {
        container_path: "/dev/tun".into(),
        host_path: "/dev/net/tun".into(),
        permissions: "rw".into(),
    }];
    request.devices = vec![HostDevice {
        path: "/dev/net/tun".into(),
        major: 10,
        minor: 200,
        mode: 0o666,
        ..HostDevice::default()
    }];
    request.pod.sysctls = [("net.ipv4.ip_unprivileged_port_start".into(), "0".into())].into();
    golden!(request);
}

#[test]
fn the_runtimes_seccomp_profile_reaches_plan_and_specification() {
    let mut request = web();
    request.container.security.seccomp = SecurityProfile::RuntimeDefault;
    let built = request.built();
    let filter = built.plan.process.seccomp.expect("a filter");
    assert!(!filter.program.is_empty() && filter.program.len().is_multiple_of(8));
    assert!(built.spec.linux().as_ref().expect("linux").seccomp().is_some());
}

#[test]
fn a_profile_of_the_node_is_used_and_a_broken_one_named() {
    let mut request = web();
    request.container.security.seccomp = SecurityProfile::Localhost("profiles/audit.json".into());
    request.seccomp = Some(br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_vec());
    assert!(request.built().plan.process.seccomp.is_some());
    request.seccomp = Some(b"{".to_vec());
    let error = request.ask().expect_err("broken").chain();
    assert!(error.contains("profiles/audit.json"), "{error}");
}

#[test]
fn unset_and_unconfined_have_no_filter() {
    let mut request = web();
    for profile in [SecurityProfile::Unset, SecurityProfile::Unconfined] {
        request.container.security.seccomp = profile;
        assert!(request.built().plan.process.seccomp.is_none());
    }
}

#[test]
fn an_empty_mask_list_leaves_proc_open_and_hides_the_power_meters() {
    let mut request = web();
    request.container.security.masked_paths.clear();
    assert_eq!(request.built().plan.masked_paths, ["/sys/devices/virtual/powercap"]);
}

#[test]
fn pid_namespaces_are_shared_as_asked() {
    use container::plan::Namespace;
    let mut request = web();
    let pid = |request: &Request| request.built().plan.namespaces.pid;
    assert_eq!(pid(&request), Namespace::New);
    request.target_pid = Some(77);
    request.container.security.namespaces.pid = NamespaceMode::Pod;
    assert_eq!(pid(&request), Namespace::Path("/proc/77/ns/pid".into()));
    request.container.security.namespaces.pid = NamespaceMode::Target;
    request.container.security.namespaces.target_id = "other".into();
    assert_eq!(pid(&request), Namespace::Path("/proc/77/ns/pid".into()));
}

#[test]
fn a_caller_that_mounts_dev_gets_nothing_of_ours_there() {
    let mut request = web();
    request.container.mounts.push(mount("/dev", "/dev", false));
    request.shm = SharedMemory::Own(64 << 20);
    let plan = request.built().plan;
    assert!(plan.devices.is_empty() && !plan.dev_links);
    let targets: Vec<_> =
        plan.mounts.iter().map(|m| m.target.as_str()).filter(|t| t.starts_with("/dev")).collect();
    assert_eq!(targets, ["/dev", "/dev/termination-log"]);
}

#[test]
fn the_environments_of_image_and_caller_are_merged_in_order() {
    let mut request = web();
    request.image.env = words(&["A=1", "B=2", "HOSTNAME", "=x", "A=3", "HOME=/x"]);
    request.container.envs = vec![("B".into(), vec![0xff]), ("C".into(), vec![])];
    request.container.tty = true;
    let env = request.built().plan.process.env;
    let path = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env, [&path[..], b"TERM=xterm", b"A=3", b"B=\xff", b"HOME=/x", b"C="]);
}

#[test]
fn an_oom_score_that_cannot_be_given_is_raised_with_a_warning() {
    let mut request = web();
    request.container.resources.oom_score_adj = -998;
    assert_eq!(request.built().plan.process.oom_score_adj, Some(-998));
    request.facts.can_lower_oom = false;
    let built = request.built();
    assert_eq!((built.plan.process.oom_score_adj, built.warnings.len()), (Some(0), 1));
}

#[test]
fn apparmor_and_selinux_follow_the_node() {
    let mut request = web();
    request.facts.apparmor_default = Some("corten-default".into());
    assert_eq!(request.built().plan.process.apparmor, None);
    request.facts.has_apparmor = true;
    assert_eq!(request.built().plan.process.apparmor.as_deref(), Some("corten-default"));
    request.container.security.apparmor = SecurityProfile::Localhost("k8s-web".into());
    assert_eq!(request.built().plan.process.apparmor.as_deref(), Some("k8s-web"));
    let options =
        types::pod::SelinuxOptions { level: "s0:c1,c2".into(), ..types::pod::SelinuxOptions::default() };
    request.container.security.selinux = Some(options);
    assert_eq!(request.built().plan.process.selinux, None);
    request.facts.has_selinux = true;
    let label = request.built().plan.process.selinux;
    assert_eq!(label.as_deref(), Some("system_u:system_r:container_t:s0:c1,c2"));
}

#[test]
fn exec_gains_nothing_over_its_container() {
    let process = web().built().plan.process;
    let user = container::plan::ResolvedUser { uid: 5, gid: 6, groups: vec![6] };
    let plan =
        corten_spec::exec("c1", &process, Some(&user), &words(&["ls", "-l"]), true).expect("a command");
    assert_eq!(plan.process.args, [b"ls", b"-l"].map(|a| a.to_vec()));
    assert_eq!(plan.process.user, User::Ids { uid: 5, gid: 6, groups: vec![6] });
    assert_eq!(plan.process.capabilities, process.capabilities);
    assert_eq!(plan.process.oom_score_adj, process.oom_score_adj);
    assert!(plan.process.terminal && plan.process.env.contains(&b"TERM=xterm".to_vec()));
    assert!(corten_spec::exec("c1", &process, None, &[], false).is_err());
    assert!(corten_spec::exec("c1", &process, None, &words(&["a\0b"]), false).is_err());
}

#[test]
fn the_specification_read_back_gives_the_same_plan() {
    for request in [web(), privileged_request()] {
        let built = request.built();
        let options = corten_spec::PlanOptions::default();
        let again =
            corten_spec::plan_from_oci("c1", &built.spec, "/bundle".as_ref(), &options).expect("our own");
        let plan = built.plan;
        assert_eq!(again.mounts.len(), plan.mounts.len());
        for (ours, theirs) in plan.mounts.iter().zip(&again.mounts) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(again.devices, plan.devices);
        assert_eq!(again.namespaces, plan.namespaces);
        assert_eq!(again.masked_paths, plan.masked_paths);
        assert_eq!(again.readonly_paths, plan.readonly_paths);
        assert_eq!(again.process.capabilities, plan.process.capabilities);
        assert_eq!(again.process.args, plan.process.args);
        assert_eq!(again.process.env, plan.process.env);
        assert_eq!(again.process.oom_score_adj, plan.process.oom_score_adj);
    }
}
