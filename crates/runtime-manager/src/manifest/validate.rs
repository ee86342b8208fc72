//! What the values of a pod must be, after their types are right: names, enumerations, ranges, and what
//! must agree with what. The rules are those of the API server's validation, for the fields we honour.

use crate::error::Problem;
use crate::translate::env::field_is_known;
use crate::translate::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, Volume,
};
use std::collections::BTreeSet;

/// More containers than these are refused: no manifest of a person has them.
const MAX_CONTAINERS: usize = 100;

#[derive(Default)]
struct Report(Vec<Problem>);

impl Report {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    fn one_of(&mut self, path: String, value: Option<&str>, allowed: &[&str]) {
        if let Some(value) = value.filter(|value| !allowed.contains(value)) {
            self.add(path, format!("{value:?} is not one of {}", allowed.join(", ")));
        }
    }
}

/// Every problem of the pod, in the order of its fields.
pub(super) fn pod(pod: &Pod) -> Vec<Problem> {
    let mut report = Report::default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if !is_subdomain(name) {
        report.add(
            "metadata.name",
            "must be 1 to 253 of a-z, 0-9, '-' and '.', with a letter or digit at both ends",
        );
    }
    if !is_label(pod.metadata.namespace.as_deref().unwrap_or_default()) {
        report.add(
            "metadata.namespace",
            "must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        );
    }
    if let Some(uid) = pod.metadata.uid.as_deref() {
        // The uid names folders.
        let fine =
            (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fine {
            report.add("metadata.uid", "must be 1 to 64 letters, digits and '-'");
        }
    }
    match &pod.spec {
        Some(spec) => spec_rules(spec, &mut report),
        None => report.add("spec", "is missing"),
    }
    report.0
}

fn spec_rules(spec: &PodSpec, report: &mut Report) {
    report.one_of(
        "spec.restartPolicy".into(),
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    report.one_of("spec.dnsPolicy".into(), spec.dns_policy.as_deref(), &policies);
    if spec.dns_policy.as_deref() == Some("None")
        && spec.dns_config.as_ref().and_then(|dns| dns.nameservers.as_ref()).is_none_or(Vec::is_empty)
    {
        report.add("spec.dnsConfig.nameservers", "must name a server when dnsPolicy is None");
    }
    if spec.hostname.as_deref().is_some_and(|name| !is_label(name)) {
        report
            .add("spec.hostname", "must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends");
    }
    if spec.host_users == Some(false) {
        report.add("spec.hostUsers", "user namespaces are not built yet; leave it out or set true");
    }
    if spec.automount_service_account_token == Some(true) {
        report.add("spec.automountServiceAccountToken", "there is no API server, and so no token");
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        report.add("spec.os.name", "only linux is run");
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        report.add("spec.shareProcessNamespace", "cannot be true together with hostPID");
    }
    if spec.termination_grace_period_seconds.is_some_and(|s| !(0..=i64::from(i32::MAX)).contains(&s)) {
        report.add("spec.terminationGracePeriodSeconds", "must be 0 or more");
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = format!("spec.hostAliases[{index}]");
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            report.add(format!("{path}.ip"), format!("{:?} is no IP address", alias.ip));
        }
        for name in alias.hostnames.iter().flatten().filter(|name| !is_subdomain(name)) {
            report.add(format!("{path}.hostnames"), format!("{name:?} is no host name"));
        }
    }
    if let Some(security) = &spec.security_context {
        pod_security(security, report);
    }
    let mut volumes = BTreeSet::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        if !volumes.insert(volume.name.as_str()) {
            report.add(format!("spec.volumes[{index}].name"), format!("{:?} is used twice", volume.name));
        }
        volume_rules(volume, &format!("spec.volumes[{index}]"), report);
    }
    if spec.containers.is_empty() {
        report.add("spec.containers", "must hold a container");
    }
    let init = spec.init_containers.as_deref().unwrap_or_default();
    if spec.containers.len() + init.len() > MAX_CONTAINERS {
        return report.add("spec.containers", format!("holds more than {MAX_CONTAINERS} containers"));
    }
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (list, containers) in [("initContainers", init), ("containers", &spec.containers)] {
        for (index, container) in containers.iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            if !names.insert(container.name.as_str()) {
                report.add(format!("{path}.name"), format!("{:?} is used twice", container.name));
            }
            match (list, container.restart_policy.as_deref()) {
                ("initContainers", None | Some("Always")) | (_, None) => {}
                ("initContainers", _) => {
                    report.add(format!("{path}.restartPolicy"), "only Always, which makes it a sidecar")
                }
                _ => report.add(format!("{path}.restartPolicy"), "set it on the pod"),
            }
            container_rules(container, spec, &volumes, &path, &mut host_ports, report);
        }
    }
}

