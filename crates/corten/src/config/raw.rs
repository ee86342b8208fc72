//! The file's own types, and the way from them to the checked ones. It reads no file.

use super::*;
use serde::Deserialize;
use std::time::Duration;

/// A value that is refused: the key, and why.
#[derive(Debug)]
pub(super) struct Wrong {
    pub key: &'static str,
    pub reason: String,
}

fn wrong<T>(key: &'static str, reason: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { key, reason: reason.into() })
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name { $(pub $key: $type),* }
        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default),* }
            }
        }
    };
}

section!(
    /// The whole file.
    Raw {
        root: PathBuf = "/var/lib/corten".into(),
        state: PathBuf = "/run/corten".into(),
        grpc: RawGrpc = RawGrpc::default(),
        network: RawNetwork = RawNetwork::default(),
        images: RawImages = RawImages::default(),
        registry: RawRegistry = RawRegistry::default(),
        streaming: RawStreaming = RawStreaming::default(),
        cgroups: RawCgroups = RawCgroups::default(),
        snapshots: RawSnapshots = RawSnapshots::default(),
        runtimes: RawRuntimes = RawRuntimes::default(),
        log: RawLog = RawLog::default(),
    }
);
section!(RawGrpc { address: Option<String> = None });
section!(RawNetwork {
    conf_dir: PathBuf = "/etc/cni/net.d".into(),
    bin_dirs: Vec<PathBuf> = vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
    builtin_plugins: bool = true,
    default_network: Option<bool> = None,
    subnet: String = "10.88.0.0/16".into(),
});
section!(RawImages {
    pinned: Vec<String> = Vec::new(),
    discard_unpacked: bool = false,
    min_free: String = "256MiB".into(),
    max_layer_bytes: String = "64GiB".into(),
    max_image_bytes: String = "256GiB".into(),
    max_layer_ratio: u32 = 250,
    policy: Option<PathBuf> = None,
    decryption_keys: PathBuf = "/etc/corten/keys.d".into(),
});
section!(RawRegistry {
    config_path: PathBuf = "/etc/corten/certs.d".into(),
    registries_conf: Option<PathBuf> = None,
    max_concurrent_downloads: usize = 8,
    progress_timeout: String = "60s".into(),
});
section!(RawStreaming { address: String = "127.0.0.1:0".into() });
section!(RawCgroups { driver: String = "cgroupfs".into() });
section!(RawSnapshots {
    snapshotter: String = "auto".into(),
    writable_quota: String = "0".into(),
    proxy: RawProxy = RawProxy::default(),
    devmapper: RawDevmapper = RawDevmapper::default(),
    zfs: RawZfs = RawZfs::default(),
});
section!(RawDevmapper { pool: Option<String> = None, base_size: String = "10GiB".into() });
section!(RawZfs { dataset: Option<String> = None });
section!(RawProxy { address: Option<PathBuf> = None, snapshotter: String = "overlayfs".into() });
section!(RawRuntimes { native: RawNative = RawNative::default() });
section!(RawNative { shim: Option<PathBuf> = None });
section!(RawLog { level: String = "info".into(), format: String = "text".into() });

