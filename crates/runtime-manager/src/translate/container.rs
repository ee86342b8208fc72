//! `v1.Container` to `ContainerConfig` (kubelet `generateContainerConfig`).

use super::volumes::{Source, Volumes};
use super::{Identity, Node, Role, env, grace, keys, resources, security};
use crate::{Error, Result};
use cri_api::v1::{
    ContainerConfig, ContainerMetadata, Image, ImageSpec, KeyValue, LinuxContainerConfig, Mount,
    MountPropagation,
};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use std::path::{Path, PathBuf};

/// Default of `terminationMessagePath` (core/v1).
const TERMINATION_PATH: &str = "/dev/termination-log";
const HOSTS: &str = "/etc/hosts";

/// Everything a container's configuration is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container of it.
    pub container: &'a Container,
    /// What it is in the pod.
    pub role: Role,
    /// Field of the manifest, for errors.
    pub path: &'a str,
    /// Name, namespace, uid.
    pub identity: &'a Identity,
    /// This machine.
    pub node: &'a Node,
    /// What the runtime answered to the pull.
    pub image_ref: &'a str,
    /// The runtime's record of the image.
    pub image: &'a Image,
    /// 0 for the first, one more at every restart.
    pub attempt: u32,
    /// Addresses of the pod, primary first.
    pub ips: &'a [String],
    /// Host paths of the pod's volumes.
    pub volumes: &'a Volumes,
    /// The pod's hosts file; `None` leaves it to the runtime.
    pub hosts: Option<&'a Path>,
    /// Where the container's last words go.
    pub termination_file: &'a Path,
}

/// Path of a container's log under the pod's log folder.
pub fn log_path(name: &str, attempt: u32) -> PathBuf {
    Path::new(name).join(format!("{attempt}.log"))
}

/// The configuration of one attempt of a container.
pub fn config(inputs: &Inputs<'_>) -> Result<ContainerConfig> {
    let Inputs { pod, container, identity, node, .. } = *inputs;
    let spec = pod.spec.as_ref().ok_or_else(|| Error::refused("spec", "is missing"))?;
    let facts = env::Facts { pod, identity, node, ips: inputs.ips };
    let expanded = env::expand(container, &facts, inputs.path)?;
    let linux = LinuxContainerConfig {
        resources: Some(resources::container(spec, container, node.memory)),
        security_context: Some(security::container(spec, container, inputs.image, node, inputs.path)?),
    };
    let name = container.name.clone();
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.clone(), attempt: inputs.attempt }),
        image: Some(ImageSpec {
            image: inputs.image_ref.into(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expanded.command,
        args: expanded.args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: expanded.env.into_iter().map(|(key, value)| KeyValue { key, value: value.into() }).collect(),
        mounts: mounts(inputs)?,
        labels: [
            (keys::CONTAINER_NAME.to_owned(), name.clone()),
            (keys::POD_NAME.to_owned(), identity.name.clone()),
            (keys::POD_NAMESPACE.to_owned(), identity.namespace.clone()),
            (keys::POD_UID.to_owned(), identity.uid.clone()),
        ]
        .into(),
        annotations: annotations(inputs, &grace(spec)),
        log_path: log_path(&name, inputs.attempt).to_string_lossy().into_owned(),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(linux),
        ..Default::default()
    })
}

fn annotations(
    inputs: &Inputs<'_>,
    grace: &std::time::Duration,
) -> std::collections::HashMap<String, String> {
    let container = inputs.container;
    let mut map = std::collections::HashMap::from([
        (keys::RESTART_COUNT.to_owned(), inputs.attempt.to_string()),
        (keys::TERMINATION_PATH.to_owned(), termination_path(container).to_owned()),
        (keys::TERMINATION_POLICY.to_owned(), "File".to_owned()),
        (keys::GRACE.to_owned(), grace.as_secs().to_string()),
    ]);
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty())
        && let Ok(json) = serde_json::to_string(ports)
    {
        map.insert(keys::PORTS.to_owned(), json);
    }
    map
}

fn termination_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(TERMINATION_PATH)
}