fn pod_security(security: &PodSecurityContext, report: &mut Report) {
    let path = "spec.securityContext";
    for (name, id) in [
        ("runAsUser", security.run_as_user),
        ("runAsGroup", security.run_as_group),
        ("fsGroup", security.fs_group),
    ] {
        id_rule(&format!("{path}.{name}"), id, report);
    }
    for (index, id) in security.supplemental_groups.iter().flatten().enumerate() {
        id_rule(&format!("{path}.supplementalGroups[{index}]"), Some(*id), report);
    }
    let policy = security.supplemental_groups_policy.as_deref();
    report.one_of(format!("{path}.supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    let policy = security.fs_group_change_policy.as_deref();
    report.one_of(format!("{path}.fsGroupChangePolicy"), policy, &["OnRootMismatch", "Always"]);
    seccomp(security.seccomp_profile.as_ref(), path, report);
    apparmor(security.app_armor_profile.as_ref(), path, report);
    for (index, sysctl) in security.sysctls.iter().flatten().enumerate() {
        let fine = !sysctl.name.is_empty()
            && sysctl.name.len() <= 253
            && sysctl.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
            && !sysctl.name.contains("..");
        if !fine {
            report.add(format!("{path}.sysctls[{index}].name"), format!("{:?} is no sysctl", sysctl.name));
        }
    }
}

/// Ids as the API server allows them: 0 to 2^31 - 1.
fn id_rule(path: &str, id: Option<i64>, report: &mut Report) {
    if id.is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
        report.add(path, "must be 0 to 2147483647");
    }
}

fn seccomp(profile: Option<&SeccompProfile>, above: &str, report: &mut Report) {
    if let Some(profile) = profile {
        profile_rules(
            &profile.type_,
            profile.localhost_profile.as_deref(),
            &format!("{above}.seccompProfile"),
            report,
        );
    }
}

fn apparmor(profile: Option<&AppArmorProfile>, above: &str, report: &mut Report) {
    if let Some(profile) = profile {
        profile_rules(
            &profile.type_,
            profile.localhost_profile.as_deref(),
            &format!("{above}.appArmorProfile"),
            report,
        );
    }
}

fn profile_rules(kind: &str, file: Option<&str>, path: &str, report: &mut Report) {
    report.one_of(format!("{path}.type"), Some(kind), &["RuntimeDefault", "Unconfined", "Localhost"]);
    let file_path = format!("{path}.localhostProfile");
    match (kind, file) {
        ("Localhost", None | Some("")) => report.add(file_path, "is needed for type Localhost"),
        ("Localhost", Some(file)) if file.starts_with('/') || file.split('/').any(|part| part == "..") => {
            report.add(file_path, "must be relative and without '..'");
        }
        ("Localhost", _) | (_, None) => {}
        _ => report.add(file_path, "only goes with type Localhost"),
    }
}

fn volume_rules(volume: &Volume, path: &str, report: &mut Report) {
    if !is_label(&volume.name) {
        report.add(
            format!("{path}.name"),
            "must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        );
    }
    if let Some(image) = &volume.image {
        if volume.empty_dir.is_some() || volume.host_path.is_some() {
            report.add(path, "has two sources");
        }
        if image.reference.as_deref().is_none_or(str::is_empty) {
            report.add(format!("{path}.image.reference"), "is missing");
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        return report.one_of(format!("{path}.image.pullPolicy"), image.pull_policy.as_deref(), &policies);
    }
    match (&volume.empty_dir, &volume.host_path) {
        (Some(_), Some(_)) => report.add(path, "has two sources"),
        (None, None) => report.add(path, "has no source; emptyDir, hostPath and image are supported"),
        (Some(empty), None) => {
            if empty.medium.as_deref().is_some_and(|medium| !medium.is_empty()) {
                report.add(format!("{path}.emptyDir.medium"), "only the disk is supported; leave it out");
            }
        }
        (None, Some(host)) => {
            if !host.path.starts_with('/')
                || host.path.split('/').any(|part| part == "..")
                || host.path.contains('\0')
            {
                report.add(format!("{path}.hostPath.path"), "must be absolute and without '..'");
            }
            let kinds = [
                "",
                "DirectoryOrCreate",
                "Directory",
                "FileOrCreate",
                "File",
                "Socket",
                "CharDevice",
                "BlockDevice",
            ];
            report.one_of(format!("{path}.hostPath.type"), host.type_.as_deref(), &kinds);
        }
    }
}

fn container_rules(
    container: &Container,
    spec: &PodSpec,
    volumes: &BTreeSet<&str>,
    path: &str,
    host_ports: &mut BTreeSet<(String, String, i32)>,
    report: &mut Report,
) {
    if !is_label(&container.name) {
        report.add(
            format!("{path}.name"),
            "must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        );
    }
    match container.image.as_deref() {
        None | Some("") => report.add(format!("{path}.image"), "is missing"),
        Some(image) if image.trim() != image => report.add(format!("{path}.image"), "has a space at its end"),
        Some(_) => {}
    }
    let pull = container.image_pull_policy.as_deref();
    report.one_of(format!("{path}.imagePullPolicy"), pull, &["Always", "IfNotPresent", "Never"]);
    let policy = container.termination_message_policy.as_deref();
    report.one_of(format!("{path}.terminationMessagePolicy"), policy, &["File"]);
    if container.termination_message_path.as_deref().is_some_and(|p| !p.starts_with('/') || p.contains(".."))
    {
        report.add(format!("{path}.terminationMessagePath"), "must be absolute and without '..'");
    }
    if container.working_dir.as_deref().is_some_and(|dir| dir.contains('\0')) {
        report.add(format!("{path}.workingDir"), "holds a zero byte");
    }
    for (index, env) in container.env.iter().flatten().enumerate() {
        let path = format!("{path}.env[{index}]");
        if env.name.is_empty() || env.name.contains(['=', '\0']) {
            report.add(format!("{path}.name"), "must not be empty or hold '='");
        }
        let field =
            env.value_from.as_ref().map(|from| from.field_ref.as_ref().map(|f| f.field_path.as_str()));
        match field {
            Some(_) if env.value.as_deref().is_some_and(|value| !value.is_empty()) => {
                report.add(path, "has both value and valueFrom");
            }
            Some(None) => report.add(format!("{path}.valueFrom"), "only fieldRef is supported"),
            Some(Some(field)) if !field_is_known(field) => {
                report.add(
                    format!("{path}.valueFrom.fieldRef.fieldPath"),
                    format!("{field:?} is not supported"),
                );
            }
            _ => {}
        }
    }
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let path = format!("{path}.ports[{index}]");
        report.one_of(format!("{path}.protocol"), port.protocol.as_deref(), &["TCP", "UDP", "SCTP"]);
        if !(1..=65535).contains(&port.container_port) {
            report.add(format!("{path}.containerPort"), "must be 1 to 65535");
        }
        if port.host_ip.as_deref().is_some_and(|ip| !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err())
        {
            report.add(format!("{path}.hostIP"), "is no IP address");
        }
        let Some(host) = port.host_port.filter(|port| *port != 0) else { continue };
        if !(1..=65535).contains(&host) {
            report.add(format!("{path}.hostPort"), "must be 1 to 65535");
        }
        if spec.host_network == Some(true) && host != port.container_port {
            report.add(format!("{path}.hostPort"), "must equal containerPort when hostNetwork is true");
        }
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        if !host_ports.insert((protocol, port.host_ip.clone().unwrap_or_default(), host)) {
            report.add(format!("{path}.hostPort"), "is used twice");
        }
    }
    mounts(container, spec, volumes, path, report);
    resources(container, path, report);
    security(container, path, report);
}

fn mounts(container: &Container, spec: &PodSpec, volumes: &BTreeSet<&str>, path: &str, report: &mut Report) {
    let mut places = BTreeSet::new();
    let privileged = container.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let of_image = |volume: &Volume| volume.name == mount.name && volume.image.is_some();
        if let Some(folder) = mount.sub_path.as_deref().filter(|folder| !folder.is_empty()) {
            if !spec.volumes.iter().flatten().any(of_image) {
                report.add(
                    format!("{path}.subPath"),
                    "is for volumes of images alone; mount a volume of its own",
                );
            } else if folder.starts_with('/') || folder.split('/').any(|part| part == "..") {
                report.add(format!("{path}.subPath"), "must be relative and without '..'");
            }
        }
        if !volumes.contains(mount.name.as_str()) {
            report.add(format!("{path}.name"), format!("there is no volume {:?}", mount.name));
        }
        if mount.mount_path.is_empty() || mount.mount_path.contains(':') || mount.mount_path.contains('\0') {
            report.add(format!("{path}.mountPath"), "must not be empty or hold ':'");
        }
        if !places.insert(mount.mount_path.trim_end_matches('/')) {
            report.add(format!("{path}.mountPath"), "is used twice");
        }
        let kinds = ["None", "HostToContainer", "Bidirectional"];
        report.one_of(format!("{path}.mountPropagation"), mount.mount_propagation.as_deref(), &kinds);
        if mount.mount_propagation.as_deref() == Some("Bidirectional") && !privileged {
            report.add(format!("{path}.mountPropagation"), "Bidirectional needs a privileged container");
        }
        match mount.recursive_read_only.as_deref() {
            None | Some("Disabled") => {}
            Some("Enabled") if mount.read_only == Some(true) => {}
            Some("Enabled") => report.add(format!("{path}.recursiveReadOnly"), "needs readOnly: true"),
            Some(_) => report.add(format!("{path}.recursiveReadOnly"), "must be Disabled or Enabled"),
        }
    }
}

fn resources(container: &Container, path: &str, report: &mut Report) {
    let Some(resources) = &container.resources else { return };
    let mut read = |side: &str, name: &str, text: Option<&String>| -> Option<Quantity> {
        match Quantity::parse(text?) {
            Ok(quantity) => Some(quantity),
            Err(reason) => {
                report.add(format!("{path}.resources.{side}.{name}"), reason);
                None
            }
        }
    };
    let mut over = Vec::new();
    for name in ["cpu", "memory"] {
        let text = |side: &Option<std::collections::BTreeMap<String, _>>| {
            side.as_ref()
                .and_then(|map| map.get(name))
                .map(|q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| q.0.clone())
        };
        let limit = read("limits", name, text(&resources.limits).as_ref());
        let request = read("requests", name, text(&resources.requests).as_ref());
        if let (Some(limit), Some(request)) = (limit, request)
            && request > limit
        {
            over.push(name);
        }
    }
    for name in over {
        report.add(format!("{path}.resources.requests.{name}"), "is more than the limit");
    }
}

fn security(container: &Container, path: &str, report: &mut Report) {
    let Some(security) = &container.security_context else { return };
    let path = format!("{path}.securityContext");
    id_rule(&format!("{path}.runAsUser"), security.run_as_user, report);
    id_rule(&format!("{path}.runAsGroup"), security.run_as_group, report);
    seccomp(security.seccomp_profile.as_ref(), &path, report);
    apparmor(security.app_armor_profile.as_ref(), &path, report);
    if security.proc_mount.as_deref().is_some_and(|mount| !mount.is_empty() && mount != "Default") {
        report.add(format!("{path}.procMount"), "only Default is supported");
    }
    if security.allow_privilege_escalation == Some(false) {
        let admin = |name: &String| name == "SYS_ADMIN" || name == "CAP_SYS_ADMIN";
        let added = security
            .capabilities
            .as_ref()
            .and_then(|c| c.add.as_ref())
            .is_some_and(|add| add.iter().any(admin));
        if security.privileged == Some(true) || added {
            report.add(
                format!("{path}.allowPrivilegeEscalation"),
                "cannot be false with privileged or SYS_ADMIN",
            );
        }
    }
}

/// RFC 1123 label.
fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| inner(*b) || *b == b'-')
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
}

/// RFC 1123 subdomain.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}
