//! The parts of a node, wired: the only place where the subsystems meet. The daemon and `corten run` without a
//! daemon both open their engine here.

use crate::config::{Config, Snapshotter};
use engine::{Engine, EngineConfig, Parts};
use images::{Images, ImagesConfig};
use monitor::ShimProgram;
use network::{Network, NetworkConfig};
use proxy_snapshotter::{Proxy, ProxyConfig};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::lock::Lock;
use store::meta::Meta;
use tokio::net::UnixListener;
use tonic::transport::Channel;
use types::{Error, ErrorKind, Result};

/// An open node. It is one instance per root for as long as this lives.
pub struct Node {
    /// The engine.
    pub engine: Engine,
    _locks: [Lock; 2],
}

/// Opens the node that a configuration describes, and takes over what runs in it.
///
/// `default_network` holds where the configuration does not say.
pub async fn open(config: &Config, default_network: bool) -> Result<Node> {
    require_root()?;
    for folder in [&config.root, &config.state] {
        make_folder(folder)?;
    }
    let locks = [
        store::lock::exclusive(&config.root.join("lock"))?,
        store::lock::exclusive(&config.state.join("lock"))?,
    ];
    let parts = parts(config, default_network)?;
    let engine_config = EngineConfig {
        state: config.state.clone(),
        cgroup_root: cgroup_root(&config.state),
        seccomp_root: "/var/lib/kubelet/seccomp".into(),
        volumes: config.root.join("volumes"),
        writable_quota: config.snapshots.writable_quota,
    };
    let engine = Engine::open(engine_config, parts).await?;
    Ok(Node { engine, _locks: locks })
}

fn parts(config: &Config, default_network: bool) -> Result<Parts> {
    let snapshots = config.root.join("snapshots");
    let snapshotter = match config.snapshots.snapshotter {
        Snapshotter::Auto => snapshots::open_auto(&snapshots)?,
        Snapshotter::Proxy => {
            let proxy = &config.snapshots.proxy;
            let proxied = ProxyConfig {
                address: proxy.address.clone().unwrap_or_default(),
                snapshotter: proxy.snapshotter.clone(),
            };
            Arc::new(Proxy::open(&snapshots, proxied)?)
        }
        Snapshotter::Devmapper => {
            let devmapper = &config.snapshots.devmapper;
            snapshots::open_devmapper(
                &snapshots,
                &snapshots::DevmapperConfig {
                    pool: devmapper.pool.clone().unwrap_or_default(),
                    bytes: devmapper.base_size,
                    ..snapshots::DevmapperConfig::default()
                },
            )?
        }
        Snapshotter::Zfs => {
            let dataset = config.snapshots.zfs.dataset.clone().unwrap_or_default();
            let zfs = snapshots::ZfsConfig { dataset, ..snapshots::ZfsConfig::default() };
            snapshots::open_zfs(&snapshots, &zfs)?
        }
        named => snapshots::open(named.name(), &snapshots)?,
    };
    if config.snapshots.writable_quota.is_some() && !matches!(snapshotter.name(), "overlayfs" | "erofs") {
        return Err(Error::invalid(format!(
            "snapshots.writable_quota: the snapshotter {} cannot bound a writable layer; take overlayfs or erofs, or 0",
            snapshotter.name()
        )));
    }
    let meta = Arc::new(Meta::open(&config.root.join("meta.redb"))?);
    let images = ImagesConfig {
        registry_config_path: Some(config.registry.config_path.clone()),
        registries_conf: config.registry.registries_conf.clone(),
        max_downloads: config.registry.max_concurrent_downloads,
        timeouts: images::Timeouts {
            headers: config.registry.progress_timeout,
            idle: config.registry.progress_timeout,
            ..images::Timeouts::default()
        },
        discard_unpacked_layers: config.images.discard_unpacked,
        pinned: config.images.pinned.clone(),
        min_free: config.images.min_free,
        unpack: layers::UnpackLimits {
            max_bytes: config.images.max_layer_bytes,
            max_ratio: config.images.max_layer_ratio,
            ..layers::UnpackLimits::DEFAULT
        },
        max_image_bytes: config.images.max_image_bytes,
        policy: config.images.policy.clone(),
        decryption_keys: Some(config.images.decryption_keys.clone()),
        ..ImagesConfig::new(&config.root)
    };
    let network = &config.network;
    Ok(Parts {
        images: Images::open(images, meta, snapshotter.clone())?,
        snapshotter,
        network: Network::open(NetworkConfig {
            conf_dir: network.conf_dir.clone(),
            bin_dirs: network.bin_dirs.clone(),
            builtin_plugins: network.builtin_plugins,
            default_network: network.default_network.unwrap_or(default_network),
            subnet: network.subnet.clone(),
            // Below the root, not the state: an address that host-local keeps on disk outlives a reboot, and so must
            // the record by which it is given back.
            state: config.root.join("network"),
            max_conf: 1 << 20,
            plugin_timeout: Duration::from_secs(60),
        })?,
        cgroups: cgroups::Cgroups::probe()?,
        shim: ShimProgram::load(&config.runtimes.native.shim_path())?,
    })
}

