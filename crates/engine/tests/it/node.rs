//! A node for tests: its own folders, its own cgroup, its own image, and a look at the kernel when it ends.

use engine::api::{ContainerState, ContainerStatus};
use engine::{Engine, EngineConfig, Parts};
use images::{Images, ImagesConfig};
use monitor::ShimProgram;
use network::{Network, NetworkConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::meta::Meta;
use test_support::TempRoot;
use test_support::image::Image;
use test_support::kernel::{Baseline, Watch};
use test_support::registry::serve_oci;
use types::container::ContainerMetadata;
use types::pod::{NamespaceMode, PodMetadata};
use types::{ContainerConfig, PodConfig, Reference};

pub struct Node {
    pub engine: Engine,
    pub temp: TempRoot,
    pub image: String,
    cgroup: String,
    baseline: Baseline,
}

impl Node {
    /// `None`, said aloud, where the machine cannot run containers.
    pub async fn open() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: containers need root");
            return None;
        }
        let temp = TempRoot::new().expect("a temporary root");
        let cgroup = format!(
            "/corten-test-{}",
            &temp.path().file_name().expect("a name").to_string_lossy().replace('.', "")
        );
        let watch = Watch::root(temp.path())
            .named(cgroup.trim_start_matches('/'))
            .empty(temp.root().join("snapshots/overlayfs/containers"));
        let baseline = Baseline::take(watch).expect("baseline");
        let engine = open_engine(&temp, &cgroup).await;
        let image = pull_busybox(&engine).await;
        Some(Self { engine, temp, image, cgroup, baseline })
    }

    /// Another daemon on the same folders, as after a crash of the first.
    pub async fn reopen(self) -> Self {
        let Self { engine, temp, image, cgroup, baseline } = self;
        drop(engine);
        // The first one's tasks let go of the database within a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let engine = open_engine(&temp, &cgroup).await;
        Self { engine, temp, image, cgroup, baseline }
    }

    /// A pod on the node's network.
    pub fn pod(&self, name: &str) -> PodConfig {
        let mut config = PodConfig {
            metadata: PodMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "test".into(),
                attempt: 0,
            },
            log_directory: self.logs().to_string_lossy().into_owned(),
            ..PodConfig::default()
        };
        config.security.namespaces.network = NamespaceMode::Node;
        config.security.namespaces.pid = NamespaceMode::Container;
        config
    }

    pub fn container(&self, name: &str, command: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig {
            metadata: ContainerMetadata { name: name.into(), attempt: 0 },
            image: self.image.clone(),
            command: command.iter().map(|c| (*c).into()).collect(),
            log_path: format!("{name}.log"),
            ..ContainerConfig::default()
        };
        config.security.namespaces.pid = NamespaceMode::Container;
        config.security.namespaces.network = NamespaceMode::Node;
        config
    }

    /// Creates and starts a container, and answers its id.
    pub async fn run(&self, pod: &str, config: ContainerConfig) -> types::Result<String> {
        let id = self.engine.create_container(pod, config).await?;
        self.engine.start_container(id.as_str()).await?;
        Ok(id.to_string())
    }

    /// Waits for a container's end.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        for _ in 0..500 {
            let status = self.engine.container_status(id).expect("known");
            if status.state == ContainerState::Exited {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("container {id} did not end");
    }

    pub fn logs(&self) -> PathBuf {
        self.temp.path().join("logs")
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.logs().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The top cgroup of this node's pods.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Removes a cgroup that a caller of the engine made, which is the caller's to remove.
    pub fn remove_cgroup(&self, name: &str) {
        let cgroups = cgroups::Cgroups::probe().expect("cgroups");
        if let Some(group) = cgroups.open(&format!("{}/{name}", self.cgroup)).expect("open") {
            group.remove().expect("removed");
        }
    }

    /// Removes every pod, and looks at the kernel for what is left.
    pub async fn end(self) {
        for pod in self.engine.list_pods(&engine::api::PodFilter::default()) {
            self.engine.remove_pod(pod.id.as_str()).await.expect("removed");
        }
        self.engine.close().await.expect("closed");
        let left = self.baseline.diff_within(Duration::from_secs(5)).expect("kernel");
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

async fn open_engine(temp: &TempRoot, cgroup: &str) -> Engine {
    let snapshotter = snapshots::open_auto(&temp.root().join("snapshots")).expect("snapshotter");
    let mut meta = Meta::open(&temp.root().join("meta.redb"));
    for _ in 0..100 {
        if meta.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        meta = Meta::open(&temp.root().join("meta.redb"));
    }
    let meta = Arc::new(meta.expect("meta"));
    let parts = Parts {
        images: Images::open(ImagesConfig::new(temp.root()), meta, snapshotter.clone()).expect("images"),
        snapshotter,
        network: Network::open(NetworkConfig {
            conf_dir: temp.path().join("net.d"),
            bin_dirs: vec![],
            builtin_plugins: true,
            default_network: false,
            subnet: "10.88.0.0/16".into(),
            state: temp.state().join("network"),
            max_conf: 1 << 20,
            plugin_timeout: Duration::from_secs(10),
        })
        .expect("network"),
        cgroups: cgroups::Cgroups::probe().expect("cgroups"),
        shim: ShimProgram::load(&test_support::programs::shim().expect("the shim is built")).expect("shim"),
    };
    let config = EngineConfig {
        state: temp.state(),
        cgroup_root: cgroup.into(),
        seccomp_root: temp.path().join("seccomp"),
        volumes: temp.root().join("volumes"),
        writable_quota: None,
    };
    Engine::open(config, parts).await.expect("engine")
}

async fn pull_busybox(engine: &Engine) -> String {
    let image: Image = test_support::image::busybox().expect("busybox-static is installed");
    let server = serve_oci(&[("test/busybox", "latest", &image)]).expect("server");
    let name = server.reference("test/busybox", "latest");
    engine.images().pull(&Reference::parse(&name).expect("reference"), None, None).await.expect("pulled");
    name
}
