//! Running one pod: pull, sandbox, init containers, containers, watching, restarts, stop, removal.
//!
//! ```text
//!   start ──▶ images ──▶ sandbox ──▶ init containers ──▶ containers ──▶ Running
//!     │ any failure or a request to stop: everything made is taken back        │ watch
//!     ▼                                                                        ▼
//!   error                          exited ─▶ back-off ─▶ next attempt     Outcome ─▶ stop ─▶ remove
//! ```
//!
//! One caller owns one [`Running`]. Output is not followed here: [`Event::Started`] names the log file.

mod image;
mod rotate;
mod start;
mod stop;
mod watch;
mod workdir;

use crate::client::Client;
use crate::translate::volumes::Volumes;
use crate::translate::{Identity, Node, Role, dns};
use cri_api::v1::PodSandboxConfig;
use k8s_openapi::api::core::v1::Pod;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch as signal};
use tonic::transport::Channel;

/// Where this manager keeps things and what it tells containers about the machine.
#[derive(Debug, Clone)]
pub struct Options {
    /// One folder per pod: volumes, hosts file, termination messages.
    pub work_dir: PathBuf,
    /// One folder per pod, as the kubelet's /var/log/pods.
    pub log_dir: PathBuf,
    /// Runtime handler of pods that name none with runtimeClassName.
    pub runtime_handler: String,
    /// Facts about the machine.
    pub node: Node,
    /// Names the endpoint in records, so that managers of several daemons do not sweep each other's pods.
    pub endpoint: String,
    /// First delay before a container is started again; doubles up to 300 s (kubelet: 10 s).
    pub backoff: Duration,
    /// How often the state of containers is asked for where the runtime sends no events.
    pub poll: Duration,
    /// A log that is larger is rotated, in bytes (kubelet `containerLogMaxSize`: 10 MiB).
    pub max_log: u64,
}

impl Options {
    /// The defaults for this machine, under `work_dir`.
    pub fn for_this_node(work_dir: &Path, endpoint: &str) -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            work_dir: work_dir.join("volumes"),
            log_dir: work_dir.join("logs"),
            runtime_handler: String::new(),
            node: Node {
                name,
                ip: String::new(),
                memory: rustix::system::sysinfo().totalram as u64
                    * u64::from(rustix::system::sysinfo().mem_unit.max(1)),
                seccomp_dir: PathBuf::from("/var/lib/kubelet/seccomp"),
                dns: dns::Resolver::of_node(),
            },
            endpoint: endpoint.into(),
            backoff: Duration::from_secs(10),
            poll: Duration::from_millis(200),
            max_log: 10 << 20,
        }
    }
}

/// How far a request to stop goes. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Keep going.
    No,
    /// Stop with the pod's grace period.
    Graceful,
    /// Kill at once.
    Now,
}

/// One step of the start and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// When it began, from the beginning of the start.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
}

/// What happens while a pod starts and runs.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step of the start is done.
    Step(Step),
    /// An image is being fetched.
    Pulling {
        /// As the manifest names it.
        image: String,
    },
    /// An attempt of a container runs; its output is in `log_path`.
    Started {
        /// Container name.
        container: String,
        /// What it is in the pod.
        role: Role,
        /// 0 for the first.
        attempt: u32,
        /// Container id.
        id: String,
        /// Its log file.
        log_path: PathBuf,
    },
    /// An attempt of a container ended.
    Exited {
        /// Container name.
        container: String,
        /// Which attempt.
        attempt: u32,
        /// Exit code.
        code: i32,
        /// The runtime's word, such as OOMKilled.
        reason: String,
        /// What it left at its terminationMessagePath, at most 4 KiB.
        message: String,
    },
    /// A container waits before its next attempt.
    BackOff {
        /// Container name.
        container: String,
        /// How long.
        delay: Duration,
    },
    /// Something the user should know; the run goes on.
    Warning(String),
}

