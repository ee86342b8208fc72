//! A CRI client with time limits: connects, calls, and turns a status into a sentence. It retries nothing.

use crate::{Error, Result};
use cri_api::v1::{
    image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient, *,
};
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint, Uri};

/// Largest answer that is accepted. crictl and the kubelet use 16 MiB.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Limit of a call that only looks.
const LOOK: Duration = Duration::from_secs(30);
/// Limit of a call that changes something; the kubelet's default (`runtimeRequestTimeout`).
const CHANGE: Duration = Duration::from_secs(120);
/// The kubelet gives RunPodSandbox twice as long, because CNI plugins can be slow.
const SANDBOX: Duration = Duration::from_secs(240);

/// Both services of one endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
}

impl Client {
    /// A client over a channel that exists, for example to an engine in this process.
    pub fn new(channel: Channel) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        }
    }

    /// Connects to the Unix socket at `path`.
    pub async fn connect(path: &Path, timeout: Duration) -> Result<Self> {
        Ok(Self::new(channel(path, timeout).await?))
    }

    /// `Version`: also the cheapest way to see that a runtime answers.
    pub async fn version(&self) -> Result<VersionResponse> {
        let mut api = self.runtime.clone();
        // The kubelet asks with this string, and runtimes answer it.
        limited(LOOK, "ask for the version", api.version(VersionRequest { version: "0.1.0".into() })).await
    }

    /// `ImageStatus`; `None` when the image is not there.
    pub async fn image_status(&self, image: &ImageSpec) -> Result<Option<Image>> {
        let mut api = self.images.clone();
        let request = ImageStatusRequest { image: Some(image.clone()), verbose: false };
        let what = format!("look for image {}", image.image);
        Ok(limited(LOOK, what, api.image_status(request)).await?.image)
    }

    /// `PullImage`. No time limit: large images on slow lines are normal. Dropping the future ends it.
    pub async fn pull_image(&self, image: ImageSpec, sandbox: Option<PodSandboxConfig>) -> Result<String> {
        let mut api = self.images.clone();
        let what = format!("pull image {}", image.image);
        let request = PullImageRequest { image: Some(image), auth: None, sandbox_config: sandbox };
        match api.pull_image(request).await {
            Ok(answer) => Ok(answer.into_inner().image_ref),
            Err(status) => Err(Error::call(what, &status)),
        }
    }

    /// `RunPodSandbox`.
    pub async fn run_pod(&self, config: PodSandboxConfig, handler: &str) -> Result<String> {
        let mut api = self.runtime.clone();
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: handler.into() };
        Ok(limited(SANDBOX, "start the pod sandbox", api.run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    /// `PodSandboxStatus`.
    pub async fn pod_status(&self, id: &str) -> Result<PodSandboxStatus> {
        let mut api = self.runtime.clone();
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        limited(LOOK, format!("look at pod {id}"), api.pod_sandbox_status(request)).await?.status.ok_or_else(
            || Error::Call {
                call: format!("look at pod {id}"),
                code: crate::error::Code(tonic::Code::Internal),
                message: "the runtime answered without a status".into(),
            },
        )
    }

    /// Sandboxes that carry the label, ready or not.
    pub async fn pods_with_label(&self, key: &str, value: &str) -> Result<Vec<PodSandbox>> {
        let mut api = self.runtime.clone();
        let filter = PodSandboxFilter {
            label_selector: [(key.to_owned(), value.to_owned())].into(),
            ..Default::default()
        };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        Ok(limited(LOOK, "list pods", api.list_pod_sandbox(request)).await?.items)
    }

    /// `StopPodSandbox`; of what is gone: fine.
    pub async fn stop_pod(&self, id: &str) -> Result<()> {
        let mut api = self.runtime.clone();
        let request = StopPodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(limited(CHANGE, format!("stop pod {id}"), api.stop_pod_sandbox(request)).await)
    }

    /// `RemovePodSandbox`, which removes its containers too; of what is gone: fine.
    pub async fn remove_pod(&self, id: &str) -> Result<()> {
        let mut api = self.runtime.clone();
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(limited(CHANGE, format!("remove pod {id}"), api.remove_pod_sandbox(request)).await)
    }

    /// `CreateContainer`.
    pub async fn create(
        &self,
        pod: &str,
        config: ContainerConfig,
        sandbox: &PodSandboxConfig,
    ) -> Result<String> {
        let mut api = self.runtime.clone();
        let name = config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let what = format!("create container {name:?}");
        Ok(limited(CHANGE, what, api.create_container(request)).await?.container_id)
    }

    /// `StartContainer`.
    pub async fn start(&self, id: &str, name: &str) -> Result<()> {
        let mut api = self.runtime.clone();
        let request = StartContainerRequest { container_id: id.into() };
        limited(CHANGE, format!("start container {name:?}"), api.start_container(request)).await.map(drop)
    }

    /// `ContainerStatus`.
    pub async fn status(&self, id: &str) -> Result<ContainerStatus> {
        let mut api = self.runtime.clone();
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        let what = format!("look at container {id}");
        limited(LOOK, what.clone(), api.container_status(request)).await?.status.ok_or_else(|| Error::Call {
            call: what,
            code: crate::error::Code(tonic::Code::Internal),
            message: "the runtime answered without a status".into(),
        })
    }

    /// `StopContainer`: TERM, then KILL after `grace`. Waits as long as that takes.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let mut api = self.runtime.clone();
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = StopContainerRequest { container_id: id.into(), timeout: seconds };
        let limit = CHANGE.saturating_add(grace);
        gone_is_fine(limited(limit, format!("stop container {id}"), api.stop_container(request)).await)
    }

    /// `ReopenContainerLog`: the second half of a rotation.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let mut api = self.runtime.clone();
        let request = ReopenContainerLogRequest { container_id: id.into() };
        limited(LOOK, format!("reopen the log of {id}"), api.reopen_container_log(request)).await.map(drop)
    }

    /// `RemoveContainer`; of what is gone: fine.
    pub async fn remove(&self, id: &str) -> Result<()> {
        let mut api = self.runtime.clone();
        let request = RemoveContainerRequest { container_id: id.into() };
        gone_is_fine(limited(CHANGE, format!("remove container {id}"), api.remove_container(request)).await)
    }
}

/// Opens a channel to the Unix socket at `path`; fails when nothing listens there.
pub async fn channel(path: &Path, timeout: Duration) -> Result<Channel> {
    let socket = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    // The address is never used: the connector above always goes to the socket.
    let endpoint = Endpoint::from_static("http://localhost");
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Connect {
        endpoint: path.display().to_string(),
        source,
    };
    match tokio::time::timeout(timeout, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(failed(innermost(&error))),
        Err(_) => Err(failed(format!("no answer within {timeout:?}").into())),
    }
}

/// The transport wraps the one useful sentence, the system's, twice.
fn innermost(error: &tonic::transport::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string().into()
}

/// Waits for a call no longer than `limit`.
async fn limited<T>(
    limit: Duration,
    what: impl Into<String>,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let outcome = tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(tonic::Status::deadline_exceeded(format!("the runtime did not answer within {limit:?}")))
    });
    outcome.map(tonic::Response::into_inner).map_err(|status| Error::call(what, &status))
}

fn gone_is_fine<T>(outcome: Result<T>) -> Result<()> {
    match outcome {
        Err(error) if error.code() == Some(tonic::Code::NotFound) => Ok(()),
        other => other.map(drop),
    }
}