/// The manifest's mounts in their order, then the hosts file and the termination message, unless the
/// manifest mounts something there.
fn mounts(inputs: &Inputs<'_>) -> Result<Vec<Mount>> {
    let own = inputs.container.volume_mounts.iter().flatten();
    let mut mounts = Vec::new();
    for (index, mount) in own.enumerate() {
        let path = format!("{}.volumeMounts[{index}]", inputs.path);
        mounts.push(volume_mount(mount, inputs.volumes, &path)?);
    }
    let taken = |path: &str| mounts.iter().any(|mount: &Mount| mount.container_path == path);
    let mut extra = Vec::new();
    if let Some(hosts) = inputs.hosts.filter(|_| !taken(HOSTS)) {
        extra.push((HOSTS, hosts));
    }
    let termination = termination_path(inputs.container);
    if !taken(termination) {
        extra.push((termination, inputs.termination_file));
    }
    mounts.extend(extra.into_iter().map(|(at, file)| Mount {
        container_path: at.into(),
        host_path: file.to_string_lossy().into_owned(),
        ..Default::default()
    }));
    Ok(mounts)
}

fn volume_mount(mount: &VolumeMount, volumes: &Volumes, path: &str) -> Result<Mount> {
    let source = volumes.get(&mount.name).ok_or_else(|| {
        Error::refused(format!("{path}.name"), format!("there is no volume {:?}", mount.name))
    })?;
    let mut at = mount.mount_path.clone();
    if !at.starts_with('/') {
        // The kubelet makes relative mount paths absolute.
        at.insert(0, '/');
    }
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    let recursive_read_only = mount.recursive_read_only.as_deref() == Some("Enabled");
    let propagation = propagation as i32;
    let sub_path = mount.sub_path.clone().unwrap_or_default();
    Ok(match source {
        // The runtime knows the image by the name that it was fetched by, and mounts it read-only always.
        Source::Image(image) => Mount {
            container_path: at,
            image: Some(ImageSpec { image: image.clone(), ..Default::default() }),
            image_sub_path: sub_path,
            readonly: true,
            propagation,
            recursive_read_only,
            ..Default::default()
        },
        Source::Host(_) if !sub_path.is_empty() => {
            let why = "is for volumes of images alone; mount a volume of its own";
            return Err(Error::refused(format!("{path}.subPath"), why));
        }
        Source::Host(host) => Mount {
            container_path: at,
            host_path: host.to_string_lossy().into_owned(),
            readonly: mount.read_only == Some(true),
            propagation,
            recursive_read_only,
            ..Default::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fixtures::{node, pod};

    #[test]
    fn a_container_becomes_what_the_kubelet_would_send() {
        let pod = pod(
            "  terminationGracePeriodSeconds: 5\n  volumes: [{name: v, emptyDir: {}}]\n  containers:\n  - name: c\n    image: busybox:1\n    command: [sh, -c]\n    args: ['echo $(A)']\n    workingDir: /w\n    tty: true\n    env: [{name: A, value: x}]\n    volumeMounts: [{name: v, mountPath: data, readOnly: true, mountPropagation: HostToContainer}]\n    resources: {limits: {cpu: 1, memory: 32Mi}}\n",
        );
        let identity = Identity::of(&pod).unwrap();
        let volumes = Volumes::from([("v".to_owned(), Source::Host(PathBuf::from("/work/v")))]);
        let (node, image) = (node(), Image::default());
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let got = config(&Inputs {
            pod: &pod,
            container,
            role: Role::Main,
            path: "spec.containers[0]",
            identity: &identity,
            node: &node,
            image_ref: "sha256:abc",
            image: &image,
            attempt: 2,
            ips: &[],
            volumes: &volumes,
            hosts: Some(Path::new("/work/hosts")),
            termination_file: Path::new("/work/t"),
        })
        .unwrap();
        assert_eq!(got.metadata.unwrap(), ContainerMetadata { name: "c".into(), attempt: 2 });
        let image = got.image.unwrap();
        assert_eq!((image.image.as_str(), image.user_specified_image.as_str()), ("sha256:abc", "busybox:1"));
        assert_eq!((got.command, got.args), (vec!["sh".into(), "-c".into()], vec!["echo x".into()]));
        assert_eq!((got.working_dir.as_str(), got.tty, got.log_path.as_str()), ("/w", true, "c/2.log"));
        assert_eq!(got.labels[keys::CONTAINER_NAME], "c");
        assert_eq!(got.annotations[keys::RESTART_COUNT], "2");
        assert_eq!(got.annotations[keys::GRACE], "5");
        let places: Vec<_> = got
            .mounts
            .iter()
            .map(|m| (m.container_path.as_str(), m.host_path.as_str(), m.readonly))
            .collect();
        assert_eq!(
            places,
            [
                ("/data", "/work/v", true),
                ("/etc/hosts", "/work/hosts", false),
                ("/dev/termination-log", "/work/t", false)
            ]
        );
        assert_eq!(got.mounts[0].propagation, MountPropagation::PropagationHostToContainer as i32);
        assert_eq!(got.linux.unwrap().resources.unwrap().memory_limit_in_bytes, 32 << 20);
    }
}
