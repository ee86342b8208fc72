//! seccomp, AppArmor, SELinux, hidden paths and the OOM score.

use crate::inputs::Inputs;
use crate::{capabilities, limits};
use container::plan::Seccomp;
use oci_spec::runtime::LinuxSeccomp;
use types::pod::SecurityProfile;
use types::reference::shorten;
use types::{Error, Result};

/// The profile for the specification and the filter for the plan.
///
/// `Unset` means none, as containerd does unless its `unset_seccomp_profile` says otherwise; privileged
/// containers have none whatever is asked (containerd `internal/cri/sputil`, `GenerateSeccompSpecOpts`).
pub(crate) fn seccomp(inputs: &Inputs<'_>, capabilities: u64) -> Result<Option<(LinuxSeccomp, Seccomp)>> {
    let security = &inputs.container.security;
    let names = || capabilities::capability_names(capabilities);
    let profile = match &security.seccomp {
        _ if security.privileged => return Ok(None),
        SecurityProfile::Unset | SecurityProfile::Unconfined => return Ok(None),
        _ if !inputs.facts.has_seccomp => {
            return Err(Error::precondition(
                "a seccomp profile is asked for, and the node's kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)",
            ));
        }
        SecurityProfile::RuntimeDefault => seccomp::runtime_default(&names()),
        SecurityProfile::Localhost(name) => {
            let json = inputs.seccomp_profile.ok_or_else(|| {
                Error::internal(format!("the seccomp profile {:?} was not read", shorten(name)))
            })?;
            seccomp::load_profile_for(json, &names())
                .map_err(|e| e.context(format!("seccomp profile {:?} cannot be used", shorten(name))))?
        }
    };
    let filter =
        seccomp::compile_cached(&profile).map_err(|e| e.context("the seccomp profile cannot be compiled"))?;
    Ok(Some((profile, Seccomp { flags: filter.flags, program: filter.program.clone(), listener: false })))
}

/// The AppArmor profile: none on a node without AppArmor, unless one of the node's own was named, which is
/// then refused (containerd `internal/cri/sputil`, `GenerateApparmorSpecOpts`).
pub(crate) fn apparmor(inputs: &Inputs<'_>, warnings: &mut Vec<String>) -> Result<Option<String>> {
    let security = &inputs.container.security;
    match &security.apparmor {
        SecurityProfile::Localhost(name) => {
            if !inputs.facts.has_apparmor {
                return Err(Error::precondition(format!(
                    "AppArmor profile {:?} is asked for, and AppArmor is off on this node",
                    shorten(name)
                )));
            }
            let plain = !name.is_empty() && name.len() < 4096 && !name.contains(|c: char| c.is_control());
            plain.then(|| Some(name.clone())).ok_or_else(|| {
                Error::invalid(format!("AppArmor profile {:?} is not a profile's name", shorten(name)))
            })
        }
        SecurityProfile::Unconfined => Ok(None),
        SecurityProfile::Unset | SecurityProfile::RuntimeDefault => {
            if !inputs.facts.has_apparmor || security.privileged {
                return Ok(None);
            }
            if inputs.facts.apparmor_default.is_none() {
                warnings.push("no default AppArmor profile is loaded; the container runs without one".into());
            }
            Ok(inputs.facts.apparmor_default.clone())
        }
    }
}

/// The SELinux label of the process; nothing on a node without SELinux, as go-selinux does.
pub(crate) fn selinux(inputs: &Inputs<'_>, warnings: &mut Vec<String>) -> Result<Option<String>> {
    let security = &inputs.container.security;
    if !inputs.facts.has_selinux || security.privileged {
        return Ok(None);
    }
    if inputs.container.mounts.iter().any(|mount| mount.selinux_relabel) {
        warnings.push("mounts are not relabelled for SELinux; label them on the node".into());
    }
    let Some(options) = security.selinux.as_ref().or(inputs.pod.security.selinux.as_ref()) else {
        return Ok(None);
    };
    let part = |value: &str, default: &str| {
        let value = if value.is_empty() { default } else { value };
        let plain = value.len() <= 256
            && value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b',' | b':'));
        plain.then(|| value.to_owned()).ok_or_else(|| {
            Error::invalid(format!(
                "SELinux label part {:?} has characters that no label has",
                shorten(value)
            ))
        })
    };
    Ok(Some(format!(
        "{}:{}:{}:{}",
        part(&options.user, "system_u")?,
        part(&options.role, "system_r")?,
        part(&options.kind, "container_t")?,
        part(&options.level, "s0")?
    )))
}

/// Hidden and read-only paths.
///
/// The lists are the caller's; empty ones hide nothing of `/proc`, for that is how the kubelet writes
/// `procMount: Unmasked` (containerd `container_create.go`, issue 5029). To a list that hides something are
/// added the paths that newer runtimes hide and older callers do not know; the power meters of GHSA-7ww5-4wqc-m92c
/// are hidden from everyone who is not privileged.
pub(crate) fn paths(inputs: &Inputs<'_>) -> Result<(Vec<String>, Vec<String>)> {
    let security = &inputs.container.security;
    if security.privileged {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut masked = security.masked_paths.clone();
    if !masked.is_empty() {
        masked.push("/proc/interrupts".into());
        masked.extend(inputs.facts.extra_masked_paths.iter().cloned());
    }
    masked.push("/sys/devices/virtual/powercap".into());
    Ok((checked("masked path", masked)?, checked("read-only path", security.readonly_paths.clone())?))
}

fn checked(what: &str, list: Vec<String>) -> Result<Vec<String>> {
    limits::count("masked or read-only paths", list.len())?;
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for path in list {
        limits::path(what, &path)?;
        if !out.contains(&path) {
            out.push(path);
        }
    }
    Ok(out)
}

/// The OOM score, raised to what the daemon may give. Always said, so that no container inherits the daemon's own.
pub(crate) fn oom_score(inputs: &Inputs<'_>, warnings: &mut Vec<String>) -> Result<i32> {
    let asked = inputs.container.resources.oom_score_adj;
    let score = i32::try_from(asked).ok().filter(|s| (-1000..=1000).contains(s)).ok_or_else(|| {
        Error::invalid(format!("oom_score_adj {asked}: a number from -1000 to 1000 is expected"))
    })?;
    let own = inputs.facts.own_oom_score_adj;
    if score < own && !inputs.facts.can_lower_oom {
        warnings.push(format!(
            "oom_score_adj {score} needs CAP_SYS_RESOURCE, which the daemon lacks; {own} is used"
        ));
        return Ok(own);
    }
    Ok(score)
}
