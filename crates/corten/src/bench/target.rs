//! One runtime that is measured: its client, who serves it, and what was measured so far.

use super::Error;
use super::memory::Memory;
use super::samples::Samples;
use runtime_manager::Client;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a runtime may take to answer the first call.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is timed, in the order of the report: the key in JSON, and the words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// RunPodSandbox.
    RunPod,
    /// CreateContainer.
    Create,
    /// StartContainer.
    Start,
    /// The three above together.
    PodStart,
    /// The same for each of many pods that start at once.
    PodStartAtOnce,
    /// From the first call until all of these run.
    AllAtOnce,
    /// ExecSync of `true`.
    Exec,
    /// StopPodSandbox.
    StopPod,
    /// RemovePodSandbox.
    RemovePod,
    /// ListPodSandbox and ListContainers with many pods.
    List,
    /// PullImage of an image that was removed.
    Pull,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 11] = [
        Measure::RunPod,
        Measure::Create,
        Measure::Start,
        Measure::PodStart,
        Measure::PodStartAtOnce,
        Measure::AllAtOnce,
        Measure::Exec,
        Measure::StopPod,
        Measure::RemovePod,
        Measure::List,
        Measure::Pull,
    ];

    /// For programs.
    pub fn key(self) -> &'static str {
        self.words().0
    }

    /// For people.
    pub fn title(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Measure::RunPod => ("run_pod_sandbox", "RunPodSandbox"),
            Measure::Create => ("create_container", "CreateContainer"),
            Measure::Start => ("start_container", "StartContainer"),
            Measure::PodStart => ("pod_start", "pod start, the three together"),
            Measure::PodStartAtOnce => ("pod_start_at_once", "pod start, many at once"),
            Measure::AllAtOnce => ("all_at_once", "until the last of these runs"),
            Measure::Exec => ("exec_sync", "ExecSync of true"),
            Measure::StopPod => ("stop_pod_sandbox", "StopPodSandbox"),
            Measure::RemovePod => ("remove_pod_sandbox", "RemovePodSandbox"),
            Measure::List => ("list", "ListPodSandbox + ListContainers"),
            Measure::Pull => ("pull_image", "PullImage"),
        }
    }
}

/// One runtime.
#[derive(Debug)]
pub struct Target {
    /// Its socket.
    pub path: PathBuf,
    /// Name and version, as it says.
    pub name: String,
    /// Both CRI services.
    pub client: Client,
    /// The process that serves the socket.
    pub daemon: Option<i32>,
    /// Times.
    pub samples: BTreeMap<Measure, Samples>,
    /// Memory, without pods and with some.
    pub memory: Option<Memory>,
}

impl Target {
    /// Connects and asks for the name. `unix://` before the path is accepted, as crictl's users write it.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        let path = path.strip_prefix("unix:").map_or(path.to_owned(), |rest| Path::new("/").join(rest));
        let failed = |source| Error::Call { endpoint: path.display().to_string(), phase: "connect", source };
        let client = Client::connect(&path, PATIENCE).await.map_err(failed)?;
        let version = client.version().await.map_err(failed)?;
        let name = format!("{} {}", version.runtime_name, version.runtime_version);
        let daemon = peer(&path);
        Ok(Self { path, name, client, daemon, samples: BTreeMap::new(), memory: None })
    }

    /// Remembers one time.
    pub fn add(&mut self, measure: Measure, time: Duration) {
        self.samples.entry(measure).or_default().add(time);
    }

    /// Gives a failed call its place.
    pub fn failed(&self, phase: &'static str) -> impl Fn(runtime_manager::Error) -> Error + use<> {
        let endpoint = self.path.display().to_string();
        move |source| Error::Call { endpoint: endpoint.clone(), phase, source }
    }
}

/// Who listens (SO_PEERCRED, unix(7)): the process that called listen(2). With socket activation that is
/// the service manager, whose memory is then not the daemon's; the report shows the process id.
fn peer(path: &Path) -> Option<i32> {
    let stream = UnixStream::connect(path).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}
