//! Requests as a kubelet writes them.

use container::plan::RootSource;
use corten_spec::{Built, HostDevice, ImageConfig, Inputs, NodeFacts, PodFiles, SharedMemory};
use types::container::{ContainerMetadata, Mount};
use types::pod::{NamespaceMode, NamespaceOptions, PodMetadata, PodSecurity, Resources};
use types::{ContainerConfig, PodConfig, Result};

/// A request that can be changed before it is asked.
pub struct Request {
    pub pod: PodConfig,
    pub container: ContainerConfig,
    pub image: ImageConfig,
    pub facts: NodeFacts,
    pub files: PodFiles,
    pub shm: SharedMemory,
    pub image_mounts: std::collections::BTreeMap<String, RootSource>,
    pub target_pid: Option<i32>,
    pub volumes: Vec<(String, String)>,
    pub devices: Vec<HostDevice>,
    pub seccomp: Option<Vec<u8>>,
}

pub fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

pub fn mount(host: &str, inside: &str, readonly: bool) -> Mount {
    Mount { host_path: host.into(), container_path: inside.into(), readonly, ..Mount::default() }
}

/// A web server in an ordinary pod, as the kubelet asks for it.
pub fn web() -> Request {
    let namespaces = NamespaceOptions { pid: NamespaceMode::Container, ..NamespaceOptions::default() };
    let mut container = ContainerConfig {
        metadata: ContainerMetadata { name: "web".into(), attempt: 0 },
        image: "sha256:0123".into(),
        user_specified_image: "nginx:1.27".into(),
        envs: vec![
            ("KUBERNETES_SERVICE_HOST".into(), b"10.96.0.1".to_vec()),
            ("NGINX_VERSION".into(), b"overridden".to_vec()),
        ],
        mounts: vec![
            mount(
                "/var/lib/kubelet/pods/u/volumes/token",
                "/var/run/secrets/kubernetes.io/serviceaccount",
                true,
            ),
            mount("/var/lib/kubelet/pods/u/etc-hosts", "/etc/hosts", false),
            mount("/var/lib/kubelet/pods/u/containers/web/0", "/dev/termination-log", false),
        ],
        ..ContainerConfig::default()
    };
    container.security.namespaces = namespaces.clone();
    container.security.masked_paths = words(&["/proc/asound", "/proc/kcore", "/sys/firmware"]);
    container.security.readonly_paths = words(&["/proc/bus", "/proc/sys"]);
    container.resources = Resources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit: 128 << 20,
        oom_score_adj: 992,
        ..Resources::default()
    };
    Request {
        pod: PodConfig {
            metadata: PodMetadata {
                name: "web-0".into(),
                uid: "u".into(),
                namespace: "default".into(),
                attempt: 0,
            },
            hostname: "web-0".into(),
            security: PodSecurity { namespaces, ..PodSecurity::default() },
            ..PodConfig::default()
        },
        container,
        image: ImageConfig {
            env: words(&["PATH=/usr/bin:/bin", "NGINX_VERSION=1.27.0"]),
            entrypoint: words(&["/docker-entrypoint.sh"]),
            cmd: words(&["nginx", "-g", "daemon off;"]),
            stop_signal: Some("SIGQUIT".into()),
            ..ImageConfig::default()
        },
        facts: NodeFacts::default(),
        files: PodFiles {
            hosts: Some("/run/corten/pods/p/hosts".into()),
            hostname: Some("/run/corten/pods/p/hostname".into()),
            resolv_conf: Some("/run/corten/pods/p/resolv.conf".into()),
        },
        shm: SharedMemory::Shared("/run/corten/pods/p/shm".into()),
        target_pid: None,
        volumes: Vec::new(),
        devices: Vec::new(),
        seccomp: None,
        image_mounts: std::collections::BTreeMap::new(),
    }
}

impl Request {
    pub fn ask(&self) -> Result<Built> {
        let overlay = RootSource::overlay(
            words(&["/snapshots/top", "/snapshots/base"]),
            "/snapshots/c/fs".into(),
            "/snapshots/c/work".into(),
        );
        corten_spec::container(&Inputs {
            container_id: "c1",
            pod_id: "p1",
            pod: &self.pod,
            container: &self.container,
            image: &self.image,
            facts: &self.facts,
            root: overlay,
            image_mounts: self.image_mounts.clone(),
            cgroups_path: "/kubepods/burstable/podu/c1",
            hostname: "web-0",
            files: self.files.clone(),
            shm: self.shm.clone(),
            target_pid: self.target_pid,
            volumes: self.volumes.clone(),
            devices: self.devices.clone(),
            seccomp_profile: self.seccomp.as_deref(),
            sysctls: corten_spec::sysctls(&self.pod)?,
        })
    }

    pub fn built(&self) -> Built {
        self.ask().expect("a request that is fine")
    }
}
