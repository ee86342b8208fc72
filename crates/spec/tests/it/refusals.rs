//! What is refused, with which kind, and that the sentence names the culprit.

use crate::requests::{Request, mount, web, words};
use types::ErrorKind::{self, FailedPrecondition, InvalidArgument, NotFound, Unimplemented};
use types::container::{Device, Mount, Propagation};
use types::pod::{IdMapping, NamespaceMode, SecurityProfile, UserNamespace};

#[track_caller]
fn refused(change: impl FnOnce(&mut Request), kind: ErrorKind, names: &str) {
    let mut request = web();
    change(&mut request);
    let error = request.ask().expect_err("this was accepted");
    assert_eq!(error.kind(), kind, "{}", error.chain());
    assert!(error.chain().contains(names), "{:?} does not name {names:?}", error.chain());
}

#[track_caller]
fn refused_mount(mount: Mount, kind: ErrorKind, names: &str) {
    refused(|request| request.container.mounts.push(mount), kind, names);
}

#[test]
fn nothing_to_run() {
    refused(|r| r.image = corten_spec::ImageConfig::default(), InvalidArgument, "no command");
}

#[test]
fn a_privileged_container_in_an_ordinary_pod() {
    refused(|r| r.container.security.privileged = true, InvalidArgument, "privileged");
}

#[test]
fn what_is_not_built_yet() {
    refused(|r| r.container.cdi_devices = words(&["a.com/gpu=0"]), Unimplemented, "CDI");
    let user = UserNamespace { mode: NamespaceMode::Pod, ..UserNamespace::default() };
    refused(|r| r.pod.security.namespaces.user = Some(user.clone()), Unimplemented, "user namespaces");
    refused(|r| r.container.security.namespaces.user = Some(user.clone()), Unimplemented, "user namespaces");
}

#[test]
fn an_image_that_is_not_here_is_no_mount() {
    let missing = Mount { image: Some("x".into()), ..mount("", "/x", true) };
    refused_mount(missing, InvalidArgument, "not on this node");
}

#[test]
fn pid_namespaces_that_cannot_be_had() {
    let pid = |mode| move |r: &mut Request| r.container.security.namespaces.pid = mode;
    refused(pid(NamespaceMode::Pod), FailedPrecondition, "PID namespace");
    refused(pid(NamespaceMode::Target), InvalidArgument, "target_id");
    refused(pid(NamespaceMode::Node), InvalidArgument, "PID namespace");
}

#[test]
fn capabilities_that_do_not_exist_or_cannot_be_given() {
    refused(|r| r.container.security.add_capabilities = words(&["FLY"]), InvalidArgument, "FLY");
    let lacking = |r: &mut Request| {
        r.facts.bounding_capabilities &= !(1 << 24);
        r.container.security.add_capabilities = words(&["SYS_RESOURCE"]);
    };
    refused(lacking, FailedPrecondition, "CAP_SYS_RESOURCE");
}

#[test]
fn users_that_would_be_root_by_accident() {
    refused(|r| r.image.user = "4294967296".into(), InvalidArgument, "4294967296");
    refused(|r| r.image.user = "1000:-1".into(), InvalidArgument, "-1");
    refused(|r| r.container.security.run_as_user = Some(1 << 32), InvalidArgument, "4294967296");
    refused(|r| r.container.security.run_as_username = "a\nb".into(), InvalidArgument, "a\\nb");
    refused(|r| r.container.security.run_as_group = Some(5), InvalidArgument, "without a user");
}