/// The caller's end of a run: where events go, and where the request to stop comes from.
#[derive(Debug, Clone)]
pub struct Control {
    /// Receives events; a closed receiver is fine.
    pub events: Option<mpsc::UnboundedSender<Event>>,
    /// The request to stop. A closed sender means that nobody will ask.
    pub stop: signal::Receiver<Stop>,
}

impl Control {
    /// Nobody listens and nobody stops.
    pub fn none() -> Self {
        Self { events: None, stop: signal::channel(Stop::No).1 }
    }

    fn emit(&self, event: Event) {
        if let Some(events) = &self.events {
            // Nobody listening any more is no reason to stop running the pod.
            let _ = events.send(event);
        }
    }

    fn asked(&self) -> Stop {
        *self.stop.borrow()
    }

    /// Returns when a stop of at least `level` is asked for.
    async fn stopped(&self, level: Stop) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|asked| *asked >= level).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One attempt of one container.
#[derive(Debug, Clone)]
pub struct RunningContainer {
    /// Its name in the manifest.
    pub name: String,
    /// What it is in the pod.
    pub role: Role,
    /// Id of the latest attempt; empty before the first.
    pub id: String,
    /// Number of the latest attempt.
    pub attempt: u32,
    /// Log of the latest attempt.
    pub log_path: PathBuf,
    /// Exit code of the latest attempt, once it ended.
    pub exit: Option<i32>,
    started: Option<Instant>,
    delay: Duration,
    due: Option<Instant>,
}

/// A pod that this manager started. Stop and remove it with the manager; dropping it leaves it running.
#[derive(Debug)]
pub struct Running {
    /// Sandbox id; empty until there is one.
    pub pod_id: String,
    /// Name, namespace, uid.
    pub identity: Identity,
    /// Addresses, primary first; empty on the machine's network.
    pub ips: Vec<String>,
    /// Init containers, then the others, in the order of the manifest.
    pub containers: Vec<RunningContainer>,
    /// Where the time of the start went.
    pub steps: Vec<Step>,
    /// The pod's log folder.
    pub log_dir: PathBuf,
    pod: Pod,
    sandbox: PodSandboxConfig,
    volumes: Volumes,
    images: image::Images,
    work: workdir::Workdir,
    rotate_after: Option<Instant>,
    began: Instant,
}

impl Running {
    /// Runs `work` and keeps how long it took.
    async fn step<T>(
        &mut self,
        control: &Control,
        name: impl Into<String>,
        work: impl Future<Output = T>,
    ) -> T {
        let begin = Instant::now();
        let outcome = work.await;
        self.note(control, name, begin);
        outcome
    }

    fn note(&mut self, control: &Control, name: impl Into<String>, begin: Instant) {
        let step = Step { name: name.into(), at: begin.duration_since(self.began), took: begin.elapsed() };
        control.emit(Event::Step(step.clone()));
        self.steps.push(step);
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every container ended and none is due again. The code is 0, or that of the first that failed.
    Finished {
        /// Exit code for the whole run.
        code: i32,
    },
    /// The caller asked to stop.
    Stopped,
    /// The sandbox is gone or not ready, so that nothing can be restarted in it.
    SandboxLost,
}

/// Runs pods on one CRI endpoint.
#[derive(Debug, Clone)]
pub struct Manager {
    client: Client,
    options: Options,
}

impl Manager {
    /// A manager over a channel that exists.
    pub fn new(channel: Channel, options: Options) -> Self {
        Self { client: Client::new(channel), options }
    }

    /// A manager for the endpoint at a Unix socket.
    pub async fn connect(path: &Path, timeout: Duration, options: Options) -> crate::Result<Self> {
        Ok(Self { client: Client::connect(path, timeout).await?, options })
    }

    /// The client, for calls that this manager does not make.
    pub fn client(&self) -> &Client {
        &self.client
    }
}
