//! The launch plan as an OCI runtime specification: for `inspect`, for people, and for runtimes that are not
//! ours. It says what the plan says; only what the plan knows by other means (limits, device rules, the seccomp
//! profile in source form, annotations) is added.

use crate::capabilities::capability_names;
use crate::inputs::{DeviceKind, DeviceRule, Inputs};
use crate::oci::options::{names, propagation_name};
use container::plan::{self, IdMap, Idmap, LaunchPlan, MountSource, Namespace, RootSource};
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxCapabilities, LinuxCpu, LinuxDevice, LinuxDeviceCgroup,
    LinuxDeviceType, LinuxHugepageLimit, LinuxIdMapping, LinuxIdMappingBuilder, LinuxMemory, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, LinuxSeccomp, Mount, PosixRlimit, PosixRlimitBuilder, Process, Root,
    Spec, User, VERSION,
};
use std::collections::HashMap;
use std::path::PathBuf;
use types::pod::Resources;

/// The specification of `plan`.
pub(crate) fn spec(
    inputs: &Inputs<'_>,
    plan: &LaunchPlan,
    seccomp: Option<LinuxSeccomp>,
    rules: &[DeviceRule],
    resources: &Resources,
) -> Spec {
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned());
    let mut root = Root::default();
    root.set_path(match &plan.root.source {
        RootSource::Directory(path) => PathBuf::from(path),
        RootSource::Overlay { .. } | RootSource::Filesystem(_) => PathBuf::from("rootfs"),
    });
    root.set_readonly(Some(plan.root.readonly));
    spec.set_root(Some(root));
    spec.set_hostname(plan.hostname.clone());
    spec.set_domainname(plan.domainname.clone());
    spec.set_mounts(Some(plan.mounts.iter().map(mount).collect()));
    spec.set_process(Some(process(&plan.process)));
    spec.set_annotations(Some(annotations(inputs)));
    let mut linux = Linux::default();
    linux.set_namespaces(Some(namespaces(&plan.namespaces)));
    linux.set_devices(Some(plan.devices.iter().map(device).collect()));
    linux.set_masked_paths(Some(plan.masked_paths.clone()));
    linux.set_readonly_paths(Some(plan.readonly_paths.clone()));
    linux.set_sysctl(
        (!plan.sysctls.is_empty()).then(|| plan.sysctls.iter().cloned().collect::<HashMap<_, _>>()),
    );
    linux.set_rootfs_propagation(propagation_name(plan.root.propagation).map(str::to_owned));
    linux.set_seccomp(seccomp);
    linux.set_cgroups_path((!inputs.cgroups_path.is_empty()).then(|| PathBuf::from(inputs.cgroups_path)));
    linux.set_resources(Some(limits(resources, rules)));
    spec.set_linux(Some(linux));
    spec
}

/// The annotations that tools around containerd read (`internal/cri/annotations/annotations.go`).
fn annotations(inputs: &Inputs<'_>) -> HashMap<String, String> {
    let metadata = &inputs.pod.metadata;
    let image = match inputs.container.user_specified_image.as_str() {
        "" => &inputs.container.image,
        named => named,
    };
    [
        ("container-type", "container"),
        ("container-name", &inputs.container.metadata.name),
        ("image-name", image),
        ("sandbox-id", inputs.pod_id),
        ("sandbox-name", &metadata.name),
        ("sandbox-namespace", &metadata.namespace),
        ("sandbox-uid", &metadata.uid),
    ]
    .into_iter()
    .map(|(key, value)| (format!("io.kubernetes.cri.{key}"), value.to_owned()))
    .collect()
}

