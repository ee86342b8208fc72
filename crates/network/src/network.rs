//! The node's pod network: which one is in use, and the calls on it. Attaching is in `attach`,
//! detaching in `detach`. This file never talks to the kernel itself.

use crate::attach::Step;
use crate::background::Background;
use crate::conf::{Folder, NetworkList};
use crate::default_network;
use crate::exec;
use crate::nat_tables::NatTables;
use crate::plugins::Builtin;
use crate::pod::{Attachment, PodNetwork};
use crate::record::Attachments;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use types::{Error, ErrorKind, Result};

/// Plugins of pods that are swept at start are run side by side, up to this many.
const SWEEPERS: usize = 8;

/// How the node's pod network is set up.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Where network configurations are.
    pub conf_dir: PathBuf,
    /// Where plugin binaries are, searched in order.
    pub bin_dirs: Vec<PathBuf>,
    /// Run the standard plugins in-process where all their options are known.
    pub builtin_plugins: bool,
    /// Use a bridge of our own where `conf_dir` has no valid configuration.
    pub default_network: bool,
    /// The default network's subnet, or several separated by commas.
    pub subnet: String,
    /// The network's own folder: records of attachments, and the default network's addresses. It has to outlive a
    /// reboot where a configured network keeps its addresses on disk.
    pub state: PathBuf,
    /// The largest configuration file that is read, bytes.
    pub max_conf: u64,
    /// How long one plugin binary may run before it is killed.
    pub plugin_timeout: Duration,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            builtin_plugins: true,
            default_network: true,
            subnet: "10.88.0.0/16".to_owned(),
            state: "/var/lib/corten/network".into(),
            max_conf: 1024 * 1024,
            plugin_timeout: Duration::from_secs(60),
        }
    }
}

/// Whether pods can be attached, as the CRI's condition `NetworkReady` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkStatus {
    /// Whether pods can be attached.
    pub ready: bool,
    /// One word; empty when ready.
    pub reason: String,
    /// A sentence that says what to do; empty when ready.
    pub message: String,
}

/// The node's pod network. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: NetworkConfig,
    pub(crate) attachments: Attachments,
    pub(crate) nat: NatTables,
    pub(crate) background: Background,
    /// The default network's bridge.
    pub(crate) bridge: String,
    /// Read by who enters a network, written by who removes an empty one.
    pub(crate) gate: RwLock<()>,
    folder: Folder,
    default: RwLock<Arc<NetworkList>>,
    /// One queue per pod with work under way.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The file that holds the range that the kubelet gave to this node.
const POD_CIDR: &str = "pod-cidr";

impl Network {
    /// Opens the records under `config.state`. Nothing in the kernel is touched.
    pub fn open(config: NetworkConfig) -> Result<Network> {
        let failed = |errno: Errno| {
            Error::with_source(
                ErrorKind::Internal,
                format!("cannot open the network records in {}", config.state.display()),
                errno,
            )
        };
        let folder = crate::files::directory(&config.state, 0o700).map_err(failed)?;
        // The kubelet tells a node's range once and not again when only the daemon starts anew.
        let told = crate::files::read(&folder, POD_CIDR, 4096).map_err(failed)?;
        let told = told.and_then(|text| String::from_utf8(text).ok());
        let default = match told.map(|cidr| Self::default_list(&config.state, &cidr)) {
            Some(Ok(list)) => list,
            _ => Self::default_list(&config.state, &config.subnet)?,
        };
        let (attachments, records) = Attachments::open(&config.state).map_err(failed)?;
        let nat = NatTables::open(&config.state).map_err(failed)?;
        for record in &records {
            nat.remember(&record.table, &record.rules);
            nat.remember(&record.table, &record.ports.rules);
        }
        let inner = Inner {
            attachments,
            nat,
            background: Background::new(),
            bridge: default_network::bridge_name(&config.state),
            gate: RwLock::new(()),
            folder: Folder::new(config.conf_dir.clone(), config.max_conf),
            default: RwLock::new(Arc::new(default)),
            turns: Mutex::default(),
            config,
        };
        Ok(Network { inner: Arc::new(inner) })
    }