impl Raw {
    /// Checks every value.
    pub fn check(self) -> Result<Config, Wrong> {
        let root = folder("root", self.root)?;
        let state = folder("state", self.state)?;
        if self.snapshots.snapshotter == "proxy" && self.snapshots.proxy.address.is_none() {
            return wrong(
                "snapshots.proxy.address",
                "must name the socket of the snapshotter that is to be used",
            );
        }
        for (name, key, missing) in [
            ("devmapper", "snapshots.devmapper.pool", self.snapshots.devmapper.pool.is_none()),
            ("zfs", "snapshots.zfs.dataset", self.snapshots.zfs.dataset.is_none()),
        ] {
            if self.snapshots.snapshotter == name && missing {
                return wrong(key, format!("must be set for the snapshotter {name}"));
            }
        }
        if root == state {
            return wrong("state", "must not be the same folder as root");
        }
        let mut bin_dirs = Vec::new();
        for dir in self.network.bin_dirs {
            bin_dirs.push(folder("network.bin_dirs", dir)?);
        }
        Ok(Config {
            grpc: Grpc { address: socket(self.grpc.address, &state)? },
            network: Network {
                conf_dir: folder("network.conf_dir", self.network.conf_dir)?,
                bin_dirs,
                builtin_plugins: self.network.builtin_plugins,
                default_network: self.network.default_network,
                subnet: subnet(self.network.subnet)?,
            },
            images: Images {
                pinned: images::Pinned::parse(&self.images.pinned)
                    .or_else(|error| wrong("images.pinned", error.chain()))?,
                discard_unpacked: self.images.discard_unpacked,
                min_free: bytes("images.min_free", &self.images.min_free)?,
                max_layer_bytes: bytes("images.max_layer_bytes", &self.images.max_layer_bytes)?,
                max_image_bytes: bytes("images.max_image_bytes", &self.images.max_image_bytes)?,
                max_layer_ratio: self.images.max_layer_ratio,
                policy: self.images.policy.map(|path| folder("images.policy", path)).transpose()?,
                decryption_keys: folder("images.decryption_keys", self.images.decryption_keys)?,
            },
            registry: registry(self.registry)?,
            streaming: Streaming { address: streaming(&self.streaming.address)? },
            cgroups: Cgroups { driver: driver(&self.cgroups.driver)? },
            snapshots: Snapshots {
                snapshotter: snapshotter(&self.snapshots.snapshotter)?,
                writable_quota: Some(bytes("snapshots.writable_quota", &self.snapshots.writable_quota)?)
                    .filter(|bytes| *bytes > 0),
                proxy: SnapshotsProxy {
                    address: self
                        .snapshots
                        .proxy
                        .address
                        .map(|path| folder("snapshots.proxy.address", path))
                        .transpose()?,
                    snapshotter: self.snapshots.proxy.snapshotter,
                },
                devmapper: Devmapper {
                    pool: self.snapshots.devmapper.pool,
                    base_size: bytes("snapshots.devmapper.base_size", &self.snapshots.devmapper.base_size)?,
                },
                zfs: Zfs { dataset: self.snapshots.zfs.dataset },
            },
            runtimes: Runtimes {
                native: Native {
                    shim: self
                        .runtimes
                        .native
                        .shim
                        .map(|path| folder("runtimes.native.shim", path))
                        .transpose()?,
                },
            },
            log: Log { level: level(&self.log.level)?, format: format(&self.log.format)? },
            root,
            state,
        })
    }
}

/// A number of bytes: plain, or with KiB, MiB, GiB or TiB.
fn bytes(key: &'static str, text: &str) -> Result<u64, Wrong> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1_u64 << 40),
        _ => None,
    };
    match number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor)) {
        Some(bytes) => Ok(bytes),
        None => wrong(key, format!("{text:?} is no number of bytes; write it as 0, 512MiB or 2GiB")),
    }
}

fn registry(raw: RawRegistry) -> Result<Registry, Wrong> {
    // containerd takes several folders with colons between them.
    for part in std::env::split_paths(&raw.config_path) {
        folder("registry.config_path", part)?;
    }
    if !(1..=1000).contains(&raw.max_concurrent_downloads) {
        return wrong("registry.max_concurrent_downloads", "must be between 1 and 1000");
    }
    let key = "registry.progress_timeout";
    let text = raw.progress_timeout.trim();
    let seconds = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(seconds), _) => seconds.parse::<u64>().ok(),
        (_, Some(minutes)) => minutes.parse::<u64>().ok().and_then(|minutes| minutes.checked_mul(60)),
        _ => None,
    };
    let Some(seconds) = seconds.filter(|seconds| (5..=3600).contains(seconds)) else {
        return wrong(key, format!("{text:?} must be a time between 5s and 60m, such as 60s or 2m"));
    };
    Ok(Registry {
        config_path: raw.config_path,
        registries_conf: raw
            .registries_conf
            .map(|path| folder("registry.registries_conf", path))
            .transpose()?,
        max_concurrent_downloads: raw.max_concurrent_downloads,
        progress_timeout: Duration::from_secs(seconds),
    })
}

