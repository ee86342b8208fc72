//! RuntimeService: one file per RPC, and here the table that says how each is run.
//!
//! An RPC that reads is answered on the spot, from memory. One that changes something waits for the engine, whose
//! work goes on even if the caller hangs up, and which a retry joins.

mod container_status;
mod create_container;
mod exec_sync;
mod list_containers;
mod list_pod_sandbox;
mod pod_sandbox_status;
mod remove_container;
mod remove_pod_sandbox;
mod reopen_container_log;
mod run_pod_sandbox;
mod runtime_config;
mod start_container;
mod status;
mod stop_container;
mod stop_pod_sandbox;
mod stream_containers;
mod stream_pod_sandboxes;
mod update_runtime_config;
mod version;

use crate::call::{change, read};
use crate::chunks::Chunks;
use crate::status::unimplemented;
use cri_api::v1;
use cri_api::v1::runtime_service_server::RuntimeService;
use engine::Engine;
use engine::api::ContainerStatus;
use images::ImageRecord;
use std::sync::Arc;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Serves pods, containers and the node.
pub struct Runtime {
    engine: Engine,
}

impl Runtime {
    /// All it needs.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

/// The image that a container was made from, where it is still stored.
fn image_of(engine: &Engine, container: &ContainerStatus) -> Option<Arc<ImageRecord>> {
    engine.images().find(container.image_id.as_str())
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        read("Version", async { Ok(version::call()) }).await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        read("Status", async { Ok(status::call(&self.engine, request.get_ref())) }).await
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        read("RuntimeConfig", async { Ok(runtime_config::call(&self.engine)) }).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        read("PodSandboxStatus", async { pod_sandbox_status::call(&self.engine, request.get_ref()) }).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        read("ListPodSandbox", async { list_pod_sandbox::call(&self.engine, request.into_inner()) }).await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        read("ListContainers", async { list_containers::call(&self.engine, request.into_inner()) }).await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        read("ContainerStatus", async { container_status::call(&self.engine, request.get_ref()) }).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        change("UpdateRuntimeConfig", async {
            update_runtime_config::call(&self.engine, request.into_inner())
        })
        .await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        change("RunPodSandbox", run_pod_sandbox::call(&self.engine, request.into_inner())).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        change("StopPodSandbox", stop_pod_sandbox::call(&self.engine, request.into_inner())).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        change("RemovePodSandbox", remove_pod_sandbox::call(&self.engine, request.into_inner())).await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        change("CreateContainer", create_container::call(&self.engine, request.into_inner())).await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        change("StartContainer", start_container::call(&self.engine, request.into_inner())).await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        change("StopContainer", stop_container::call(&self.engine, request.into_inner())).await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        change("RemoveContainer", remove_container::call(&self.engine, request.into_inner())).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        change("ReopenContainerLog", reopen_container_log::call(&self.engine, request.into_inner())).await
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        change("ExecSync", exec_sync::call(&self.engine, request.into_inner())).await
    }

    type StreamPodSandboxesStream = Chunks<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        read("StreamPodSandboxes", async { stream_pod_sandboxes::call(&self.engine, request.into_inner()) })
            .await
    }

    type StreamContainersStream = Chunks<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        read("StreamContainers", async { stream_containers::call(&self.engine, request.into_inner()) }).await
    }

    // What follows is declared by CRI v1 and not served yet.

    async fn update_container_resources(
        &self,
        _: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        Err(unimplemented("UpdateContainerResources"))
    }

    async fn exec(&self, _: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        Err(unimplemented("Exec"))
    }

    async fn attach(&self, _: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        Err(unimplemented("Attach"))
    }

    async fn port_forward(&self, _: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        Err(unimplemented("PortForward"))
    }

    async fn container_stats(
        &self,
        _: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        Err(unimplemented("ContainerStats"))
    }

    async fn list_container_stats(
        &self,
        _: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        Err(unimplemented("ListContainerStats"))
    }

    async fn pod_sandbox_stats(
        &self,
        _: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        Err(unimplemented("PodSandboxStats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        Err(unimplemented("ListPodSandboxStats"))
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        Err(unimplemented("CheckpointContainer"))
    }

    async fn checkpoint_pod(
        &self,
        _: Request<v1::CheckpointPodRequest>,
    ) -> Answer<v1::CheckpointPodResponse> {
        Err(unimplemented("CheckpointPod"))
    }

    async fn restore_pod(&self, _: Request<v1::RestorePodRequest>) -> Answer<v1::RestorePodResponse> {
        Err(unimplemented("RestorePod"))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        Err(unimplemented("ListMetricDescriptors"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        Err(unimplemented("ListPodSandboxMetrics"))
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        Err(unimplemented("UpdatePodSandboxResources"))
    }

    type StreamContainerStatsStream = Chunks<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        _: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        Err(unimplemented("StreamContainerStats"))
    }

    type StreamPodSandboxStatsStream = Chunks<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        Err(unimplemented("StreamPodSandboxStats"))
    }

    type StreamPodSandboxMetricsStream = Chunks<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        Err(unimplemented("StreamPodSandboxMetrics"))
    }

    type GetContainerEventsStream = Chunks<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        Err(unimplemented("GetContainerEvents"))
    }
}
