//! Pod sandboxes.

use crate::node::Node;
use engine::api::{PodFilter, PodState};
use types::ErrorKind;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_stops_and_leaves_nothing() {
    let Some(node) = Node::open().await else { return };
    let id = node.engine.run_pod(node.pod("p"), "").await.expect("runs");
    let status = node.engine.pod_status(id.short()).expect("by prefix");
    assert_eq!(status.state, PodState::Ready);
    assert!(status.steps.iter().any(|s| s.name == "monitor"), "{:?}", status.steps);
    node.engine.stop_pod(id.as_str()).await.expect("stops");
    node.engine.stop_pod(id.as_str()).await.expect("stops again");
    assert_eq!(node.engine.pod_status(id.as_str()).expect("still known").state, PodState::NotReady);
    node.engine.remove_pod(id.as_str()).await.expect("removed");
    node.engine.remove_pod(id.as_str()).await.expect("removed again");
    assert_eq!(node.engine.pod_status(id.as_str()).expect_err("gone").kind(), ErrorKind::NotFound);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retried_calls_get_the_same_pod() {
    let Some(node) = Node::open().await else { return };
    let (a, b) = tokio::join!(node.engine.run_pod(node.pod("p"), ""), node.engine.run_pod(node.pod("p"), ""));
    let (a, b) = (a.expect("first"), b.expect("second"));
    assert_eq!(a, b);
    assert_eq!(node.engine.run_pod(node.pod("p"), "").await.expect("later"), a);
    assert_eq!(node.engine.list_pods(&PodFilter::default()).len(), 1);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_cannot_be_had_leaves_no_pod() {
    let Some(node) = Node::open().await else { return };
    let mut config = node.pod("p");
    config.security.namespaces.network = types::pod::NamespaceMode::Pod;
    let error = node.engine.run_pod(config, "").await.expect_err("no network is configured").chain();
    assert!(error.contains("net.d"), "{error}");
    assert!(node.engine.list_pods(&PodFilter::default()).is_empty());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_handlers_and_slices_are_refused_with_a_sentence() {
    let Some(node) = Node::open().await else { return };
    let error = node.engine.run_pod(node.pod("p"), "kata").await.expect_err("no handler").chain();
    assert!(error.contains("\"kata\" is not configured"), "{error}");
    let mut config = node.pod("p");
    config.cgroup_parent = "/kubepods.slice".into();
    let error = node.engine.run_pod(config, "").await.expect_err("systemd").chain();
    assert!(error.contains("cgroupDriver"), "{error}");
    node.end().await;
}
