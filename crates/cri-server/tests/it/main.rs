//! The services over an engine of real parts in a folder of its own, asked through a real client. No pod is
//! run: that needs a shim, and is tested where the programs are.

mod archives;
mod node;
mod pull;

use cri_api::corten_v1::images_client::ImagesClient;
use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use engine::{Engine, EngineConfig, Parts};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// An engine without pods and images, and clients of it.
struct Node {
    _folder: tempfile::TempDir,
    runtime: RuntimeServiceClient<Channel>,
    image: ImageServiceClient<Channel>,
    own: ImagesClient<Channel>,
}

impl Node {
    async fn start() -> Self {
        Self::start_with(images::Timeouts::default()).await
    }

    async fn start_with(timeouts: images::Timeouts) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path(), timeouts).await;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(corten_cri_server::serve_connection(engine, ours));
        let mut theirs = Some(hyper_util::rt::TokioIo::new(theirs));
        let channel = Endpoint::try_from("http://[::]:1")
            .expect("a name that is not used")
            .connect_with_connector(tower::service_fn(move |_| {
                let io = theirs.take().ok_or_else(|| std::io::Error::other("there is one connection"));
                async move { io }
            }))
            .await
            .expect("the server answers");
        Self {
            _folder: folder,
            runtime: RuntimeServiceClient::new(channel.clone()),
            image: ImageServiceClient::new(channel.clone()),
            own: ImagesClient::new(channel),
        }
    }
}

async fn engine(folder: &std::path::Path, timeouts: images::Timeouts) -> Engine {
    // A file that stands for the shim: it is loaded and never run.
    let shim = folder.join("shim");
    std::fs::write(&shim, "#!/bin/false\n").expect("a file");
    let meta = store::meta::Meta::open(&folder.join("meta.redb")).expect("metadata");
    let snapshotter = snapshots::open("native", &folder.join("snapshots")).expect("native works anywhere");
    let images = images::Images::open(
        images::ImagesConfig { timeouts, ..images::ImagesConfig::new(folder.join("root")) },
        Arc::new(meta),
        Arc::clone(&snapshotter),
    )
    .expect("images");
    let network = network::Network::open(network::NetworkConfig {
        conf_dir: folder.join("net.d"),
        bin_dirs: Vec::new(),
        builtin_plugins: true,
        default_network: false,
        subnet: "10.88.0.0/16".into(),
        state: folder.join("network"),
        max_conf: 1 << 20,
        plugin_timeout: Duration::from_secs(10),
    })
    .expect("network");
    let parts = Parts {
        images,
        snapshotter,
        network,
        cgroups: cgroups::Cgroups::probe().expect("cgroups"),
        shim: monitor::ShimProgram::load(&shim).expect("a file is enough"),
    };
    let config = EngineConfig {
        state: folder.join("state"),
        cgroup_root: "/corten-cri-server-tests".into(),
        seccomp_root: folder.join("seccomp"),
        volumes: folder.join("volumes"),
        writable_quota: None,
    };
    Engine::open(config, parts).await.expect("an engine")
}
