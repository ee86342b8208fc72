//! Configuration: one TOML file, read once at start. Every path can be set, so that several daemons run side
//! by side. Unknown keys are refused with the line and the nearest key; a value is checked before anything
//! is made of it. This module opens its file and nothing else.

mod keys;
mod raw;
mod text;

pub use text::DEFAULT;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the file is looked for when nobody names one.
pub const DEFAULT_PATH: &str = "/etc/corten/config.toml";
/// Larger files are refused.
const MAX_BYTES: u64 = 1 << 20;
/// A Unix socket's path, with its end, fits 108 bytes (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What survives a reboot: images, snapshots, metadata.
    pub root: PathBuf,
    /// What does not: sockets, pods, locks.
    pub state: PathBuf,
    /// The CRI endpoint.
    pub grpc: Grpc,
    /// Pod networks.
    pub network: Network,
    /// Images: which may be used, how they are kept.
    pub images: Images,
    /// Registries.
    pub registry: Registry,
    /// Exec, attach and port-forward.
    pub streaming: Streaming,
    /// Control groups.
    pub cgroups: Cgroups,
    /// Layers and writable layers.
    pub snapshots: Snapshots,
    /// What runs pods.
    pub runtimes: Runtimes,
    /// The daemon's own log.
    pub log: Log,
}

/// `[grpc]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    /// Path of the Unix socket.
    pub address: PathBuf,
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// CNI network configurations.
    pub conf_dir: PathBuf,
    /// CNI plugin programs, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// Run the standard plugins in this process.
    pub builtin_plugins: bool,
    /// Make a bridge network when there is no configuration. Unset: yes for `corten run` without a daemon,
    /// no for the daemon, where the cluster brings the network.
    pub default_network: Option<bool>,
    /// IPv4 subnet of that network, as 10.88.0.0/16.
    pub subnet: String,
}

/// `[images]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Images that the kubelet's collection and a prune leave alone.
    pub pinned: images::Pinned,
    /// Compressed layers are not kept once they are unpacked.
    pub discard_unpacked: bool,
    /// Bytes that stay free in the root's file system.
    pub min_free: u64,
    /// Bytes that one layer may unpack to.
    pub max_layer_bytes: u64,
    /// Bytes that all layers of one image may unpack to.
    pub max_image_bytes: u64,
    /// How many times its compressed size a layer may unpack to, behind its first GiB; 0 is no bound.
    pub max_layer_ratio: u32,
    /// A file as containers-policy.json(5) describes it; unset, any image may be used.
    pub policy: Option<PathBuf>,
    /// Private keys (PEM) that open encrypted layers. It need not be there.
    pub decryption_keys: PathBuf,
}

/// `[registry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// A tree of HOST/hosts.toml files, as containerd's certs.d, or several with colons between them. It need not
    /// be there.
    pub config_path: PathBuf,
    /// A registries.conf, as CRI-O's. Unset: there is none.
    pub registries_conf: Option<PathBuf>,
    /// Blobs that are fetched at the same time, by all pulls together.
    pub max_concurrent_downloads: usize,
    /// After so long without progress a transfer ends.
    pub progress_timeout: std::time::Duration,
}

/// `[streaming]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streaming {
    /// Where the kubelet finds streams. Port 0: any free port.
    pub address: SocketAddr,
}

/// `[cgroups]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Who writes the cgroup tree.
    pub driver: CgroupDriver,
}

/// How cgroups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// By the runtime, in the file system.
    Cgroupfs,
}

/// `[snapshots]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshots {
    /// Which implementation.
    pub snapshotter: Snapshotter,
    /// The most bytes that a container's writable layer takes.
    pub writable_quota: Option<u64>,
    /// `[snapshots.proxy]`
    pub proxy: SnapshotsProxy,
    /// `[snapshots.devmapper]`
    pub devmapper: Devmapper,
    /// `[snapshots.zfs]`
    pub zfs: Zfs,
}