fn process(process: &plan::Process) -> Process {
    let text =
        |list: &[Vec<u8>]| list.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>();
    let mut out = Process::default();
    out.set_args(Some(text(&process.args)));
    out.set_env(Some(text(&process.env)));
    out.set_cwd(PathBuf::from(&process.cwd));
    out.set_terminal(Some(process.terminal));
    out.set_user(user(&process.user));
    out.set_no_new_privileges(Some(process.no_new_privileges));
    out.set_oom_score_adj(process.oom_score_adj);
    out.set_apparmor_profile(process.apparmor.clone());
    out.set_selinux_label(process.selinux.clone());
    let rlimit = |limit: &plan::Rlimit| {
        let kind = crate::oci::process::rlimit_type(limit.resource)?;
        PosixRlimitBuilder::default().typ(kind).soft(limit.soft).hard(limit.hard).build().ok()
    };
    let rlimits: Vec<PosixRlimit> = process.rlimits.iter().filter_map(rlimit).collect();
    out.set_rlimits((!rlimits.is_empty()).then_some(rlimits));
    out.set_capabilities(process.capabilities.as_ref().map(|caps| {
        let mut out = LinuxCapabilities::default();
        out.set_bounding(Some(capabilities(caps.bounding)))
            .set_effective(Some(capabilities(caps.effective)))
            .set_permitted(Some(capabilities(caps.permitted)))
            .set_inheritable(Some(capabilities(caps.inheritable)))
            .set_ambient(Some(capabilities(caps.ambient)));
        out
    }));
    out
}

/// Numbers where they are known before the image is looked into; the name goes along for the reader.
fn user(user: &plan::User) -> User {
    let mut out = User::default();
    match user {
        plan::User::Ids { uid, gid, groups } => {
            out.set_uid(*uid);
            out.set_gid(*gid);
            out.set_additional_gids(Some(groups.clone()));
        }
        plan::User::Lookup { user, gid, groups, .. } => {
            let (name, group) = user.split_once(':').unwrap_or((user, ""));
            out.set_uid(name.parse().unwrap_or(0));
            out.set_gid(gid.or_else(|| group.parse().ok()).unwrap_or(0));
            out.set_additional_gids((!groups.is_empty()).then(|| groups.clone()));
            out.set_username((!user.is_empty()).then(|| user.clone()));
        }
    }
    out
}

fn capabilities(mask: u64) -> Capabilities {
    // The names are the library's own without the prefix; one that it does not know is left out.
    capability_names(mask).iter().filter_map(|n| n.strip_prefix("CAP_")?.parse::<Capability>().ok()).collect()
}

fn mount(mount: &plan::Mount) -> Mount {
    let mut out = Mount::default();
    out.set_destination(PathBuf::from(&mount.target));
    let mut options = Vec::new();
    match &mount.source {
        MountSource::Bind { path, recursive } => {
            out.set_typ(Some("bind".to_owned()));
            out.set_source(Some(PathBuf::from(path)));
            options.push(if *recursive { "rbind" } else { "bind" }.to_owned());
        }
        MountSource::Filesystem { kind, source, options: own } => {
            out.set_typ(Some(kind.clone()));
            out.set_source(Some(PathBuf::from(source)));
            options.extend(own.iter().cloned());
        }
        MountSource::Cgroup => {
            out.set_typ(Some("cgroup".to_owned()));
            out.set_source(Some(PathBuf::from("cgroup")));
        }
        MountSource::Image { folder, image, .. } => {
            // No runtime of the specification could mount this: it is here to be read.
            out.set_typ(Some("image".to_owned()));
            let part = if folder.is_empty() { String::new() } else { format!("//{folder}") };
            out.set_source(Some(PathBuf::from(format!("{image}{part}"))));
        }
        MountSource::Remount { bind, options: own } => {
            options.push("remount".to_owned());
            options.extend(bind.then(|| "bind".to_owned()));
            options.extend(own.iter().cloned());
        }
    }
    options.extend(mount.propagation.iter().filter_map(|kind| propagation_name(*kind)).map(str::to_owned));
    options.extend(names(mount.set, mount.clear, false));
    options.extend(names(mount.set_recursive, mount.clear_recursive, true));
    if mount.tmpcopyup {
        options.push("tmpcopyup".to_owned());
    }
    match mount.idmap {
        Idmap::Off => {}
        Idmap::Single => options.push("idmap".to_owned()),
        Idmap::Recursive => options.push("ridmap".to_owned()),
    }
    out.set_options(Some(options));
    let ids = |maps: &[IdMap]| (!maps.is_empty()).then(|| maps.iter().map(id_mapping).collect::<Vec<_>>());
    out.set_uid_mappings(ids(&mount.uid_mappings));
    out.set_gid_mappings(ids(&mount.gid_mappings));
    out
}