/// Absolute and without `..`, so that a path means the same wherever the daemon was started.
fn folder(key: &'static str, path: PathBuf) -> Result<PathBuf, Wrong> {
    let up = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || up {
        return wrong(key, format!("{} must be an absolute path without '..'", path.display()));
    }
    Ok(path)
}

fn socket(address: Option<String>, state: &Path) -> Result<PathBuf, Wrong> {
    let key = "grpc.address";
    let path = match address {
        None => state.join("corten.sock"),
        Some(text) => match text.split_once("://") {
            Some(("unix", path)) => folder(key, path.into())?,
            Some((scheme, _)) => {
                return wrong(key, format!("{scheme} addresses are not served; only a Unix socket is"));
            }
            None => folder(key, text.into())?,
        },
    };
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let reason =
            format!("{} is longer than the {MAX_SOCKET_PATH} bytes of a socket's path", path.display());
        return wrong(key, format!("{reason}; set a shorter grpc.address or state"));
    }
    Ok(path)
}

fn subnet(text: String) -> Result<String, Wrong> {
    let key = "network.subnet";
    let Some((address, length)) = text.split_once('/') else {
        return wrong(key, format!("{text:?} must be an IPv4 network such as 10.88.0.0/16"));
    };
    let (Ok(address), Ok(length)) = (address.parse::<std::net::Ipv4Addr>(), length.parse::<u32>()) else {
        return wrong(key, format!("{text:?} must be an IPv4 network such as 10.88.0.0/16"));
    };
    if !(8..=29).contains(&length) {
        return wrong(key, format!("{text:?} must be between /8 and /29 to hold pods"));
    }
    if address.to_bits() & (u32::MAX >> length) != 0 {
        return wrong(key, format!("{text:?} names a host, not a network; clear the bits after /{length}"));
    }
    Ok(text)
}

fn streaming(text: &str) -> Result<SocketAddr, Wrong> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        return wrong(
            "streaming.address",
            format!("{text:?} must be an address with a port, such as 127.0.0.1:0"),
        );
    };
    if !address.ip().is_loopback() {
        return wrong(
            "streaming.address",
            format!("{text:?} would serve exec without a password to the network; use a loopback address"),
        );
    }
    Ok(address)
}

fn driver(text: &str) -> Result<CgroupDriver, Wrong> {
    match text {
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        "systemd" => {
            wrong("cgroups.driver", "the systemd driver is not built yet; use cgroupfs, in the kubelet too")
        }
        other => wrong("cgroups.driver", format!("{other:?} is no driver; use cgroupfs")),
    }
}

fn snapshotter(text: &str) -> Result<Snapshotter, Wrong> {
    match text {
        "auto" => Ok(Snapshotter::Auto),
        "overlayfs" => Ok(Snapshotter::Overlayfs),
        "erofs" => Ok(Snapshotter::Erofs),
        "native" => Ok(Snapshotter::Native),
        "btrfs" => Ok(Snapshotter::Btrfs),
        "proxy" => Ok(Snapshotter::Proxy),
        "devmapper" => Ok(Snapshotter::Devmapper),
        "zfs" => Ok(Snapshotter::Zfs),
        other => wrong(
            "snapshots.snapshotter",
            format!("{other:?} is not one of auto, overlayfs, erofs, native, btrfs, devmapper, zfs, proxy"),
        ),
    }
}

fn level(text: &str) -> Result<Level, Wrong> {
    match text {
        "error" => Ok(Level::Error),
        "warn" => Ok(Level::Warn),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        "trace" => Ok(Level::Trace),
        other => wrong("log.level", format!("{other:?} is not one of error, warn, info, debug, trace")),
    }
}

fn format(text: &str) -> Result<LogFormat, Wrong> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => wrong("log.format", format!("{other:?} is not one of text, json")),
    }
}
