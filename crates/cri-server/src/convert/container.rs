//! The configuration of a container, from the wire.

use super::security::{self, Owner, Profile};
use super::{image, mount, resources, signal};
use crate::check::{self, refuse};
use cri_api::v1;
use types::container::{ContainerMetadata, ContainerSecurity};
use types::reference::shorten;
use types::{ContainerConfig, Result};

/// Bytes of a container's name; Kubernetes names have 63 at most.
const NAME_MAX: usize = 253;
/// Capability names; the kernel has about forty.
const CAPABILITIES_MAX: usize = 128;
/// Bytes of a user's name in the image.
const USERNAME_MAX: usize = 256;

/// What a container is asked to be.
pub fn config(field: &str, wire: Option<v1::ContainerConfig>) -> Result<ContainerConfig> {
    let wire = check::present(field, wire)?;
    let at = |name: &str| format!("{field}.{name}");
    let spec = check::present(&at("image"), wire.image)?;
    check::filled(&at("image.image"), &spec.image)?;
    check::word(&at("image.image"), &spec.image, image::NAME_MAX)?;
    check::line(&at("image.user_specified_image"), &spec.user_specified_image, image::NAME_MAX)?;
    if !wire.working_dir.is_empty() {
        check::absolute(&at("working_dir"), &wire.working_dir)?;
    }
    check::relative_below(&at("log_path"), &wire.log_path)?;
    arguments(&at("command"), &wire.command)?;
    arguments(&at("args"), &wire.args)?;
    let linux = wire.linux.unwrap_or_default();
    Ok(ContainerConfig {
        metadata: metadata(&at("metadata"), wire.metadata)?,
        image: spec.image,
        user_specified_image: spec.user_specified_image,
        command: wire.command,
        args: wire.args,
        working_dir: wire.working_dir,
        envs: envs(&at("envs"), wire.envs)?,
        mounts: mount::mounts(&at("mounts"), wire.mounts)?,
        devices: mount::devices(&at("devices"), wire.devices)?,
        labels: check::map(&at("labels"), wire.labels)?,
        annotations: check::map(&at("annotations"), wire.annotations)?,
        log_path: wire.log_path,
        stdin: wire.stdin,
        stdin_once: wire.stdin_once,
        tty: wire.tty,
        resources: resources::from_wire(&at("linux.resources"), linux.resources.unwrap_or_default())?,
        security: security(&at("linux.security_context"), linux.security_context.unwrap_or_default())?,
        cdi_devices: cdi_devices(&at("CDI_devices"), wire.cdi_devices)?,
        stop_signal: signal::name(check::one_of(&at("stop_signal"), wire.stop_signal)?),
    })
}

fn metadata(field: &str, wire: Option<v1::ContainerMetadata>) -> Result<ContainerMetadata> {
    let wire = check::present(field, wire)?;
    let field = format!("{field}.name");
    check::filled(&field, &wire.name)?;
    check::word(&field, &wire.name, NAME_MAX)?;
    Ok(ContainerMetadata { name: wire.name, attempt: wire.attempt })
}

/// Program and arguments as execve(2) takes them.
pub fn arguments(field: &str, arguments: &[String]) -> Result<()> {
    check::count(field, arguments.len(), check::ARGUMENTS_MAX)?;
    for (n, argument) in arguments.iter().enumerate() {
        check::text(&format!("{field}[{n}]"), argument, check::ARGUMENT_MAX)?;
    }
    Ok(())
}

fn envs(field: &str, wire: Vec<v1::KeyValue>) -> Result<Vec<(String, Vec<u8>)>> {
    check::count(field, wire.len(), check::ARGUMENTS_MAX)?;
    wire.into_iter()
        .enumerate()
        .map(|(n, env)| {
            // A value may be a secret: no sentence here shows one.
            let field = format!("{field}[{n}]");
            check::filled(&format!("{field}.key"), &env.key)?;
            check::text(&format!("{field}.key"), &env.key, check::ARGUMENT_MAX)?;
            if env.key.contains('=') {
                return refuse(
                    &format!("{field}.key"),
                    format_args!("{:?} contains \"=\"", shorten(&env.key)),
                );
            }
            let field = format!("{field}.value");
            if env.value.contains(&0) {
                return refuse(&field, "it contains a NUL byte; remove it");
            }
            if env.value.len() > check::ARGUMENT_MAX {
                return refuse(
                    &field,
                    format_args!(
                        "{} bytes are too long; {} are allowed",
                        env.value.len(),
                        check::ARGUMENT_MAX
                    ),
                );
            }
            Ok((env.key, env.value))
        })
        .collect()
}

