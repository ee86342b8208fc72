//! A bundle (OCI runtime specification, "Filesystem Bundle") read and understood: everything that can be
//! refused is refused here, before anything is made. Makes nothing.

use crate::device_rules;
use crate::folder;
use crate::id::ContainerName;
use crate::limits::Limits;
use cgroups::DeviceRule;
use container::plan::{LaunchPlan, MountSource, Namespace, RootSource};
use oci_spec::runtime::Spec;
use spec::PlanOptions;
use std::path::{Path, PathBuf};
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// What the command line says beside the bundle.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    pub no_pivot: bool,
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
        let spec = parse(&config)?;
        let plan = plan(id.as_str(), &spec, &absolute, wishes)?;
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        Ok(Self {
            cgroup: cgroup(id, linux.and_then(|linux| linux.cgroups_path().as_deref()))?,
            limits: Limits::of(resources)?,
            device_rules: device_rules::of(resources.and_then(|all| all.devices().as_deref()))?,
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
            RootSource::Overlay { .. } => "",
        }
    }
}

/// A specification from its JSON.
pub fn parse(config: &[u8]) -> Result<Spec> {
    let spec: Spec = serde_json::from_slice(config).map_err(|e| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            "config.json is not a specification of the Open Container Initiative",
            e,
        )
    })?;
    // Any 1.x is to be taken (semantic versioning; OCI runtime specification, "Specification version").
    let version = spec.version();
    if !version.starts_with("1.") {
        return Err(Error::invalid(format!(
            "ociVersion {:?}: a version 1.x is expected in config.json",
            shorten(version)
        )));
    }
    Ok(spec)
}

/// The launch plan, less what the container library cannot do.
pub fn plan(id: &str, spec: &Spec, bundle: &Path, wishes: Wishes) -> Result<LaunchPlan> {
    let options = PlanOptions { no_pivot: wishes.no_pivot, runs_hooks: true };
    let plan = spec::plan_from_oci(id, spec, bundle, &options)?;
    let refuse = |what: &str| {
        Err(Error::new(
            ErrorKind::Unimplemented,
            format!("`{what}` of the specification is not built yet; take it out"),
        ))
    };
    if plan.namespaces.user != Namespace::Inherit {
        return refuse("linux.namespaces user");
    }
    if plan.namespaces.time != Namespace::Inherit {
        return refuse("linux.namespaces time");
    }
    if plan.namespaces.mount != Namespace::New {
        return refuse("linux.namespaces mount with a path");
    }
    for mount in &plan.mounts {
        if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
            return refuse(&format!("mounts[].uidMappings (at {:?})", shorten(&mount.target)));
        }
        // It would show and change the cgroups of the whole machine.
        if mount.source == MountSource::Cgroup && plan.namespaces.cgroup == Namespace::Inherit {
            let readonly = mount.set & sys::mount::attr::RDONLY != 0;
            if !readonly {
                return Err(Error::invalid(format!(
                    "mount at {:?}: a writable cgroup mount needs a `cgroup` namespace; add one, or the option ro",
                    shorten(&mount.target)
                )));
            }
        }
    }
    Ok(plan)
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
