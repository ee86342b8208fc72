//! The parts of a prepared container: its record, its root, its plan, each with its undo.

use super::Container;
use crate::parts::{Shared, blocking};
use crate::pod::sandbox::hostname;
use crate::record::{container_name, plan_name, spec_name};
use container::plan::RootSource;
use images::ImageRecord;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use snapshots::Writable;
use spec::{HostDevice, ImageConfig, Inputs, PodFiles, SharedMemory};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::pod::{NamespaceMode, SecurityProfile};
use types::reference::shorten;
use types::{Error, ErrorKind, Result};

/// The largest seccomp profile file, in bytes.
const PROFILE_MAX: u64 = 1 << 20;
/// The most volumes that an image may ask for.
const VOLUMES_MAX: usize = 64;

/// A container in the making.
pub(crate) struct Prepare {
    shared: Arc<Shared>,
    container: Arc<Container>,
    image: Arc<ImageRecord>,
    root: Option<RootSource>,
    /// The images that it mounts, by the names that its mounts have for them.
    mounted: BTreeMap<String, Arc<ImageRecord>>,
}

impl Prepare {
    pub fn new(shared: Arc<Shared>, container: Arc<Container>, image: Arc<ImageRecord>) -> Self {
        Self { shared, container, image, root: None, mounted: BTreeMap::new() }
    }

