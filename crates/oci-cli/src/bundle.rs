//! A bundle (OCI runtime specification, "Filesystem Bundle") read and understood: everything that can be
//! refused is refused here, before anything is made. Makes nothing.

pub mod leniently;

use crate::capabilities;
use crate::device_rules;
use crate::folder;
use crate::id::ContainerName;
use crate::limits::Limits;
use crate::net_devices;
use cgroups::DeviceRule;
use container::plan::{LaunchPlan, Namespace, RootSource};
use oci_spec::runtime::Spec;
use spec::PlanOptions;
use std::path::{Path, PathBuf};
use types::{Error, ErrorKind, Result};

/// What the command line says beside the bundle.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    pub no_pivot: bool,
    pub no_new_keyring: bool,
}

/// A bundle whose every part is understood.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute, without links.
    pub path: PathBuf,
    /// `config.json` as it is.
    pub config: Vec<u8>,
    pub spec: Spec,
    pub plan: LaunchPlan,
    /// The container's group in every cgroup hierarchy.
    pub cgroup: String,
    pub limits: Limits,
    pub device_rules: Vec<DeviceRule>,
    /// Of a process in a user namespace, which cannot set it itself; the plan has none then.
    pub oom_score: Option<i32>,
    /// What is left out, for people.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads `config.json` below `path`.
    pub fn load(path: &Path, id: &ContainerName, wishes: Wishes) -> Result<Self> {
        let absolute = std::fs::canonicalize(path).map_err(|e| {
            Error::with_source(
                ErrorKind::InvalidArgument,
                format!("cannot open the bundle {}", path.display()),
                e,
            )
        })?;
        let config = folder::read_file(&absolute.join("config.json"))
            .map_err(|e| e.context(format!("the bundle {} cannot be used", absolute.display())))?;
        let (spec, mut warnings) = leniently::parse(&config)?;
        let mut plan = plan(id.as_str(), &spec, &absolute, wishes, &mut warnings)?;
        net_devices::wanted(&spec, &plan.namespaces.network)?;
        let user_namespace = plan.namespaces.user != Namespace::Inherit;
        let oom_score = if user_namespace { plan.process.oom_score_adj.take() } else { None };
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        Ok(Self {
            cgroup: cgroup(id, linux.and_then(|linux| linux.cgroups_path().as_deref()))?,
            limits: Limits::of(resources)?,
            device_rules: device_rules::of(resources.and_then(|all| all.devices().as_deref()))?,
            oom_score,
            warnings,
            path: absolute,
            config,
            spec,
            plan,
        })
    }

    /// The root's path, for people.
    pub fn rootfs(&self) -> &str {
        match &self.plan.root.source {
            RootSource::Directory(path) => path,
            RootSource::Overlay { .. } | RootSource::Filesystem(_) => "",
        }
    }
}

/// A specification from its JSON.
pub fn parse(config: &[u8]) -> Result<Spec> {
    leniently::parse(config).map(|(spec, _)| spec)
}

/// The launch plan, less what the container library cannot do.
pub fn plan(
    id: &str,
    spec: &Spec,
    bundle: &Path,
    wishes: Wishes,
    warnings: &mut Vec<String>,
) -> Result<LaunchPlan> {
    let Wishes { no_pivot, no_new_keyring } = wishes;
    let mut plan =
        spec::plan_from_oci(id, spec, bundle, &PlanOptions { no_pivot, no_new_keyring, runs_hooks: true })?;
    if let Some(sets) = &mut plan.process.capabilities {
        warnings.extend(capabilities::settle(sets, plan.namespaces.user != Namespace::Inherit)?);
    }
    if !plan.hooks.create_container.is_empty() || !plan.hooks.start_container.is_empty() {
        plan.hooks.state = state(id, spec, bundle);
    }
    if plan.namespaces.user == Namespace::New && matches!(plan.namespaces.mount, Namespace::Path(_)) {
        // Its mounts belong to another user namespace, so nothing could be mounted in it (mount_namespaces(7)).
        return Err(Error::invalid(
            "linux.namespaces: a `mount` namespace by path cannot be used from a new `user` namespace; name the user namespace that it belongs to by its path",
        ));
    }
    Ok(plan)
}

/// What hooks inside the container are told, but for status and process.
fn state(id: &str, spec: &Spec, bundle: &Path) -> String {
    let mut state = serde_json::json!({ "ociVersion": crate::SPECIFICATION, "id": id, "bundle": bundle.display().to_string() });
    if let Some(annotations) = spec.annotations().as_ref().filter(|all| !all.is_empty()) {
        state["annotations"] = serde_json::json!(annotations);
    }
    let mut text = state.to_string();
    // Status and process follow.
    text.pop();
    text
}

/// `linux.cgroupsPath`, or the container's id at the top; a relative one counts from the top (runc's cgroupfs
/// manager does so where it is not in a group itself).
fn cgroup(id: &ContainerName, path: Option<&Path>) -> Result<String> {
    let path = match path.map(Path::to_str) {
        None | Some(Some("")) => id.as_str(),
        Some(Some(path)) => path,
        Some(None) => return Err(Error::invalid("linux.cgroupsPath is not UTF-8")),
    };
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_major_versions_are_refused() {
        assert!(parse(br#"{"ociVersion":"1.2.0"}"#).is_ok());
        for bad in [r#"{"ociVersion":"2.0.0"}"#, r#"{"ociVersion":""}"#, "{}", "[]", "", "{\"ociVersion\":1}"]
        {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_container_without_a_cgroup_path_gets_its_id() {
        let id = ContainerName::parse("c1").expect("good");
        for (path, group) in [(None, "/c1"), (Some(""), "/c1"), (Some("a/b"), "/a/b"), (Some("/a"), "/a")] {
            assert_eq!(cgroup(&id, path.map(Path::new)).expect("good"), group);
        }
    }
}
