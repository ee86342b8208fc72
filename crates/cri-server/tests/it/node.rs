//! What an empty node answers.

use crate::Node;
use cri_api::v1;
use tonic::Code;

const ABSENT: &str = "0123456789abcdef";

#[tokio::test]
async fn the_kubelets_first_questions_are_answered() {
    let mut node = Node::start().await;
    let version =
        node.runtime.version(v1::VersionRequest { version: "0.1.0".into() }).await.expect("Version");
    let version = version.into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("corten", "v1"));

    let status = node.runtime.status(v1::StatusRequest { verbose: true }).await.expect("Status").into_inner();
    let conditions = status.status.expect("conditions").conditions;
    let kinds: Vec<&str> = conditions.iter().map(|c| c.r#type.as_str()).collect();
    assert_eq!(kinds, ["RuntimeReady", "NetworkReady"]);
    assert!(conditions[0].status, "the runtime is ready");
    assert!(!conditions[1].status, "there is no network configuration");
    assert!(status.features.is_some() && !status.info.is_empty());
    assert!(status.runtime_handlers.iter().any(|handler| handler.name.is_empty()), "the default handler");

    let config = node.runtime.runtime_config(v1::RuntimeConfigRequest {}).await.expect("RuntimeConfig");
    assert!(config.into_inner().linux.is_some());
    let usage = node.image.image_fs_info(v1::ImageFsInfoRequest {}).await.expect("ImageFsInfo").into_inner();
    assert_eq!((usage.image_filesystems.len(), usage.container_filesystems.len()), (1, 1));
}

#[tokio::test]
async fn an_empty_node_lists_nothing() {
    let mut node = Node::start().await;
    let pods = node.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.expect("pods");
    assert!(pods.into_inner().items.is_empty());
    let containers =
        node.runtime.list_containers(v1::ListContainersRequest::default()).await.expect("containers");
    assert!(containers.into_inner().containers.is_empty());
    let images = node.image.list_images(v1::ListImagesRequest::default()).await.expect("images");
    assert!(images.into_inner().images.is_empty());
    let streamed = node.runtime.stream_pod_sandboxes(v1::StreamPodSandboxesRequest::default()).await;
    assert!(streamed.expect("a stream").into_inner().message().await.expect("its end").is_none());
    let streamed = node.runtime.stream_containers(v1::StreamContainersRequest::default()).await;
    assert!(streamed.expect("a stream").into_inner().message().await.expect("its end").is_none());
    let streamed = node.image.stream_images(v1::StreamImagesRequest::default()).await;
    assert!(streamed.expect("a stream").into_inner().message().await.expect("its end").is_none());
}

#[tokio::test]
async fn stopping_and_removing_what_is_gone_succeeds() {
    let mut node = Node::start().await;
    let pod_sandbox_id = ABSENT.to_owned();
    let container_id = ABSENT.to_owned();
    node.runtime
        .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() })
        .await
        .expect("stopped");
    node.runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await.expect("removed");
    node.runtime
        .stop_container(v1::StopContainerRequest { container_id: container_id.clone(), timeout: i64::MAX })
        .await
        .expect("stopped");
    node.runtime.remove_container(v1::RemoveContainerRequest { container_id }).await.expect("removed");
    let image = Some(v1::ImageSpec { image: "docker.io/library/absent:1".into(), ..Default::default() });
    node.image.remove_image(v1::RemoveImageRequest { image }).await.expect("removed");
}

