//! A CRI server for tests: it keeps pods and containers in memory, plays exits from a script, and fails
//! the calls that it is told to fail. It runs nothing.

use cri_api::v1::*;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};

/// What one attempt of a container does.
#[derive(Debug, Clone, Copy)]
pub enum Play {
    /// Runs until it is stopped.
    Forever,
    /// Ends with this code as soon as somebody looks twice.
    Exit(i32),
}

#[derive(Debug, Default)]
pub struct State {
    /// Calls in order, with their object's name.
    pub calls: Vec<String>,
    pub pods: BTreeMap<String, PodSandboxConfig>,
    pub ready: bool,
    pub containers: BTreeMap<String, (ContainerConfig, ContainerState, i32, u32)>,
    pub script: BTreeMap<String, VecDeque<Play>>,
    /// Calls that fail, as they are written in `calls`.
    pub fail: Vec<String>,
    pub images: Vec<String>,
    pub configs: Vec<ContainerConfig>,
    next: u32,
}

impl State {
    fn called(&mut self, call: String) -> Result<(), Status> {
        let fails = self.fail.contains(&call);
        self.calls.push(call);
        if fails { Err(Status::internal("told to fail")) } else { Ok(()) }
    }

    fn id(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}{}", self.next)
    }

    /// The container's one line of output, in the CRI's log format.
    fn log(&self, id: &str, name: &str) {
        let folder = self.pods.values().next().map(|pod| pod.log_directory.clone()).unwrap_or_default();
        let path = self.containers.get(id).map(|c| c.0.log_path.clone()).unwrap_or_default();
        let line = format!("2026-01-31T12:00:00.000000000Z stdout F hello from {name}\n");
        std::fs::write(Path::new(&folder).join(path), line).unwrap();
    }

    fn name(&self, id: &str) -> String {
        let config = self.containers.get(id).map(|c| &c.0);
        config.and_then(|c| c.metadata.as_ref()).map(|m| m.name.clone()).unwrap_or_else(|| id.into())
    }
}

#[derive(Clone)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
}