    fn default_list(state: &std::path::Path, subnet: &str) -> Result<NetworkList> {
        let list =
            default_network::subnets(subnet).and_then(|subnets| default_network::list(state, &subnets));
        let checked = list.and_then(|list| {
            Builtin::choose(&list, &list.plugins[0], &PodNetwork::default())?;
            Ok(list)
        });
        checked
            .map_err(|reason| Error::invalid(format!("the pod subnet {subnet:?} cannot be used: {reason}")))
    }

    /// Whether pods can be attached. Looks at the configuration folder anew, which costs some
    /// microseconds, and reads a file only when something changed.
    pub fn status(&self) -> NetworkStatus {
        let not_ready = |message: String| NetworkStatus {
            ready: false,
            reason: "NetworkPluginNotReady".to_owned(),
            message,
        };
        let ready = NetworkStatus { ready: true, reason: String::new(), message: String::new() };
        match self.inner.network_in_use() {
            Err(error) => not_ready(error.message().to_owned()),
            Ok((_, true)) => ready,
            Ok((list, false)) => match self.inner.missing(&list) {
                None => ready,
                Some(error) => not_ready(format!("network {:?}: {error}", list.name)),
            },
        }
    }

    /// Attaches a pod: ADD of every plugin, and loopback. On an error everything has been undone,
    /// or is recorded so that a detach undoes it. A pod that is attached already gets what it has.
    ///
    /// The work goes on to its end when the caller gives up; a later call for the pod waits for it.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment> {
        let (inner, pod) = (self.inner.clone(), pod.clone());
        to_the_end(async move {
            let _turn = inner.turn(&pod.id).await;
            inner.attach(pod).await
        })
        .await
    }

    /// Detaches a pod: DEL of every plugin, with the configuration that ADD had. What is gone
    /// already is fine. When it returns, the pod's address and ports are free.
    pub async fn detach(&self, pod: &PodNetwork) -> Result<()> {
        let (inner, pod) = (self.inner.clone(), pod.clone());
        to_the_end(async move {
            let _turn = inner.turn(&pod.id).await;
            inner.detach(pod).await
        })
        .await
    }

    /// Sets the default network's subnets, one or several separated by commas, for pods that are
    /// attached from now on.
    pub fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        if cidr.is_empty() {
            return Ok(()); // the kubelet says so when it has none
        }
        let list = Self::default_list(&self.inner.config.state, cidr)?;
        let written = crate::files::directory(&self.inner.config.state, 0o700)
            .and_then(|folder| crate::files::replace(&folder, POD_CIDR, cidr.as_bytes(), 0o600));
        written
            .map_err(|e| Error::with_source(ErrorKind::Internal, "cannot keep the node's pod range", e))?;
        *self.inner.default.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        Ok(())
    }

    /// Detaches every recorded pod that is not in `live`, and takes back what no record explains.
    /// For the start of the daemon. Goes on after a failure, and reports the first.
    pub async fn sweep(&self, live: &HashSet<String>) -> Result<()> {
        let mut dead: Vec<String> = self.inner.attachments.ids().difference(live).cloned().collect();
        let mut first = None;
        let mut running = tokio::task::JoinSet::new();
        while !(dead.is_empty() && running.is_empty()) {
            while running.len() < SWEEPERS
                && let Some(id) = dead.pop()
            {
                let network = self.clone();
                running
                    .spawn(async move { network.detach(&PodNetwork { id, ..PodNetwork::default() }).await });
            }
            if let Some(Ok(Err(error))) = running.join_next().await {
                tracing::warn!(error = %error.chain(), "a pod of the past cannot be detached");
                first.get_or_insert(error);
            }
        }
        let inner = self.inner.clone();
        let rest = blocking(move || inner.sweep_default()).await;
        self.settled().await;
        match first {
            Some(error) => Err(error),
            None => rest,
        }
    }

    /// Waits until what was left to the background (see [`Network::detach`]) is done. For the
    /// end of the daemon, and for who wants to see nothing left.
    pub async fn settled(&self) {
        self.inner.background.settled().await;
    }
}