fn cdi_devices(field: &str, wire: Vec<v1::CdiDevice>) -> Result<Vec<String>> {
    check::count(field, wire.len(), check::ENTRIES_MAX)?;
    wire.into_iter()
        .map(|device| {
            check::word(field, &device.name, 512)?;
            let parts =
                device.name.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
            match parts {
                Some(((vendor, class), name)) if [vendor, class, name].iter().all(|p| !p.is_empty()) => {
                    Ok(device.name)
                }
                _ => refuse(field, format_args!("{:?} is not vendor/class=device", shorten(&device.name))),
            }
        })
        .collect()
}

fn security(field: &str, wire: v1::LinuxContainerSecurityContext) -> Result<ContainerSecurity> {
    let at = |name: &str| format!("{field}.{name}");
    #[allow(deprecated)] // Old callers still send them.
    let (old_seccomp, old_apparmor) = (wire.seccomp_profile_path, wire.apparmor_profile);
    check::word(&at("run_as_username"), &wire.run_as_username, USERNAME_MAX)?;
    let run_as_user = security::number(&at("run_as_user"), wire.run_as_user)?;
    let run_as_group = security::number(&at("run_as_group"), wire.run_as_group)?;
    match (run_as_user, wire.run_as_username.is_empty()) {
        (Some(_), false) => {
            return refuse(&at("run_as_username"), "run_as_user is set, too; only one of them can be");
        }
        (None, true) if run_as_group.is_some() => {
            return refuse(&at("run_as_group"), "a group needs a user: set run_as_user or run_as_username");
        }
        _ => {}
    }
    let capabilities = wire.capabilities.unwrap_or_default();
    Ok(ContainerSecurity {
        add_capabilities: names(&at("capabilities.add_capabilities"), capabilities.add_capabilities)?,
        drop_capabilities: names(&at("capabilities.drop_capabilities"), capabilities.drop_capabilities)?,
        add_ambient_capabilities: names(
            &at("capabilities.add_ambient_capabilities"),
            capabilities.add_ambient_capabilities,
        )?,
        privileged: wire.privileged,
        namespaces: security::namespaces(&at("namespace_options"), wire.namespace_options, Owner::Container)?,
        selinux: security::selinux(&at("selinux_options"), wire.selinux_options)?,
        run_as_user,
        run_as_group,
        run_as_username: wire.run_as_username,
        readonly_rootfs: wire.readonly_rootfs,
        supplemental_groups: security::groups(&at("supplemental_groups"), wire.supplemental_groups)?,
        supplemental_groups_strict: security::strict_groups(
            &at("supplemental_groups_policy"),
            wire.supplemental_groups_policy,
        )?,
        no_new_privs: wire.no_new_privs,
        masked_paths: paths(&at("masked_paths"), wire.masked_paths)?,
        readonly_paths: paths(&at("readonly_paths"), wire.readonly_paths)?,
        seccomp: security::profile(&at("seccomp"), wire.seccomp, &old_seccomp, Profile::Seccomp)?,
        apparmor: security::profile(&at("apparmor"), wire.apparmor, &old_apparmor, Profile::AppArmor)?,
    })
}

/// Names of capabilities; whether the kernel knows them is `spec`'s.
fn names(field: &str, names: Vec<String>) -> Result<Vec<String>> {
    check::count(field, names.len(), CAPABILITIES_MAX)?;
    for name in &names {
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return refuse(field, format_args!("{:?} is not the name of a capability", shorten(name)));
        }
    }
    Ok(names)
}

fn paths(field: &str, paths: Vec<String>) -> Result<Vec<String>> {
    check::count(field, paths.len(), check::ENTRIES_MAX)?;
    for path in &paths {
        check::absolute(field, path)?;
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
