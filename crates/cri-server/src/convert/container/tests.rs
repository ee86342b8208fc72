//! Tests of container configurations from the wire.

use super::*;
use crate::convert::testing::refused;
use std::collections::HashMap;
use types::pod::{NamespaceMode, SecurityProfile};

fn wire() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 2 }),
        image: Some(v1::ImageSpec {
            image: "sha256:abc".into(),
            user_specified_image: "busybox".into(),
            ..Default::default()
        }),
        command: vec!["sh".into()],
        args: vec!["-c".into(), "echo".into()],
        working_dir: "/work".into(),
        envs: vec![v1::KeyValue { key: "A".into(), value: vec![0xff, b'x'] }],
        mounts: vec![v1::Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            ..Default::default()
        }],
        devices: vec![v1::Device {
            container_path: "/dev/x".into(),
            host_path: "/dev/null".into(),
            permissions: "rw".into(),
        }],
        labels: HashMap::from([("app".into(), "web".into())]),
        annotations: HashMap::from([("note".into(), "x".into())]),
        log_path: "app/2.log".into(),
        stdin: true,
        stdin_once: true,
        tty: true,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources { cpu_shares: 10, ..Default::default() }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                capabilities: Some(v1::Capability {
                    add_capabilities: vec!["NET_ADMIN".into()],
                    drop_capabilities: vec!["ALL".into()],
                    add_ambient_capabilities: vec!["CAP_NET_BIND_SERVICE".into()],
                }),
                namespace_options: Some(v1::NamespaceOption {
                    pid: v1::NamespaceMode::Target.into(),
                    target_id: "ab12".into(),
                    ..Default::default()
                }),
                run_as_user: Some(v1::Int64Value { value: 1000 }),
                run_as_group: Some(v1::Int64Value { value: 1001 }),
                supplemental_groups: vec![1002],
                masked_paths: vec!["/proc/kcore".into()],
                readonly_paths: vec!["/proc/sys".into()],
                seccomp: Some(v1::SecurityProfile { profile_type: 1, ..Default::default() }),
                no_new_privs: true,
                ..Default::default()
            }),
        }),
        cdi_devices: vec![v1::CdiDevice { name: "nvidia.com/gpu=0".into() }],
        stop_signal: v1::Signal::Sigusr1.into(),
        ..Default::default()
    }
}

/// A sound request with one change must be refused about `name`.
fn bad(change: impl FnOnce(&mut v1::ContainerConfig), name: &str, part: &str) {
    let mut wire = wire();
    change(&mut wire);
    refused(config("config", Some(wire)), &format!("config.{name}"), part);
}

/// The same for the security context.
fn insecure(change: impl FnOnce(&mut v1::LinuxContainerSecurityContext), name: &str, part: &str) {
    bad(|w| change(security_of(w)), &format!("linux.security_context.{name}"), part);
}

fn security_of(wire: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    wire.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).expect("set above")
}

#[test]
fn every_part_of_a_container_arrives() {
    let got = config("config", Some(wire())).expect("sound");
    assert_eq!((got.metadata.name.as_str(), got.metadata.attempt), ("app", 2));
    assert_eq!((got.image.as_str(), got.user_specified_image.as_str()), ("sha256:abc", "busybox"));
    assert_eq!((got.command, got.args), (vec!["sh".to_owned()], vec!["-c".to_owned(), "echo".to_owned()]));
    assert_eq!(got.envs, [("A".to_owned(), vec![0xff, b'x'])]);
    assert_eq!((got.mounts.len(), got.devices.len(), got.resources.cpu_shares), (1, 1, 10));
    assert_eq!((got.working_dir.as_str(), got.log_path.as_str()), ("/work", "app/2.log"));
    assert!(got.stdin && got.stdin_once && got.tty);
    assert_eq!((got.cdi_devices[0].as_str(), got.stop_signal.as_str()), ("nvidia.com/gpu=0", "SIGUSR1"));
    let security = got.security;
    assert_eq!(security.add_capabilities, ["NET_ADMIN"]);
    assert_eq!(security.drop_capabilities, ["ALL"]);
    assert_eq!(security.add_ambient_capabilities, ["CAP_NET_BIND_SERVICE"]);
    assert_eq!((security.run_as_user, security.run_as_group), (Some(1000), Some(1001)));
    assert_eq!(security.namespaces.pid, NamespaceMode::Target);
    assert_eq!((security.seccomp, security.apparmor), (SecurityProfile::Unconfined, SecurityProfile::Unset));
    assert!(security.no_new_privs && !security.privileged);
    assert_eq!(security.masked_paths, ["/proc/kcore"]);
}

#[test]
fn a_container_without_config_metadata_or_image_is_refused() {
    refused(config("config", None), "config", "missing");
    bad(|w| w.metadata = None, "metadata", "missing");
    bad(|w| w.metadata = Some(v1::ContainerMetadata::default()), "metadata.name", "empty");
    bad(|w| w.image = None, "image", "missing");
    bad(|w| w.image = Some(v1::ImageSpec::default()), "image.image", "empty");
    bad(|w| w.image.as_mut().expect("set").image = "a b".into(), "image.image", "white space");
}