fn id_mapping(map: &IdMap) -> LinuxIdMapping {
    let built =
        LinuxIdMappingBuilder::default().container_id(map.inside).host_id(map.outside).size(map.length);
    // Building fails for missing fields only, and the type has a default for each.
    built.build().unwrap_or_default()
}

fn namespaces(namespaces: &plan::Namespaces) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as Kind;
    let all = [
        (Kind::Mount, &namespaces.mount),
        (Kind::Pid, &namespaces.pid),
        (Kind::Ipc, &namespaces.ipc),
        (Kind::Uts, &namespaces.uts),
        (Kind::Network, &namespaces.network),
        (Kind::Cgroup, &namespaces.cgroup),
        (Kind::User, &namespaces.user),
        (Kind::Time, &namespaces.time),
    ];
    let one = |(kind, namespace): (Kind, &Namespace)| {
        let path = match namespace {
            Namespace::Inherit => return None,
            Namespace::New => None,
            Namespace::Path(path) => Some(PathBuf::from(path)),
        };
        let mut out = LinuxNamespace::default();
        out.set_typ(kind).set_path(path);
        Some(out)
    };
    all.into_iter().filter_map(one).collect()
}

fn device(device: &plan::Device) -> LinuxDevice {
    let mut out = LinuxDevice::default();
    out.set_path(PathBuf::from(&device.path))
        .set_typ(match device.kind {
            'b' => LinuxDeviceType::B,
            'p' => LinuxDeviceType::P,
            _ => LinuxDeviceType::C,
        })
        .set_major(i64::from(device.major))
        .set_minor(i64::from(device.minor))
        .set_file_mode(Some(device.mode))
        .set_uid(Some(device.uid))
        .set_gid(Some(device.gid));
    out
}

fn limits(resources: &Resources, rules: &[DeviceRule]) -> LinuxResources {
    let mut out = LinuxResources::default();
    out.set_devices(Some(rules.iter().map(rule).collect()));
    let some = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|v| *v != 0);
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive(resources.cpu_shares))
        .set_quota(some(resources.cpu_quota))
        .set_period(positive(resources.cpu_period))
        .set_cpus(text(&resources.cpuset_cpus))
        .set_mems(text(&resources.cpuset_mems));
    out.set_cpu((cpu != LinuxCpu::default()).then_some(cpu));
    let mut memory = LinuxMemory::default();
    memory.set_limit(some(resources.memory_limit)).set_swap(some(resources.memory_swap_limit));
    out.set_memory((memory != LinuxMemory::default()).then_some(memory));
    let pages = |(size, bytes): &(String, u64)| {
        let mut out = LinuxHugepageLimit::default();
        out.set_page_size(size.clone()).set_limit(i64::try_from(*bytes).unwrap_or(i64::MAX));
        out
    };
    out.set_hugepage_limits(
        (!resources.hugepages.is_empty()).then(|| resources.hugepages.iter().map(pages).collect()),
    );
    out.set_unified((!resources.unified.is_empty()).then(|| {
        resources.unified.iter().map(|(file, value)| (file.clone(), value.clone())).collect::<HashMap<_, _>>()
    }));
    out
}

fn rule(rule: &DeviceRule) -> LinuxDeviceCgroup {
    let mut out = LinuxDeviceCgroup::default();
    let access = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')];
    out.set_allow(rule.allow);
    out.set_typ(Some(match rule.kind {
        DeviceKind::All => LinuxDeviceType::A,
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }));
    out.set_major(rule.major.map(i64::from));
    out.set_minor(rule.minor.map(i64::from));
    out.set_access(Some(access.iter().filter(|(has, _)| *has).map(|(_, c)| *c).collect()));
    out
}