impl Fake {
    /// Serves on a socket in `dir` until the returned task is aborted.
    pub fn serve(dir: &Path) -> (Self, PathBuf, tokio::task::JoinHandle<()>) {
        let fake = Self { state: Arc::new(Mutex::new(State { ready: true, ..Default::default() })) };
        let socket = dir.join("cri.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(Runtime(fake.clone()))
            .add_service(Images(fake.clone()))
            .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener));
        (fake, socket, tokio::spawn(async move { server.await.unwrap() }))
    }

    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    async fn dispatch(self, request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let state = self.state;
        macro_rules! answer {
            ($request:ty, $work:expr) => {{
                let work = $work;
                let service = tower::service_fn(move |request: Request<$request>| {
                    let answer = work(request.into_inner(), &mut state.lock().unwrap());
                    std::future::ready(answer.map(Response::new))
                });
                let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
                Ok(grpc.unary(service, request).await)
            }};
        }
        match method.as_str() {
            "ImageStatus" => answer!(ImageStatusRequest, |r: ImageStatusRequest, s: &mut State| {
                let name = r.image.unwrap_or_default().image;
                let image =
                    s.images.contains(&name).then(|| Image { id: name.clone(), ..Default::default() });
                Ok(ImageStatusResponse { image, ..Default::default() })
            }),
            "PullImage" => answer!(PullImageRequest, |r: PullImageRequest, s: &mut State| {
                let name = r.image.unwrap_or_default().image;
                s.called(format!("pull {name}"))?;
                s.images.push(name.clone());
                Ok(PullImageResponse { image_ref: name })
            }),
            "RunPodSandbox" => answer!(RunPodSandboxRequest, |r: RunPodSandboxRequest, s: &mut State| {
                s.called("run pod".into())?;
                let id = s.id("pod");
                s.pods.insert(id.clone(), r.config.unwrap_or_default());
                Ok(RunPodSandboxResponse { pod_sandbox_id: id })
            }),
            "PodSandboxStatus" => {
                answer!(PodSandboxStatusRequest, |r: PodSandboxStatusRequest, s: &mut State| {
                    if !s.pods.contains_key(&r.pod_sandbox_id) {
                        return Err(Status::not_found("no such pod"));
                    }
                    let state = if s.ready {
                        PodSandboxState::SandboxReady
                    } else {
                        PodSandboxState::SandboxNotready
                    };
                    let network = PodSandboxNetworkStatus { ip: "10.0.0.9".into(), additional_ips: vec![] };
                    let status = PodSandboxStatus {
                        id: r.pod_sandbox_id,
                        state: state as i32,
                        network: Some(network),
                        ..Default::default()
                    };
                    Ok(PodSandboxStatusResponse { status: Some(status), ..Default::default() })
                })
            }
            "ListPodSandbox" => answer!(ListPodSandboxRequest, |r: ListPodSandboxRequest, s: &mut State| {
                let wanted = r.filter.unwrap_or_default().label_selector;
                let matches = |c: &PodSandboxConfig| wanted.iter().all(|(k, v)| c.labels.get(k) == Some(v));
                let items = s.pods.iter().filter(|(_, c)| matches(c));
                let items =
                    items.map(|(id, _)| PodSandbox { id: id.clone(), ..Default::default() }).collect();
                Ok(ListPodSandboxResponse { items })
            }),
            "StopPodSandbox" => answer!(StopPodSandboxRequest, |_: StopPodSandboxRequest, s: &mut State| {
                s.called("stop pod".into())?;
                for container in s.containers.values_mut() {
                    container.1 = ContainerState::ContainerExited;
                }
                Ok(StopPodSandboxResponse {})
            }),
            "RemovePodSandbox" => {
                answer!(RemovePodSandboxRequest, |r: RemovePodSandboxRequest, s: &mut State| {
                    s.called("remove pod".into())?;
                    s.pods.remove(&r.pod_sandbox_id);
                    s.containers.clear();
                    Ok(RemovePodSandboxResponse {})
                })
            }
            "CreateContainer" => {
                answer!(CreateContainerRequest, |r: CreateContainerRequest, s: &mut State| {
                    let config = r.config.unwrap_or_default();
                    s.called(format!("create {}", config.metadata.clone().unwrap_or_default().name))?;
                    let id = s.id("c");
                    s.configs.push(config.clone());
                    s.containers.insert(id.clone(), (config, ContainerState::ContainerCreated, 0, 0));
                    Ok(CreateContainerResponse { container_id: id })
                })
            }
            "StartContainer" => answer!(StartContainerRequest, |r: StartContainerRequest, s: &mut State| {
                let name = s.name(&r.container_id);
                s.called(format!("start {name}"))?;
                s.log(&r.container_id, &name);
                s.containers.get_mut(&r.container_id).unwrap().1 = ContainerState::ContainerRunning;
                Ok(StartContainerResponse {})
            }),
            "ContainerStatus" => {
                answer!(ContainerStatusRequest, |r: ContainerStatusRequest, s: &mut State| {
                    let name = s.name(&r.container_id);
                    let play = s.script.get_mut(&name);
                    let Some(found) = s.containers.get_mut(&r.container_id) else {
                        return Err(Status::not_found("no such container"));
                    };
                    found.3 += 1;
                    if let Some(queue) = play
                        && found.1 == ContainerState::ContainerRunning
                        && found.3 >= 2
                        && let Some(Play::Exit(code)) = queue.front().copied()
                    {
                        queue.pop_front();
                        found.1 = ContainerState::ContainerExited;
                        found.2 = code;
                    }
                    let status = ContainerStatus {
                        id: r.container_id,
                        state: found.1 as i32,
                        exit_code: found.2,
                        ..Default::default()
                    };
                    Ok(ContainerStatusResponse { status: Some(status), ..Default::default() })
                })
            }
            "StopContainer" => answer!(StopContainerRequest, |r: StopContainerRequest, s: &mut State| {
                let name = s.name(&r.container_id);
                s.called(format!("stop {name} {}", r.timeout))?;
                if let Some(found) = s.containers.get_mut(&r.container_id) {
                    found.1 = ContainerState::ContainerExited;
                }
                Ok(StopContainerResponse {})
            }),
            "RemoveContainer" => {
                answer!(RemoveContainerRequest, |r: RemoveContainerRequest, s: &mut State| {
                    let name = s.name(&r.container_id);
                    s.called(format!("remove {name}"))?;
                    s.containers.remove(&r.container_id);
                    Ok(RemoveContainerResponse {})
                })
            }
            "ReopenContainerLog" => {
                answer!(ReopenContainerLogRequest, |r: ReopenContainerLogRequest, s: &mut State| {
                    let name = s.name(&r.container_id);
                    s.called(format!("reopen {name}"))?;
                    s.log(&r.container_id, &name);
                    Ok(ReopenContainerLogResponse {})
                })
            }
            "Version" => answer!(VersionRequest, |_: VersionRequest, _: &mut State| {
                Ok(VersionResponse {
                    version: "0.1.0".into(),
                    runtime_name: "fake".into(),
                    runtime_version: "1".into(),
                    runtime_api_version: "v1".into(),
                })
            }),
            "ListContainers" => answer!(ListContainersRequest, |_: ListContainersRequest, s: &mut State| {
                let containers = s.containers.iter().map(|(id, (config, state, ..))| Container {
                    id: id.clone(),
                    metadata: config.metadata.clone(),
                    image: config.image.clone(),
                    state: *state as i32,
                    labels: config.labels.clone(),
                    ..Default::default()
                });
                Ok(ListContainersResponse { containers: containers.collect() })
            }),
            "ExecSync" => answer!(ExecSyncRequest, |r: ExecSyncRequest, _: &mut State| {
                let stdout = format!("{}\n", r.cmd.join(" ")).into();
                Ok(ExecSyncResponse { stdout, stderr: "oops\n".into(), exit_code: 7 })
            }),
            _ => Ok(Status::unimplemented(method).into_http()),
        }
    }
}

#[derive(Clone)]
struct Runtime(Fake);
#[derive(Clone)]
struct Images(Fake);

impl NamedService for Runtime {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}
impl NamedService for Images {
    const NAME: &'static str = "runtime.v1.ImageService";
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

macro_rules! service {
    ($($name:ident),*) => {$(
        impl tower::Service<http::Request<Body>> for $name {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Answer;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }
            fn call(&mut self, request: http::Request<Body>) -> Answer {
                Box::pin(self.0.clone().dispatch(request))
            }
        }
    )*};
}
service!(Runtime, Images);