/// A thin pool of the device mapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devmapper {
    /// Its name, as below `/dev/mapper`.
    pub pool: Option<String>,
    /// The size of every layer's and container's file system, in bytes.
    pub base_size: u64,
}

/// A ZFS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zfs {
    /// The data set below which all others are made.
    pub dataset: Option<String>,
}

/// A snapshotter in another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotsProxy {
    /// The Unix socket of its gRPC server.
    pub address: Option<PathBuf>,
    /// Its name there.
    pub snapshotter: String,
}

/// How layers become a root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshotter {
    /// overlayfs where it works, else native.
    Auto,
    /// The kernel's overlay file system.
    Overlayfs,
    /// Layers in EROFS image files.
    Erofs,
    /// Copies; works everywhere.
    Native,
    /// Subvolumes.
    Btrfs,
    /// Another process, over containerd's API.
    Proxy,
    /// Thin devices.
    Devmapper,
    /// Data sets and clones.
    Zfs,
}

impl Snapshotter {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Overlayfs => "overlayfs",
            Self::Erofs => "erofs",
            Self::Native => "native",
            Self::Btrfs => "btrfs",
            Self::Proxy => "proxy",
            Self::Devmapper => "devmapper",
            Self::Zfs => "zfs",
        }
    }
}

/// `[runtimes]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtimes {
    /// `[runtimes.native]`
    pub native: Native,
}

/// Containers by the kernel's own means, without a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// The shim program; `corten-shim` beside this program when unset.
    pub shim: Option<PathBuf>,
}

impl Native {
    /// The shim to use.
    pub fn shim_path(&self) -> PathBuf {
        let beside = || {
            let program = std::env::current_exe().unwrap_or_default();
            program.with_file_name("corten-shim")
        };
        self.shim.clone().unwrap_or_else(beside)
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: Level,
    /// How lines look.
    pub format: LogFormat,
}

/// Importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Failures.
    Error,
    /// What may need a look.
    Warn,
    /// What happened.
    Info,
    /// How it happened.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The name in the file, which is the filter's too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        // Cannot fail: `the_defaults_pass_their_own_checks` reads the same value.
        raw::Raw::default().check().expect("the defaults are valid")
    }
}

/// Why a configuration is refused: one sentence with file and line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{name}:{line}: {reason}")]
    Line {
        /// The file.
        name: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl From<ConfigError> for types::Error {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Read { .. } => {
                let message = error.to_string();
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Self::with_source(types::ErrorKind::NotFound, message, source)
            }
            ConfigError::Line { .. } => Self::invalid(error.to_string()),
        }
    }
}

impl Config {
    /// Reads `path`, or the file at [`DEFAULT_PATH`] when there is one, else the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => Self::read(path),
            None => match Self::read(Path::new(DEFAULT_PATH)) {
                Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Ok(Self::default())
                }
                other => other,
            },
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read;
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .map_err(failed)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let name = path.display().to_string();
        let refuse = |reason: &str| ConfigError::Line { name: name.clone(), line: 1, reason: reason.into() };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refuse("the file is larger than 1 MiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| refuse("the file is not UTF-8 text"))?;
        Self::parse(&name, &text)
    }

    /// Reads the text of a configuration. `name` only serves the messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let at = |span: Option<std::ops::Range<usize>>, reason: String| {
            let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
            ConfigError::Line { name: name.into(), line: before.matches('\n').count() + 1, reason }
        };
        let table = toml::de::DeTable::parse(text)
            .map_err(|error| at(error.span(), format!("not valid TOML: {}", error.message())))?;
        keys::check(table.get_ref()).map_err(|unknown| at(Some(unknown.span), unknown.reason))?;
        let raw: raw::Raw =
            toml::from_str(text).map_err(|error| at(error.span(), error.message().trim().to_owned()))?;
        raw.check().map_err(|wrong| {
            let span = keys::find(table.get_ref(), wrong.key);
            at(span, format!("{}: {}", wrong.key, wrong.reason))
        })
    }
}

#[cfg(test)]
mod tests;
