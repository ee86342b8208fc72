//! Security contexts: the container's own over the pod's, with the kubelet's defaults
//! (`pkg/kubelet/kuberuntime/security_context.go`), except that a pod without a seccomp profile gets the
//! runtime's default one, as a kubelet with `seccompDefault: true` does.

use super::Node;
use crate::{Error, Result};
use cri_api::v1::security_profile::ProfileType;
use cri_api::v1::{
    Capability, Image, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy,
};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SELinuxOptions, SeccompProfile,
};

/// Hidden from containers (kubelet `pkg/securitycontext/util.go`, `defaultMaskedPaths`).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Read-only in containers (same file, `defaultReadonlyPaths`).
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Which namespaces the pod shares with the machine, and its containers with each other.
pub fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let node = |yes: Option<bool>, otherwise: NamespaceMode| match yes {
        Some(true) => NamespaceMode::Node as i32,
        _ => otherwise as i32,
    };
    let pid = if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: node(spec.host_network, NamespaceMode::Pod),
        pid: node(spec.host_pid, pid),
        ipc: node(spec.host_ipc, NamespaceMode::Pod),
        ..Default::default()
    }
}

/// The sandbox's own security context.
pub fn sandbox(spec: &PodSpec) -> LinuxSandboxSecurityContext {
    let pod = spec.security_context.clone().unwrap_or_default();
    let privileged = |c: &Container| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        selinux_options: pod.se_linux_options.as_ref().map(selinux),
        run_as_user: pod.run_as_user.map(|value| Int64Value { value }),
        run_as_group: pod.run_as_user.and(pod.run_as_group).map(|value| Int64Value { value }),
        supplemental_groups: groups(&pod),
        supplemental_groups_policy: policy(&pod),
        privileged: super::containers(spec).iter().any(|(_, container)| privileged(container)),
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container's security context. `image` is what the runtime says of its image: the user in it counts
/// where the manifest names none.
pub fn container(
    spec: &PodSpec,
    container: &Container,
    image: &Image,
    node: &Node,
    path: &str,
) -> Result<LinuxContainerSecurityContext> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(pod.run_as_user);
    let image_uid = image.uid.as_ref().map(|uid| uid.value);
    let run_as_user = user.or(image_uid);
    let username = if run_as_user.is_none() { image.username.clone() } else { String::new() };
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        non_root(run_as_user, &username, &format!("{path}.securityContext.runAsNonRoot"))?;
    }
    let group = own.run_as_group.or(pod.run_as_group);
    // The CRI allows a group only beside a user; where nobody names one it is root, as the kubelet has it.
    let run_as_user =
        if group.is_some() && username.is_empty() { run_as_user.or(Some(0)) } else { run_as_user };
    let capabilities = own.capabilities.as_ref().map(|caps| Capability {
        add_capabilities: caps.add.clone().unwrap_or_default(),
        drop_capabilities: caps.drop.clone().unwrap_or_default(),
        ..Default::default()
    });
    let seccomp_profile = own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref());
    let apparmor_profile = own.app_armor_profile.as_ref().or(pod.app_armor_profile.as_ref());
    Ok(LinuxContainerSecurityContext {
        capabilities,
        privileged: own.privileged == Some(true),
        namespace_options: Some(namespaces(spec)),
        selinux_options: own.se_linux_options.as_ref().or(pod.se_linux_options.as_ref()).map(selinux),
        run_as_user: run_as_user.map(|value| Int64Value { value }),
        run_as_group: group.map(|value| Int64Value { value }),
        run_as_username: username,
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&pod),
        supplemental_groups_policy: policy(&pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: MASKED.map(str::to_owned).into(),
        readonly_paths: READ_ONLY.map(str::to_owned).into(),
        seccomp: Some(seccomp(seccomp_profile, node)),
        apparmor: apparmor_profile.map(apparmor),
        ..Default::default()
    })
}

/// The kubelet's `verifyRunAsNonRoot`.
fn non_root(user: Option<i64>, username: &str, path: &str) -> Result<()> {
    match user {
        Some(0) => Err(Error::refused(path, "is true, and the container would run as root; set runAsUser")),
        Some(_) => Ok(()),
        None if username.is_empty() => Err(Error::refused(
            path,
            "is true, and the image names no user, so it would run as root; set runAsUser",
        )),
        None => Err(Error::refused(
            path,
            format!(
                "is true, and the image's user {username:?} is a name that cannot be checked; set runAsUser"
            ),
        )),
    }
}