#[tokio::test]
async fn the_status_of_what_is_gone_is_not_found_and_of_a_missing_image_empty() {
    let mut node = Node::start().await;
    let pod = v1::PodSandboxStatusRequest { pod_sandbox_id: ABSENT.into(), verbose: true };
    let error = node.runtime.pod_sandbox_status(pod).await.expect_err("there is none");
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains(ABSENT), "{}", error.message());
    for verbose in [false, true] {
        let container = v1::ContainerStatusRequest { container_id: ABSENT.into(), verbose };
        let error = node.runtime.container_status(container).await.expect_err("there is none");
        assert_eq!(error.code(), Code::NotFound);
    }
    let start = v1::StartContainerRequest { container_id: ABSENT.into() };
    assert_eq!(node.runtime.start_container(start).await.expect_err("there is none").code(), Code::NotFound);
    let exec = v1::ExecSyncRequest { container_id: ABSENT.into(), cmd: vec!["true".into()], timeout: 1 };
    assert_eq!(node.runtime.exec_sync(exec).await.expect_err("there is none").code(), Code::NotFound);
    let reopen = v1::ReopenContainerLogRequest { container_id: ABSENT.into() };
    assert_eq!(node.runtime.reopen_container_log(reopen).await.expect_err("none").code(), Code::NotFound);
    let create = v1::CreateContainerRequest {
        pod_sandbox_id: ABSENT.into(),
        config: Some(v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "a".into(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: "absent".into(), ..Default::default() }),
            ..Default::default()
        }),
        sandbox_config: None,
    };
    assert_eq!(node.runtime.create_container(create).await.expect_err("no pod").code(), Code::NotFound);

    let image = Some(v1::ImageSpec { image: "docker.io/library/absent:1".into(), ..Default::default() });
    let answer =
        node.image.image_status(v1::ImageStatusRequest { image, verbose: true }).await.expect("no error");
    assert_eq!(answer.into_inner(), v1::ImageStatusResponse::default());
}

#[tokio::test]
async fn requests_that_are_wrong_in_themselves_are_refused_with_a_sentence() {
    let mut node = Node::start().await;
    let refused = |error: tonic::Status, part: &str| {
        assert_eq!(error.code(), Code::InvalidArgument, "{}", error.message());
        assert!(error.message().contains(part), "{}", error.message());
    };
    let error =
        node.runtime.run_pod_sandbox(v1::RunPodSandboxRequest::default()).await.expect_err("no config");
    refused(error, "config: it is missing");
    let metadata = Some(v1::PodSandboxMetadata { name: "a".into(), ..Default::default() });
    let error = node
        .runtime
        .run_pod_sandbox(v1::RunPodSandboxRequest {
            config: Some(v1::PodSandboxConfig { metadata, ..Default::default() }),
            runtime_handler: "two words".into(),
        })
        .await
        .expect_err("no handler has that name");
    refused(error, "runtime_handler");
    let error = node.runtime.stop_pod_sandbox(v1::StopPodSandboxRequest::default()).await.expect_err("no id");
    refused(error, "pod_sandbox_id: it is empty");
    let stop = v1::StopContainerRequest { container_id: ABSENT.into(), timeout: -1 };
    refused(node.runtime.stop_container(stop).await.expect_err("negative"), "timeout: -1");
    let long = v1::ContainerStatusRequest { container_id: "a".repeat(129), verbose: false };
    refused(node.runtime.container_status(long).await.expect_err("too long"), "128");
    let exec = v1::ExecSyncRequest { container_id: ABSENT.into(), ..Default::default() };
    refused(node.runtime.exec_sync(exec).await.expect_err("no command"), "cmd");
    let network_config = Some(v1::NetworkConfig { pod_cidr: "10.0.0.0/99".into() });
    let cidr = v1::UpdateRuntimeConfigRequest { runtime_config: Some(v1::RuntimeConfig { network_config }) };
    refused(node.runtime.update_runtime_config(cidr).await.expect_err("no range"), "pod_cidr");
    let error = node.image.pull_image(v1::PullImageRequest::default()).await.expect_err("no image");
    refused(error, "image: it is missing");
    let pull = |image: &str, handler: &str| v1::PullImageRequest {
        image: Some(v1::ImageSpec {
            image: image.into(),
            runtime_handler: handler.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let error = node.image.pull_image(pull("a//b", "")).await.expect_err("no reference");
    refused(error, "a//b");
    let error = node.image.pull_image(pull("busybox", "absent")).await.expect_err("no handler");
    refused(error, "absent");
}

#[tokio::test]
async fn what_is_not_served_yet_says_so_by_name() {
    let mut node = Node::start().await;
    let exec = node.runtime.exec(v1::ExecRequest::default()).await.expect_err("Exec");
    assert_eq!(exec.code(), Code::Unimplemented);
    assert!(exec.message().starts_with("Exec "), "{}", exec.message());
    let events = node.runtime.get_container_events(v1::GetEventsRequest {}).await.expect_err("events");
    assert_eq!(events.code(), Code::Unimplemented);
    assert!(events.message().starts_with("GetContainerEvents "), "{}", events.message());
}
