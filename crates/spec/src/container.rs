//! One container: every decision in order, once, for both the plan and the specification.

use crate::inputs::{Built, Inputs};
use crate::{
    capabilities, devices, limits, mounts, process, render, resources, security, signals, sysctls, user,
};
use container::plan::{
    ErofsImage, Hooks, LaunchPlan, Layer, Namespace, Namespaces, PLAN_VERSION, Process, Root, RootIds,
    RootSource, Scheduling,
};
use types::pod::NamespaceMode;
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// Decides everything about a container, or says in one sentence what cannot be done.
pub fn container(inputs: &Inputs<'_>) -> Result<Built> {
    let config = inputs.container;
    let mut warnings = Vec::new();
    refuse_what_is_not_built(inputs)?;
    root_paths(&inputs.root)?;
    let namespaces = namespaces(inputs)?;
    let capabilities =
        capabilities::decide(&config.security, inputs.facts.bounding_capabilities, &mut warnings)?;
    let mounts = mounts::decide(inputs)?;
    let devices = devices::decide(inputs, mounts.dev_is_mounted)?;
    let (masked_paths, readonly_paths) = security::paths(inputs)?;
    let (profile, filter) = match security::seccomp(inputs, capabilities.effective)? {
        Some((profile, filter)) => (Some(profile), Some(filter)),
        None => (None, None),
    };
    for (name, value) in &inputs.sysctls {
        sysctls::check(name, value)?;
    }
    let process = Process {
        args: process::args(config, inputs.image)?,
        env: process::env(inputs)?,
        cwd: process::cwd(config, inputs.image)?,
        create_cwd: true,
        user: user::decide(&config.security, &inputs.image.user)?,
        set_home: true,
        // The daemon's own are inherited, as containerd's CRI does (`WithoutDefaultSecuritySettings`).
        rlimits: Vec::new(),
        capabilities: Some(capabilities),
        no_new_privileges: config.security.no_new_privs,
        oom_score_adj: Some(security::oom_score(inputs, &mut warnings)?),
        umask: None,
        terminal: config.tty,
        console_size: None,
        apparmor: security::apparmor(inputs, &mut warnings)?,
        selinux: security::selinux(inputs, &mut warnings)?,
        seccomp: filter,
        scheduling: Scheduling::default(),
        keyring: None,
        personality: None,
        memory_policy: None,
    };
    limits::arguments(&process.args, &process.env)?;
    let plan = LaunchPlan {
        version: PLAN_VERSION,
        prepare: inputs.root.needs_devices()
            || inputs.image_mounts.values().any(container::plan::RootSource::needs_devices),
        id: inputs.container_id.to_owned(),
        namespaces,
        // The UTS namespace is the pod's, which has its name already.
        hostname: None,
        domainname: None,
        root: Root {
            source: inputs.root.clone(),
            ids: RootIds::default(),
            readonly: config.security.readonly_rootfs,
            propagation: mounts.propagation,
            no_pivot: false,
        },
        mounts: mounts.list,
        devices: devices.nodes,
        dev_links: !mounts.dev_is_mounted,
        masked_paths,
        readonly_paths,
        sysctls: inputs.sysctls.clone(),
        hooks: Hooks::default(),
        process,
    };
    let resources = resources::decide(&config.resources, inputs.facts)?;
    let stop_signal =
        signals::stop_signal(&config.stop_signal, inputs.image.stop_signal.as_deref(), &mut warnings)?;
    let spec = render::spec(inputs, &plan, profile, &devices.rules, &resources);
    Ok(Built { spec, plan, resources, device_rules: devices.rules, stop_signal, warnings })
}

fn refuse_what_is_not_built(inputs: &Inputs<'_>) -> Result<()> {
    let config = inputs.container;
    let unimplemented = |what: &str| Err(Error::new(ErrorKind::Unimplemented, what.to_owned()));
    if config.security.privileged && !inputs.pod.security.privileged {
        return Err(Error::invalid(format!(
            "container {:?} is privileged and its pod is not; only a privileged pod can have one",
            shorten(&config.metadata.name)
        )));
    }
    if !config.cdi_devices.is_empty() {
        return unimplemented("CDI devices are not built yet; take cdi_devices out of the request");
    }
    let asks = |user: &Option<types::pod::UserNamespace>| {
        user.as_ref()
            .is_some_and(|u| u.mode != NamespaceMode::Node || !u.uids.is_empty() || !u.gids.is_empty())
    };
    if asks(&inputs.pod.security.namespaces.user) || asks(&config.security.namespaces.user) {
        return unimplemented("user namespaces for pods are not built yet; leave hostUsers unset");
    }
    Ok(())
}

/// The pod's own namespaces are inherited from its supervisor, which lives in them. Which network, IPC and
/// UTS namespace that is was settled with the pod; a container has no say in it.
fn namespaces(inputs: &Inputs<'_>) -> Result<Namespaces> {
    let options = &inputs.container.security.namespaces;
    let join = |whose: &str| match inputs.target_pid {
        Some(pid) if pid > 0 => Ok(Namespace::Path(format!("/proc/{pid}/ns/pid"))),
        _ => Err(Error::precondition(format!(
            "there is no running process {whose} whose PID namespace could be joined"
        ))),
    };
    let pid = match options.pid {
        NamespaceMode::Container => Namespace::New,
        NamespaceMode::Node => {
            if inputs.pod.security.namespaces.pid != NamespaceMode::Node {
                return Err(Error::invalid(
                    "the container asks for the node's PID namespace and its pod does not have it",
                ));
            }
            Namespace::Inherit
        }
        NamespaceMode::Pod => join("of the pod")?,
        NamespaceMode::Target if options.target_id.is_empty() => {
            return Err(Error::invalid("PID namespace mode TARGET needs the id of a container in target_id"));
        }
        NamespaceMode::Target => join(&format!("of container {:?}", shorten(&options.target_id)))?,
    };
    // A cgroup namespace makes the container's own group the root of what is mounted at /sys/fs/cgroup. Not for
    // privileged containers, which manage the node (containerd `container_create.go`, `buildLinuxSpec`). Unlike
    // containerd we have it on cgroup v1, too: without it the mount would show the node's whole hierarchy.
    let own_cgroup = !inputs.container.security.privileged;
    Ok(Namespaces {
        mount: Namespace::New,
        pid,
        cgroup: if own_cgroup { Namespace::New } else { Namespace::Inherit },
        ..Namespaces::default()
    })
}

fn root_paths(root: &RootSource) -> Result<()> {
    match root {
        RootSource::Directory(path) => limits::path("root", path),
        RootSource::Overlay { lower, upper, work, disk, options } => {
            limits::count("layers", lower.len())?;
            limits::count("overlay options", options.len())?;
            if lower.is_empty() || upper.is_empty() != work.is_empty() {
                return Err(Error::internal(
                    "the root's overlay has no layers, or only one of upper and work",
                ));
            }
            for layer in lower {
                let (Layer::Directory(path) | Layer::Erofs(ErofsImage { path, .. })) = layer;
                limits::path("layer", path)?;
            }
            // On a disk of its own they are names in it.
            if disk.is_some() {
                return Ok(());
            }
            let writable = [upper, work].into_iter().filter(|path| !path.is_empty());
            writable.into_iter().try_for_each(|path| limits::path("layer", path))
        }
        RootSource::Filesystem(disk) => limits::count("root options", disk.options.len()),
    }
}