#[test]
fn a_log_outside_the_pods_folder_is_refused() {
    bad(|w| w.log_path = "/etc/passwd".into(), "log_path", "absolute");
    bad(|w| w.log_path = "../../other/0.log".into(), "log_path", "goes up");
    bad(|w| w.log_path = "a\0b".into(), "log_path", "NUL");
}

#[test]
fn what_execve_would_misread_is_refused() {
    bad(|w| w.command[0] = "a\0b".into(), "command[0]", "NUL");
    bad(|w| w.args[1] = "a\0b".into(), "args[1]", "NUL");
    bad(|w| w.args = vec!["x".repeat(check::ARGUMENT_MAX + 1)], "args[0]", "too long");
    bad(|w| w.args = vec![String::new(); check::ARGUMENTS_MAX + 1], "args", "too many");
    bad(|w| w.working_dir = "work".into(), "working_dir", "relative");
    bad(|w| w.envs[0].key.clear(), "envs[0].key", "empty");
    bad(|w| w.envs[0].key = "A=B".into(), "envs[0].key", "\"=\"");
    bad(|w| w.envs[0].key = "A\0".into(), "envs[0].key", "NUL");
    bad(|w| w.envs[0].value = vec![1, 0, 2], "envs[0].value", "NUL");
    bad(|w| w.envs[0].value = vec![b'x'; check::ARGUMENT_MAX + 1], "envs[0].value", "too long");
    bad(|w| w.envs = vec![w.envs[0].clone(); check::ARGUMENTS_MAX + 1], "envs", "too many");
}

#[test]
fn no_refusal_shows_the_value_of_a_variable() {
    let mut secret = wire();
    secret.envs[0] = v1::KeyValue { key: "TOKEN".into(), value: b"hunter2\0".to_vec() };
    let error = config("config", Some(secret)).expect_err("a NUL byte");
    assert!(!error.chain().contains("hunter2"), "{}", error.chain());
}

#[test]
fn devices_and_signals_that_do_not_exist_are_refused() {
    for name in ["gpu", "nvidia.com/gpu", "/gpu=0", "nvidia.com/=0", "nvidia.com/gpu=", "a=b/c"] {
        bad(|w| w.cdi_devices[0].name = name.into(), "CDI_devices", "vendor/class=device");
    }
    bad(
        |w| w.cdi_devices = vec![v1::CdiDevice::default(); check::ENTRIES_MAX + 1],
        "CDI_devices",
        "too many",
    );
    bad(|w| w.stop_signal = 66, "stop_signal", "CRI v1");
    bad(|w| w.stop_signal = -1, "stop_signal", "CRI v1");
}

#[test]
fn users_that_are_two_or_none_are_refused() {
    insecure(|s| s.run_as_username = "www".into(), "run_as_username", "only one of them");
    insecure(|s| s.run_as_user = None, "run_as_group", "needs a user");
    insecure(
        |s| s.run_as_user = Some(v1::Int64Value { value: 1 << 32 }),
        "run_as_user",
        "not a user or group id",
    );
    insecure(
        |s| s.run_as_group = Some(v1::Int64Value { value: -1 }),
        "run_as_group",
        "not a user or group id",
    );
    insecure(|s| s.run_as_username = "root\nx:0".into(), "run_as_username", "control character");
    insecure(|s| s.supplemental_groups = vec![-1], "supplemental_groups", "not a user or group id");
}

#[test]
fn names_and_paths_of_the_security_context_are_checked() {
    let capabilities = |s: &mut v1::LinuxContainerSecurityContext, name: &str| {
        s.capabilities.as_mut().expect("set").add_capabilities = vec![name.into()];
    };
    insecure(|s| capabilities(s, ""), "capabilities.add_capabilities", "not the name");
    insecure(|s| capabilities(s, "NET ADMIN"), "capabilities.add_capabilities", "not the name");
    insecure(|s| s.masked_paths = vec!["proc".into()], "masked_paths", "relative");
    insecure(|s| s.readonly_paths = vec![String::new()], "readonly_paths", "empty");
    insecure(|s| s.readonly_paths = vec!["/a".into(); check::ENTRIES_MAX + 1], "readonly_paths", "too many");
}

#[test]
#[allow(deprecated)]
fn the_old_profile_texts_of_a_container_still_count() {
    let mut old = wire();
    let security = security_of(&mut old);
    security.seccomp = None;
    security.seccomp_profile_path = "runtime/default".into();
    security.apparmor_profile = "localhost/mine".into();
    let got = config("config", Some(old)).expect("sound").security;
    assert_eq!(got.seccomp, SecurityProfile::RuntimeDefault);
    assert_eq!(got.apparmor, SecurityProfile::Localhost("mine".into()));
    insecure(|s| s.apparmor_profile = "mine".into(), "apparmor", "not a profile");
}