impl Inner {
    /// The network that pods are attached to now, and whether it is our own.
    pub(crate) fn network_in_use(&self) -> Result<(Arc<NetworkList>, bool)> {
        let loaded = self.folder.load();
        if let Some((_, list)) = &loaded.network {
            return Ok((list.clone(), false));
        }
        if self.config.default_network {
            return Ok((self.default.read().unwrap_or_else(PoisonError::into_inner).clone(), true));
        }
        // The first words are those that containerd says, which people search for.
        let folder = self.folder.path().display();
        let problems = loaded.explain();
        let why = if problems.is_empty() { String::new() } else { format!(" ({problems})") };
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("cni plugin not initialized: no valid network configuration in {folder}{why}"),
        ))
    }

    /// The first plugin of a list that nobody here can run.
    fn missing(&self, list: &NetworkList) -> Option<exec::PluginError> {
        let steps = self.steps(list, &PodNetwork::default(), false);
        list.plugins.iter().zip(steps).filter(|(_, step)| matches!(step, Step::Binary)).find_map(
            |(plugin, _)| {
                let ipam = plugin.options.get("ipam").and_then(|i| i.get("type")).and_then(|t| t.as_str());
                let kinds = [Some(plugin.kind.as_str()), ipam.filter(|kind| !kind.is_empty())];
                kinds.into_iter().flatten().find_map(|kind| exec::find(kind, &self.config.bin_dirs).err())
            },
        )
    }

    /// The nf_tables table of a network: of this daemon's, whatever others there are on the node.
    pub(crate) fn table(&self, network: &str) -> String {
        let hash = crate::plugins::fnv(&[&self.config.state.to_string_lossy(), network]);
        let name: String =
            network.chars().take(64).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        format!("corten_{name}_{:08x}", hash & 0xffff_ffff)
    }

    /// Waits until no other work for the pod is under way.
    pub(crate) async fn turn(&self, id: &str) -> OwnedMutexGuard<()> {
        let queue = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Queues that nobody stands in.
            turns.retain(|_, queue| Arc::strong_count(queue) > 1);
            turns.entry(id.to_owned()).or_default().clone()
        };
        queue.lock_owned().await
    }

    /// Addresses of our own network without a record, and networks without a pod.
    fn sweep_default(&self) -> Result<()> {
        let default = self.default.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Ok(Builtin::Bridge(bridge)) =
            Builtin::choose(&default, &default.plugins[0], &PodNetwork::default())
            && let Some(ipam) = &bridge.ipam
        {
            let freed = ipam.retain(|id| self.attachments.contains(id)).map_err(|error| {
                Error::with_source(error.kind(), "cannot free addresses that no pod has", error)
            })?;
            if freed > 0 {
                tracing::info!(freed, "addresses without a pod are free again");
            }
        }
        for table in self.nat.made_tables() {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if !self.attachments.any_with_table(&table) {
                self.nat.remove_table(&table).map_err(|error| {
                    Error::with_source(error.kind(), format!("cannot remove the unused table {table}"), error)
                })?;
            }
        }
        self.remove_if_empty(&default.name, &self.table(&default.name), true)
    }
}

/// Runs blocking work where it does not hold up others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::with_source(ErrorKind::Internal, "a network task ended early", error)),
    }
}

/// Runs work to its end even when the caller is gone: half an attachment is worse than a whole one.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::with_source(ErrorKind::Internal, "a network task ended early", error)),
    }
}

/// An error of the record's file.
pub(crate) fn recording(pod: &PodNetwork) -> impl FnOnce(Errno) -> Error {
    let pod = pod.display();
    move |errno| {
        Error::with_source(ErrorKind::Internal, format!("cannot keep the network record of pod {pod}"), errno)
    }
}