/// Pods without a cgroup of their caller's choice go below `/corten`; daemons with another state folder keep
/// apart by its name, so that each can see from the kernel what is its own.
fn cgroup_root(state: &Path) -> String {
    if state == Path::new("/run/corten") {
        return "/corten".into();
    }
    // FNV-1a, 32 bits: a short name that is the same after a restart.
    let hash = state
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    format!("/corten-{hash:08x}")
}

fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PermissionDenied,
        "running pods needs root: start this as root, or name a daemon's socket with --endpoint",
    ))
}

fn make_folder(path: &Path) -> Result<()> {
    let fail = |e| {
        Error::with_source(
            ErrorKind::FailedPrecondition,
            format!("cannot make the folder {}", path.display()),
            e,
        )
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
    // One that was there with wider access is narrowed (CVE-2024-25621 was a state folder too open).
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(fail)
}

/// Listens on the CRI socket. A socket file that nobody answers at is a dead daemon's and gives way; one that
/// is answered is another daemon's, with other folders.
pub fn listen(address: &Path) -> Result<UnixListener> {
    let fail = |e| {
        Error::with_source(
            ErrorKind::FailedPrecondition,
            format!("cannot listen on {}", address.display()),
            e,
        )
    };
    if let Some(folder) = address.parent()
        && !folder.exists()
    {
        make_folder(folder)?;
    }
    if std::os::unix::net::UnixStream::connect(address).is_ok() {
        return Err(Error::precondition(format!(
            "another daemon listens on {}; give this one an address of its own ([grpc] address)",
            address.display()
        )));
    }
    match std::fs::symlink_metadata(address) {
        Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
            std::fs::remove_file(address).map_err(fail)?
        }
        Ok(_) => {
            return Err(Error::precondition(format!(
                "{} is there and is no socket; remove it or set [grpc] address",
                address.display()
            )));
        }
        Err(_) => {}
    }
    // Nobody connects between bind and chmod: the socket is born with mode 0600.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(address);
    rustix::process::umask(before);
    listener.map_err(fail)
}

/// A node inside this process, which other commands find at the socket while it lives.
pub struct InProcess {
    /// A client's channel to it.
    pub channel: Channel,
    node: Node,
    stop: tokio::sync::oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<()>>,
    address: std::path::PathBuf,
}

/// Opens a node in this process and connects to it.
pub async fn open_in_process(config: &Config) -> Result<InProcess> {
    let node = open(config, true).await?;
    let address = config.grpc.address.clone();
    let listener = listen(&address)?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let engine = node.engine.clone();
    let server = tokio::spawn(async move {
        cri_server::serve(engine, listener, async {
            let _ = stopped.await;
        })
        .await
    });
    let channel = crate::endpoint::connect(&address).await?;
    Ok(InProcess { channel, node, stop, server, address })
}

impl InProcess {
    /// Lets running calls finish and leaves pods running.
    pub async fn close(self) -> Result<()> {
        drop(self.channel);
        let _ = self.stop.send(());
        let served = self
            .server
            .await
            .map_err(|e| Error::with_source(ErrorKind::Internal, "the server broke off", e))?;
        self.node.engine.close().await?;
        let _ = std::fs::remove_file(&self.address);
        served
    }
}