#[test]
fn mounts_that_make_no_sense() {
    refused_mount(mount("relative", "/x", false), InvalidArgument, "relative");
    refused_mount(mount("/x", "relative", false), InvalidArgument, "relative");
    refused_mount(mount("/x", "/a/..", false), InvalidArgument, "/");
    refused_mount(mount("/x", "/proc/self", false), InvalidArgument, "/proc/self");
    refused_mount(mount("/x", "/proc/../proc/sys", false), InvalidArgument, "/proc/sys");
    refused_mount(mount("/x", "/proc", false), InvalidArgument, "/proc");
    refused_mount(mount("/x\0", "/x", false), InvalidArgument, "NUL");
    refused_mount(mount(&format!("/{}", "x".repeat(5000)), "/x", false), InvalidArgument, "4095");
    refused_mount(
        Mount { recursive_read_only: true, ..mount("/x", "/x", false) },
        InvalidArgument,
        "recursive",
    );
    let shared = Mount {
        recursive_read_only: true,
        propagation: Propagation::Bidirectional,
        ..mount("/x", "/x", true)
    };
    refused_mount(shared, InvalidArgument, "propagation");
    let map = vec![IdMapping { host_id: u32::MAX, container_id: 0, length: 2 }];
    let mapped = Mount { uid_mappings: map.clone(), gid_mappings: map, ..mount("/x", "/x", false) };
    refused_mount(mapped, InvalidArgument, "4294967295");
    let old = |r: &mut Request| {
        r.facts.rro = false;
        r.container.mounts.push(Mount { recursive_read_only: true, ..mount("/x", "/x", true) });
    };
    refused(old, InvalidArgument, "5.12");
    refused(|r| r.container.mounts = vec![mount("/x", "/x", false); 5000], InvalidArgument, "4096");
    refused(|r| r.volumes = vec![("../..".into(), "/x".into())], InvalidArgument, "whole image");
}

#[test]
fn devices_that_are_not_there_or_ask_for_odd_permissions() {
    let device = |permissions: &str| Device {
        host_path: "/dev/fuse".into(),
        container_path: String::new(),
        permissions: permissions.into(),
    };
    refused(|r| r.container.devices = vec![device("rwm")], NotFound, "/dev/fuse");
    refused(|r| r.container.devices = vec![device("rwx")], InvalidArgument, "rwx");
}

#[test]
fn arguments_and_variables_that_no_program_could_get() {
    refused(|r| r.container.command = words(&["a\0b"]), InvalidArgument, "NUL");
    refused(|r| r.container.command = vec!["a".repeat(1 << 18)], InvalidArgument, "131071");
    refused(|r| r.container.args = vec!["a".repeat(100_000); 100], InvalidArgument, "together");
    refused(|r| r.container.envs = vec![("A=B".into(), vec![])], InvalidArgument, "A=B");
    refused(|r| r.container.envs = vec![(String::new(), vec![])], InvalidArgument, "name");
    refused(|r| r.container.envs = vec![("A".into(), vec![0])], InvalidArgument, "NUL");
    refused(|r| r.container.working_dir = "here".into(), InvalidArgument, "here");
}

#[test]
fn profiles_that_the_node_cannot_apply() {
    let apparmor = |r: &mut Request| r.container.security.apparmor = SecurityProfile::Localhost("web".into());
    refused(apparmor, FailedPrecondition, "AppArmor is off");
    let seccomp = |r: &mut Request| {
        r.facts.has_seccomp = false;
        r.container.security.seccomp = SecurityProfile::RuntimeDefault;
    };
    refused(seccomp, FailedPrecondition, "CONFIG_SECCOMP_FILTER");
}

#[test]
fn sysctls_of_the_node() {
    refused(
        |r| r.pod.sysctls = [("kernel.core_pattern".into(), "|/x".into())].into(),
        InvalidArgument,
        "core_pattern",
    );
}

#[test]
fn limits_that_are_more_than_limits() {
    let unified = |file: &'static str| {
        move |r: &mut Request| r.container.resources.unified = [(file.to_owned(), "1".to_owned())].into()
    };
    for file in ["../memory.max", "memory/max", "cgroup.procs", "cgroup.subtree_control", "memory", ".x", ""]
    {
        refused(unified(file), InvalidArgument, "unified");
    }
    refused(|r| r.container.resources.cpuset_cpus = "0\n1".into(), InvalidArgument, "cpuset_cpus");
    refused(|r| r.container.resources.hugepages = vec![("../x".into(), 1)], InvalidArgument, "../x");
    refused(|r| r.container.resources.oom_score_adj = 1001, InvalidArgument, "1001");
    refused(|r| r.container.resources.cpu_shares = -1, InvalidArgument, "cpu_shares");
    refused(|r| r.container.resources.memory_limit = i64::MIN, InvalidArgument, "memory_limit");
}

#[test]
fn stop_signals_that_do_not_exist() {
    refused(|r| r.container.stop_signal = "SIGNONE".into(), InvalidArgument, "SIGNONE");
}

#[test]
fn masked_paths_that_are_not_absolute() {
    refused(|r| r.container.security.masked_paths = words(&["proc/x"]), InvalidArgument, "proc/x");
}
