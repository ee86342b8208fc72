//! What the engine is made of. The parts are wired by the program and handed in.

use crate::flight::Flights;
use crate::registry::Registry;
use cgroups::Cgroups;
use images::Images;
use monitor::ShimProgram;
use network::Network;
use snapshots::Snapshotter;
use spec::NodeFacts;
use std::path::PathBuf;
use std::sync::Arc;
use store::record::Folder;
use types::Result;

/// Where the engine keeps its things.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// State that ends with the machine's run: `pods/`.
    pub state: PathBuf,
    /// The cgroup that holds pods whose caller names none.
    pub cgroup_root: String,
    /// The folder of seccomp profiles that `Localhost` names are relative to.
    pub seccomp_root: PathBuf,
    /// Where volumes that an image asks for are kept: below the writable layers, gone with the container.
    pub volumes: PathBuf,
    /// The most bytes that the writable layer of one container takes.
    pub writable_quota: Option<u64>,
}

/// The subsystems.
pub struct Parts {
    /// Images.
    pub images: Images,
    /// Layers and writable layers.
    pub snapshotter: Arc<dyn Snapshotter>,
    /// Networks.
    pub network: Network,
    /// cgroups.
    pub cgroups: Cgroups,
    /// The shim.
    pub shim: ShimProgram,
}

/// Everything that operations share.
pub(crate) struct Shared {
    pub config: EngineConfig,
    pub parts: Parts,
    pub facts: NodeFacts,
    pub registry: Registry,
    pub flights: Flights,
}

impl Shared {
    pub fn new(config: EngineConfig, parts: Parts) -> Result<Self> {
        Folder::open(&config.state.join("pods"))?;
        let facts = crate::facts::probe(&parts.cgroups);
        Ok(Self { config, parts, facts, registry: Registry::default(), flights: Flights::default() })
    }

    pub fn pod_path(&self, id: &types::PodId) -> PathBuf {
        self.config.state.join("pods").join(id.as_str())
    }
}

/// Runs what blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(types::Error::with_source(types::ErrorKind::Internal, "a blocking step broke off", error))
        }
    }
}