    /// The intent, before anything is made; from here on the image's layers stay.
    pub async fn record(&mut self) -> Result<()> {
        let images = &self.shared.parts.images;
        let held = images.hold_image(self.container.id.as_str(), self.image.id.as_str());
        self.image = held.ok_or_else(|| {
            Error::not_found(format!("image {} was removed meanwhile; pull it again", self.image.id))
        })?;
        let config = self.container.record().config.clone();
        let mut names: Vec<String> = config.mounts.iter().filter_map(|mount| mount.image.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let held = images.hold_volumes(self.container.id.as_str(), &names).map_err(|name| {
            images.release(self.container.id.as_str());
            Error::not_found(format!(
                "image {:?}, which is to be mounted, is not on this node; pull it first",
                shorten(&name)
            ))
        })?;
        // The policy of now, not that of the pull. From here on none of the images changes its meaning.
        let permitted = async {
            images.permit_use(&self.image, &[&config.user_specified_image, &config.image]).await?;
            for (name, image) in names.iter().zip(&held) {
                images.permit_use(image, &[name]).await?;
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = permitted.await {
            images.release(self.container.id.as_str());
            return Err(error);
        }
        // What is held is recorded: a daemon that starts anew holds it again.
        let chains = held.iter().map(|image| image.chain.clone()).collect();
        self.mounted = names.into_iter().zip(held).collect();
        self.container.update(|record| record.mounted = chains)?;
        self.container.update(|_| {})?;
        self.shared.registry.add_container(self.container.clone());
        Ok(())
    }

    pub async fn forget(&mut self) -> Result<()> {
        self.shared.registry.remove_container(&self.container);
        self.shared.parts.images.release(self.container.id.as_str());
        self.container.pod.folder.remove(&container_name(&self.container.id))
    }

    pub async fn make_root(&mut self) -> Result<()> {
        let (shared, id) = (self.shared.clone(), self.container.id.to_string());
        let layers = self.shared.parts.images.layers(&self.image);
        let writable = Writable { bytes: self.shared.config.writable_quota, owner: None };
        let prepare = move || shared.parts.snapshotter.prepare_with(&id, &layers, &writable);
        self.root = Some(blocking(prepare).await?);
        Ok(())
    }

    pub async fn remove_root(&mut self) -> Result<()> {
        remove_root(&self.shared, &self.container).await
    }

    /// Decides everything about the container, and keeps the decision.
    pub async fn plan(&mut self) -> Result<()> {
        let root = self.root.take().ok_or_else(|| Error::internal("the container has no root yet"))?;
        let (shared, container, image) = (self.shared.clone(), self.container.clone(), self.image.clone());
        let mounted = std::mem::take(&mut self.mounted);
        blocking(move || {
            let image_mounts = image_mounts(&shared, &mounted)?;
            decide(&shared, &container, &image, root, image_mounts)
        })
        .await
    }

    pub async fn remove_plan(&mut self) -> Result<()> {
        remove_plan(&self.container)
    }
}

/// Removes the writable layer and the volumes of a container.
pub(crate) async fn remove_root(shared: &Arc<Shared>, container: &Container) -> Result<()> {
    let (shared, id) = (shared.clone(), container.id.to_string());
    blocking(move || {
        remove_volumes(&shared, &id)?;
        shared.parts.snapshotter.remove(&id)
    })
    .await
}

/// Removes a container's volumes. What lies in them is the container's making: the walk goes by descriptor, follows no
/// link, and is not recursive, so that a tree of any depth costs no stack.
pub(crate) fn remove_volumes(shared: &Shared, id: &str) -> Result<()> {
    let root = &shared.config.volumes;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let folder = match rustix::fs::open(root, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(e) => {
            return Err(Error::with_source(
                ErrorKind::Internal,
                format!("cannot open {}", root.display()),
                e,
            ));
        }
    };
    layers::tree::remove(folder.as_fd(), std::ffi::OsStr::new(id)).map_err(|e| {
        Error::with_source(ErrorKind::Internal, format!("cannot remove the volumes of container {id}"), e)
    })
}

/// Removes the plan and the specification.
pub(crate) fn remove_plan(container: &Container) -> Result<()> {
    container.pod.folder.remove(&spec_name(&container.id))?;
    match std::fs::remove_file(container.pod.path.join(plan_name(&container.id))) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::with_source(ErrorKind::Internal, "cannot remove a launch plan", e)),
    }
}

/// What the images hold that are to be mounted. Nothing is made for it, so nothing has to be undone.
fn image_mounts(
    shared: &Shared,
    mounted: &BTreeMap<String, Arc<ImageRecord>>,
) -> Result<BTreeMap<String, RootSource>> {
    let parts = &shared.parts;
    let of = |(name, image): (&String, &Arc<ImageRecord>)| {
        let source = parts.snapshotter.view(&parts.images.layers(image));
        let named = |error: Error| error.context(format!("image {:?} cannot be mounted", shorten(name)));
        Ok((name.clone(), source.map_err(named)?))
    };
    mounted.iter().map(of).collect()
}

fn decide(
    shared: &Shared,
    container: &Container,
    image: &ImageRecord,
    root: RootSource,
    image_mounts: BTreeMap<String, RootSource>,
) -> Result<()> {
    let config = container.record().config.clone();
    let pod = &container.pod;
    let pod_config = pod.record().config.clone();
    for mount in &config.mounts {
        check_source(mount)?;
    }
    let profile = seccomp_profile(shared, &config.security.seccomp)?;
    let image_config = image_config(image);
    let ipc_is_node = pod_config.security.namespaces.ipc == NamespaceMode::Node;
    let file = |name: &str| Some(pod.path.join(name).to_string_lossy().into_owned());
    let cgroup = container.cgroup();
    let hostname = hostname(pod);
    let facts = if config.security.privileged {
        // Disks come and go; a privileged container gets those of now.
        std::borrow::Cow::Owned(spec::NodeFacts {
            devices: crate::facts::devices_at(Path::new("/dev")),
            ..shared.facts.clone()
        })
    } else {
        std::borrow::Cow::Borrowed(&shared.facts)
    };
    let inputs = Inputs {
        container_id: container.id.as_str(),
        pod_id: pod.id.as_str(),
        pod: &pod_config,
        container: &config,
        image: &image_config,
        facts: &facts,
        root,
        image_mounts,
        cgroups_path: &cgroup,
        hostname: &hostname,
        files: PodFiles {
            hosts: file("hosts"),
            hostname: file("hostname"),
            resolv_conf: file("resolv.conf"),
        },
        shm: SharedMemory::Shared(if ipc_is_node {
            "/dev/shm".into()
        } else {
            pod.path.join("shm").to_string_lossy().into_owned()
        }),
        target_pid: target_pid(shared, container, &config)?,
        volumes: make_volumes(shared, container, &image_config.volumes, &config)?,
        devices: host_devices(&config)?,
        seccomp_profile: profile.as_deref(),
        // The shim wrote them when it made the pod's namespaces.
        sysctls: Vec::new(),
    };
    let built = spec::container(&inputs)?;
    for warning in &built.warnings {
        tracing::warn!(pod = %pod.id, container = %container.id, "{warning}");
    }
    let plan = postcard_plan(&built.plan)?;
    write_plan(&pod.path.join(plan_name(&container.id)), &plan)?;
    pod.folder.write(&spec_name(&container.id), &built.spec)?;
    container.update(|record| {
        record.resources = built.resources;
        record.device_rules = built.device_rules;
        record.stop_signal = built.stop_signal;
    })
}

fn postcard_plan(plan: &container::plan::LaunchPlan) -> Result<Vec<u8>> {
    let bytes = plan.encode().map_err(|e| Error::internal(format!("cannot encode the launch plan: {e}")))?;
    if bytes.len() > container::plan::PLAN_MAX {
        return Err(Error::invalid(format!(
            "the container's configuration is too large: {} bytes planned",
            bytes.len()
        )));
    }
    Ok(bytes)
}

fn write_plan(path: &Path, bytes: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = || -> std::io::Result<()> {
        std::fs::File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?).write_all(bytes)
    };
    write().map_err(|e| Error::with_source(ErrorKind::Internal, "cannot keep the launch plan", e))
}

