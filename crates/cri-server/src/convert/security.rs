//! Namespaces, profiles, users and labels of pods and containers. What they mean for a process is `spec`'s.

use crate::check::{self, refuse};
use cri_api::v1;
use types::Result;
use types::pod::{
    IdMapping, NamespaceMode, NamespaceOptions, SecurityProfile, SelinuxOptions, UserNamespace,
};
use types::reference::shorten;

/// Lines of a mapping that the kernel takes since 4.15 (user_namespaces(7)).
const MAPPINGS_MAX: usize = 340;
/// NGROUPS_MAX (limits.h).
const GROUPS_MAX: usize = 65_536;

/// Whose namespaces are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A pod sandbox.
    Pod,
    /// A container.
    Container,
}

/// Namespaces from the wire; absent are the pod's own.
pub fn namespaces(field: &str, wire: Option<v1::NamespaceOption>, owner: Owner) -> Result<NamespaceOptions> {
    let Some(wire) = wire else { return Ok(NamespaceOptions::default()) };
    let at = |name: &str| format!("{field}.{name}");
    let network = shared(&at("network"), wire.network)?;
    let ipc = shared(&at("ipc"), wire.ipc)?;
    let pid = mode(&at("pid"), wire.pid)?;
    if pid == NamespaceMode::Target {
        if owner == Owner::Pod {
            return refuse(&at("pid"), "TARGET is for containers; a pod takes POD, CONTAINER or NODE");
        }
        check::id(&at("target_id"), &wire.target_id)?;
    }
    check::prefix(&at("target_id"), &wire.target_id)?;
    let user = wire.userns_options.map(|user| user_namespace(&at("userns_options"), user)).transpose()?;
    Ok(NamespaceOptions { network, pid, ipc, target_id: wire.target_id, user })
}

/// Namespaces for the wire.
pub fn namespaces_to_wire(options: &NamespaceOptions) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: mode_to_wire(options.network).into(),
        pid: mode_to_wire(options.pid).into(),
        ipc: mode_to_wire(options.ipc).into(),
        target_id: options.target_id.clone(),
        userns_options: options.user.as_ref().map(|user| v1::UserNamespace {
            mode: mode_to_wire(user.mode).into(),
            uids: mappings_to_wire(&user.uids),
            gids: mappings_to_wire(&user.gids),
        }),
    }
}

fn mode(field: &str, value: i32) -> Result<NamespaceMode> {
    Ok(match check::one_of(field, value)? {
        v1::NamespaceMode::Pod => NamespaceMode::Pod,
        v1::NamespaceMode::Container => NamespaceMode::Container,
        v1::NamespaceMode::Node => NamespaceMode::Node,
        v1::NamespaceMode::Target => NamespaceMode::Target,
    })
}

fn mode_to_wire(mode: NamespaceMode) -> v1::NamespaceMode {
    match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Node => v1::NamespaceMode::Node,
        NamespaceMode::Target => v1::NamespaceMode::Target,
    }
}

/// A namespace that is the pod's or the node's, never one container's.
fn shared(field: &str, value: i32) -> Result<NamespaceMode> {
    match mode(field, value)? {
        mode @ (NamespaceMode::Pod | NamespaceMode::Node) => Ok(mode),
        NamespaceMode::Container | NamespaceMode::Target => {
            refuse(field, "only POD and NODE are possible: all containers of a pod share it")
        }
    }
}

fn user_namespace(field: &str, wire: v1::UserNamespace) -> Result<UserNamespace> {
    let mode = shared(&format!("{field}.mode"), wire.mode)?;
    let uids = mappings(&format!("{field}.uids"), wire.uids)?;
    let gids = mappings(&format!("{field}.gids"), wire.gids)?;
    let mapped = !uids.is_empty() && !gids.is_empty();
    match mode {
        NamespaceMode::Pod if !mapped => {
            refuse(field, "a user namespace needs uids and gids; give both, or mode NODE")
        }
        NamespaceMode::Node if !uids.is_empty() || !gids.is_empty() => {
            refuse(field, "mode NODE has no mapping; leave uids and gids empty, or take mode POD")
        }
        _ => Ok(UserNamespace { mode, uids, gids }),
    }
}

