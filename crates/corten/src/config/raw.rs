//! The file's own types, and the way from them to the checked ones. It reads no file.

use super::*;
use serde::Deserialize;

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
section!(RawRegistry { config_path: PathBuf = "/etc/corten/certs.d".into() });
section!(RawStreaming { address: String = "127.0.0.1:0".into() });
section!(RawCgroups { driver: String = "cgroupfs".into() });
section!(RawSnapshots { snapshotter: String = "auto".into() });
section!(RawRuntimes { native: RawNative = RawNative::default() });
section!(RawNative { shim: Option<PathBuf> = None });
section!(RawLog { level: String = "info".into(), format: String = "text".into() });

impl Raw {
    /// Checks every value.
    pub fn check(self) -> Result<Config, Wrong> {
        let root = folder("root", self.root)?;
        let state = folder("state", self.state)?;
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
            registry: Registry { config_path: folder("registry.config_path", self.registry.config_path)? },
            streaming: Streaming { address: streaming(&self.streaming.address)? },
            cgroups: Cgroups { driver: driver(&self.cgroups.driver)? },
            snapshots: Snapshots { snapshotter: snapshotter(&self.snapshots.snapshotter)? },
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
        "native" => Ok(Snapshotter::Native),
        other => wrong("snapshots.snapshotter", format!("{other:?} is not one of auto, overlayfs, native")),
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