/// A missing mount source is told now, where the caller can mend it, and not by a failing launch.
fn check_source(mount: &types::container::Mount) -> Result<()> {
    if mount.host_path.is_empty() {
        return Ok(());
    }
    match std::fs::metadata(&mount.host_path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::invalid(format!(
            "mount {:?}: the source {:?} does not exist on the node; make it, or mount another path",
            mount.container_path, mount.host_path
        ))),
        Err(e) => Err(Error::with_source(
            ErrorKind::InvalidArgument,
            format!("mount {:?}: the source {:?} cannot be used", mount.container_path, mount.host_path),
            e,
        )),
    }
}

fn image_config(image: &ImageRecord) -> ImageConfig {
    let c = &image.config;
    ImageConfig {
        user: c.user.clone(),
        env: c.env.clone(),
        entrypoint: c.entrypoint.clone(),
        cmd: c.cmd.clone(),
        working_dir: c.working_dir.clone(),
        volumes: c.volumes.clone(),
        stop_signal: c.stop_signal.clone(),
        labels: c.labels.clone(),
    }
}

fn seccomp_profile(shared: &Shared, profile: &SecurityProfile) -> Result<Option<Vec<u8>>> {
    let SecurityProfile::Localhost(name) = profile else { return Ok(None) };
    // The kubelet sends an absolute path below its own seccomp folder; a relative one is below ours.
    let path = shared.config.seccomp_root.join(name);
    let fail = |e: std::io::Error| {
        Error::with_source(
            ErrorKind::InvalidArgument,
            format!("the seccomp profile {} cannot be read", path.display()),
            e,
        )
    };
    let file = std::fs::File::open(&path).map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(Error::invalid(format!("the seccomp profile {} is not a regular file", path.display())));
    }
    let mut text = Vec::new();
    file.take(PROFILE_MAX + 1).read_to_end(&mut text).map_err(fail)?;
    if text.len() as u64 > PROFILE_MAX {
        return Err(Error::invalid(format!("the seccomp profile {} is larger than 1 MiB", path.display())));
    }
    Ok(Some(text))
}

/// The process whose PID namespace is joined; the shim finds it by itself, but the specification names it.
fn target_pid(
    shared: &Shared,
    container: &Container,
    config: &types::ContainerConfig,
) -> Result<Option<i32>> {
    match config.security.namespaces.pid {
        NamespaceMode::Pod => Ok(Some(container.pod.record().monitor_pid)),
        NamespaceMode::Target => {
            let target = shared.registry.container(&config.security.namespaces.target_id)?;
            let pid = target.record().pid;
            if target.pod.id != container.pod.id || pid == 0 {
                return Err(Error::precondition(format!(
                    "container {} whose processes are to be shared does not run in this pod",
                    target.id
                )));
            }
            Ok(Some(pid))
        }
        _ => Ok(None),
    }
}

fn make_volumes(
    shared: &Shared,
    container: &Container,
    wanted: &[String],
    config: &types::ContainerConfig,
) -> Result<Vec<(String, String)>> {
    if wanted.len() > VOLUMES_MAX {
        return Err(Error::invalid(format!(
            "the image asks for {} volumes; {VOLUMES_MAX} are the most",
            wanted.len()
        )));
    }
    let mut volumes = Vec::new();
    for (index, path) in wanted.iter().enumerate() {
        let covered = config
            .mounts
            .iter()
            .any(|m| m.container_path.trim_end_matches('/') == path.trim_end_matches('/'));
        if covered {
            continue;
        }
        // The folder is named by a number: nothing of the image's text becomes a path of the node (CVE-2022-23648).
        let folder: PathBuf = shared.config.volumes.join(container.id.as_str()).join(index.to_string());
        std::fs::create_dir_all(&folder).map_err(|e| {
            Error::with_source(ErrorKind::Internal, format!("cannot make the volume {}", folder.display()), e)
        })?;
        volumes.push((path.clone(), folder.to_string_lossy().into_owned()));
    }
    Ok(volumes)
}

fn host_devices(config: &types::ContainerConfig) -> Result<Vec<HostDevice>> {
    let mut devices = Vec::new();
    for device in &config.devices {
        let found = crate::facts::devices_at(Path::new(&device.host_path));
        if found.is_empty() {
            return Err(Error::invalid(format!(
                "{:?} is no device of this node, and no folder with devices",
                device.host_path
            )));
        }
        devices.extend(found);
    }
    Ok(devices)
}