fn groups(pod: &PodSecurityContext) -> Vec<i64> {
    pod.supplemental_groups.iter().flatten().copied().chain(pod.fs_group).collect()
}

fn policy(pod: &PodSecurityContext) -> i32 {
    match pod.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

fn seccomp(profile: Option<&SeccompProfile>, node: &Node) -> SecurityProfile {
    let Some(profile) = profile else {
        return SecurityProfile { profile_type: ProfileType::RuntimeDefault as i32, ..Default::default() };
    };
    let (kind, file) = kind(&profile.type_, profile.localhost_profile.as_deref());
    // The CRI wants the path on the node; the manifest holds one under the profile folder.
    let localhost_ref =
        if file.is_empty() { file } else { node.seccomp_dir.join(file).to_string_lossy().into_owned() };
    SecurityProfile { profile_type: kind as i32, localhost_ref }
}

fn apparmor(profile: &AppArmorProfile) -> SecurityProfile {
    let (kind, localhost_ref) = kind(&profile.type_, profile.localhost_profile.as_deref());
    SecurityProfile { profile_type: kind as i32, localhost_ref }
}

fn kind(name: &str, file: Option<&str>) -> (ProfileType, String) {
    match name {
        "Unconfined" => (ProfileType::Unconfined, String::new()),
        "Localhost" => (ProfileType::Localhost, file.unwrap_or_default().to_owned()),
        _ => (ProfileType::RuntimeDefault, String::new()),
    }
}

fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fixtures::{node, pod};

    fn of(spec: &str, image: &Image) -> Result<LinuxContainerSecurityContext> {
        let pod = pod(spec);
        let spec = pod.spec.unwrap();
        container(&spec, &spec.containers[0], image, &node(), "spec.containers[0]")
    }

    #[test]
    fn without_a_word_a_container_gets_the_default_profile_and_hidden_paths() {
        let got = of("  containers: [{name: c, image: x}]\n", &Image::default()).unwrap();
        assert_eq!(got.seccomp.unwrap().profile_type, ProfileType::RuntimeDefault as i32);
        assert_eq!(got.masked_paths.len(), 12);
        assert_eq!(got.readonly_paths.len(), 5);
        assert!(!got.privileged && !got.no_new_privs && got.run_as_user.is_none());
    }

    #[test]
    fn the_containers_word_wins_over_the_pods() {
        let spec = "  securityContext: {runAsUser: 1, runAsGroup: 2, fsGroup: 3, supplementalGroups: [4], seccompProfile: {type: Unconfined}}\n  containers: [{name: c, image: x, securityContext: {runAsUser: 9, allowPrivilegeEscalation: false, seccompProfile: {type: Localhost, localhostProfile: a/b.json}}}]\n";
        let got = of(spec, &Image::default()).unwrap();
        assert_eq!(got.run_as_user.unwrap().value, 9);
        assert_eq!(got.run_as_group.unwrap().value, 2);
        assert_eq!(got.supplemental_groups, [4, 3]);
        assert!(got.no_new_privs);
        assert_eq!(got.seccomp.unwrap().localhost_ref, "/seccomp/a/b.json");
    }

    #[test]
    fn a_group_without_a_user_goes_to_root() {
        let spec = "  securityContext: {runAsGroup: 3000}\n  containers: [{name: c, image: x}]\n";
        let got = of(spec, &Image::default()).unwrap();
        assert_eq!((got.run_as_user.unwrap().value, got.run_as_group.unwrap().value), (0, 3000));
        let named = of(spec, &Image { username: "app".into(), ..Default::default() }).unwrap();
        assert!(named.run_as_user.is_none());
        assert_eq!(named.run_as_group.unwrap().value, 3000);
    }

    #[test]
    fn run_as_non_root_looks_into_the_image() {
        let spec = "  containers: [{name: c, image: x, securityContext: {runAsNonRoot: true}}]\n";
        assert!(of(spec, &Image::default()).is_err());
        assert!(of(spec, &Image { username: "app".into(), ..Default::default() }).is_err());
        assert!(of(spec, &Image { uid: Some(Int64Value { value: 0 }), ..Default::default() }).is_err());
        let got = of(spec, &Image { uid: Some(Int64Value { value: 7 }), ..Default::default() }).unwrap();
        assert_eq!(got.run_as_user.unwrap().value, 7);
    }
}
