//! Tests of containers for the wire.

use super::*;
use crate::convert::container;
use crate::convert::image::testing::record;
use engine::api::ResolvedUser;
use types::{ContainerId, Digest, PodId};

fn wire_config() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 2 }),
        image: Some(v1::ImageSpec { image: digest().to_string(), ..Default::default() }),
        labels: HashMap::from([("app".into(), "web".into())]),
        annotations: HashMap::from([("note".into(), "x".into())]),
        envs: vec![v1::KeyValue { key: "A".into(), value: b"b".to_vec() }],
        mounts: vec![v1::Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn digest() -> Digest {
    Digest::sha256(&[9; 32])
}

fn exited() -> ContainerStatus {
    ContainerStatus {
        id: ContainerId::from_random([1; 32]),
        pod: PodId::from_random([2; 32]),
        config: container::config("config", Some(wire_config())).expect("sound").into(),
        state: ContainerState::Exited,
        created_at: 10,
        started_at: 20,
        finished_at: 30,
        exit_code: 137,
        reason: "OOMKilled".into(),
        message: "it was killed".into(),
        image_id: digest(),
        image_ref: "registry.example/app@sha256:00".into(),
        log_path: "/var/log/pods/x/app/2.log".into(),
        resources: types::pod::Resources { cpu_shares: 7, ..Default::default() },
        user: Some(ResolvedUser { uid: 1000, gid: 1001, groups: vec![1002] }),
        stop_signal: 10,
        pid: 0,
        spec: Some(json!({"ociVersion": "1.2.0"})),
        snapshotter: "overlayfs".into(),
        steps: Vec::new().into(),
    }
}

#[test]
fn what_a_caller_gave_comes_back_as_it_came() {
    let (container, config) = (exited(), wire_config());
    let got = status(&container, None);
    assert_eq!((got.metadata, got.mounts), (config.metadata.clone(), config.mounts));
    assert_eq!((got.labels, got.annotations), (config.labels.clone(), config.annotations.clone()));
    let got = item(&container);
    assert_eq!((got.metadata, got.image), (config.metadata, config.image));
    assert_eq!((got.labels, got.annotations), (config.labels, config.annotations));
    assert_eq!(
        (got.id.as_str(), got.pod_sandbox_id.as_str()),
        (container.id.as_str(), container.pod.as_str())
    );
    assert_eq!((got.image_id, got.state), (digest().to_string(), 2));
}

#[test]
fn what_became_of_a_container_is_told() {
    let got = status(&exited(), None);
    assert_eq!((got.created_at, got.started_at, got.finished_at), (10, 20, 30));
    assert_eq!(
        (got.exit_code, got.reason.as_str(), got.message.as_str()),
        (137, "OOMKilled", "it was killed")
    );
    assert_eq!(got.log_path, "/var/log/pods/x/app/2.log");
    assert_eq!(got.resources.and_then(|r| r.linux).expect("limits").cpu_shares, 7);
    let user = got.user.and_then(|u| u.linux).expect("a user");
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 1001, vec![1002]));
    assert_eq!(got.stop_signal, v1::Signal::Sigusr1 as i32);
}

#[test]
fn times_that_are_yet_to_come_are_0() {
    let created = status(&ContainerStatus { state: ContainerState::Created, ..exited() }, None);
    assert_eq!((created.started_at, created.finished_at), (0, 0));
    let running = status(&ContainerStatus { state: ContainerState::Running, ..exited() }, None);
    assert_eq!((running.started_at, running.finished_at), (20, 0));
}

#[test]
fn the_image_is_shown_by_the_name_that_was_asked_for() {
    let image = |user_specified: &str, record: Option<&ImageRecord>| {
        let mut container = exited();
        std::sync::Arc::make_mut(&mut container.config).user_specified_image = user_specified.into();
        status(&container, record).image.expect("always there").image
    };
    let mut two = record();
    two.names = vec!["docker.io/library/a:1".into(), "docker.io/library/b:2".into()];
    assert_eq!(image("b:2", Some(&two)), "docker.io/library/b:2");
    assert_eq!(image("gone:1", Some(&two)), "docker.io/library/a:1");
    assert_eq!(image("", Some(&two)), "docker.io/library/a:1");
    assert_eq!(image("b:2", None), digest().to_string());
    two.names.clear();
    assert_eq!(image("b:2", Some(&two)), digest().to_string());
}

#[test]
fn verbose_facts_are_json_with_the_names_that_tools_read() {
    let info: serde_json::Value = serde_json::from_str(&info(&exited())["info"]).expect("JSON");
    for key in ["pid", "runtimeSpec", "sandboxID", "snapshotter", "runtimeType"] {
        assert!(!info[key].is_null(), "{key} is missing");
    }
    assert_eq!(info["runtimeSpec"]["ociVersion"], "1.2.0");
    assert_eq!(info["config"]["envs"][0], json!({"key": "A", "value": "b"}));
    assert_eq!(info["config"]["metadata"]["name"], "app");
}