/// Mappings from the wire.
pub fn mappings(field: &str, wire: Vec<v1::IdMapping>) -> Result<Vec<IdMapping>> {
    check::count(field, wire.len(), MAPPINGS_MAX)?;
    for range in &wire {
        let fits = |first: u32| first.checked_add(range.length).is_some();
        if range.length == 0 || !fits(range.host_id) || !fits(range.container_id) {
            return refuse(
                field,
                format_args!(
                    "{} ids from {} inside and {} outside is not a range of ids",
                    range.length, range.container_id, range.host_id
                ),
            );
        }
    }
    Ok(wire
        .into_iter()
        .map(|r| IdMapping { host_id: r.host_id, container_id: r.container_id, length: r.length })
        .collect())
}

/// Mappings for the wire.
pub fn mappings_to_wire(mappings: &[IdMapping]) -> Vec<v1::IdMapping> {
    mappings
        .iter()
        .map(|r| v1::IdMapping { host_id: r.host_id, container_id: r.container_id, length: r.length })
        .collect()
}

/// Which kind of profile a field holds; it decides what a reference may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A file of the node.
    Seccomp,
    /// A name that the node's kernel has loaded.
    AppArmor,
}

/// A profile: the message where it is there, else the deprecated text field beside it. The texts are those
/// that containerd understands (containerd `internal/cri/sputil`).
pub fn profile(
    field: &str,
    wire: Option<v1::SecurityProfile>,
    old: &str,
    kind: Profile,
) -> Result<SecurityProfile> {
    use v1::security_profile::ProfileType;
    let Some(wire) = wire else { return old_profile(field, old, kind) };
    let field = &format!("{field}.profile_type");
    match check::one_of(field, wire.profile_type)? {
        ProfileType::RuntimeDefault => Ok(SecurityProfile::RuntimeDefault),
        ProfileType::Unconfined => Ok(SecurityProfile::Unconfined),
        ProfileType::Localhost => localhost(field, &wire.localhost_ref, kind),
    }
}

fn old_profile(field: &str, old: &str, kind: Profile) -> Result<SecurityProfile> {
    match old {
        "" => Ok(SecurityProfile::Unset),
        "runtime/default" | "docker/default" => Ok(SecurityProfile::RuntimeDefault),
        "unconfined" => Ok(SecurityProfile::Unconfined),
        _ if old.starts_with("localhost/") => localhost(field, old, kind),
        _ => refuse(
            field,
            format_args!("{:?} is not a profile: runtime/default, unconfined or localhost/…", shorten(old)),
        ),
    }
}

/// containerd takes the prefix off the new field, too. The kubelet gives a seccomp file by its absolute path; a
/// relative one is below the engine's folder of profiles.
fn localhost(field: &str, reference: &str, kind: Profile) -> Result<SecurityProfile> {
    let reference = reference.strip_prefix("localhost/").unwrap_or(reference);
    check::filled(field, reference)?;
    match kind {
        Profile::Seccomp if reference.starts_with('/') => check::absolute_straight(field, reference)?,
        Profile::Seccomp => check::relative_below(field, reference)?,
        Profile::AppArmor => check::line(field, reference, check::PATH_MAX)?,
    }
    Ok(SecurityProfile::Localhost(reference.to_owned()))
}

/// An SELinux label from the wire; one with no part filled is none.
pub fn selinux(field: &str, wire: Option<v1::SeLinuxOption>) -> Result<Option<SelinuxOptions>> {
    let Some(wire) = wire else { return Ok(None) };
    for part in [&wire.user, &wire.role, &wire.r#type, &wire.level] {
        check::word(field, part, 255)?;
    }
    let options = SelinuxOptions { user: wire.user, role: wire.role, kind: wire.r#type, level: wire.level };
    Ok((options != SelinuxOptions::default()).then_some(options))
}

/// A numeric user or group that may be absent.
pub fn number(field: &str, wire: Option<v1::Int64Value>) -> Result<Option<i64>> {
    wire.map(|number| check::id_number(field, number.value)).transpose()
}

/// Groups.
pub fn groups(field: &str, wire: Vec<i64>) -> Result<Vec<i64>> {
    check::count(field, wire.len(), GROUPS_MAX)?;
    for group in &wire {
        check::id_number(field, *group)?;
    }
    Ok(wire)
}

/// Whether groups of the image are left out.
pub fn strict_groups(field: &str, policy: i32) -> Result<bool> {
    Ok(check::one_of::<v1::SupplementalGroupsPolicy>(field, policy)? == v1::SupplementalGroupsPolicy::Strict)
}

#[cfg(test)]
mod tests;
