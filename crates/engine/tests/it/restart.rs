//! What a daemon that was killed leaves, another takes over.

use crate::node::Node;
use engine::api::{ContainerState, PodFilter, PodState};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_on_and_missed_ends_are_known() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let lasting = node
        .run(
            pod.as_str(),
            node.container(
                "lasting",
                &["sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"],
            ),
        )
        .await
        .expect("runs");
    let ending = node
        .run(pod.as_str(), node.container("ending", &["sh", "-c", "sleep 0.2; exit 9"]))
        .await
        .expect("runs");
    let waiting = node
        .engine
        .create_container(pod.as_str(), node.container("waiting", &["true"]))
        .await
        .expect("created");
    let pid = node.engine.container_status(&lasting).expect("known").pid;
    let engine = node.engine.clone();
    // The runtime of a killed daemon is gone with its tasks; here the engine is dropped instead.
    drop(engine);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let node = node.reopen().await;
    assert_eq!(node.engine.pod_status(pod.as_str()).expect("known").state, PodState::Ready);
    let status = node.engine.container_status(&lasting).expect("known");
    assert_eq!((status.state, status.pid), (ContainerState::Running, pid));
    assert_eq!(node.ended(&ending).await.exit_code, 9);
    node.engine.start_container(waiting.as_str()).await.expect("a prepared container starts");
    assert_eq!(node.ended(waiting.as_str()).await.exit_code, 0);
    let output =
        node.engine.exec_sync(&lasting, vec!["echo".into(), "still".into()], None).await.expect("exec");
    assert_eq!(output.stdout, b"still\n");
    node.engine.stop_container(&lasting, Duration::ZERO).await.expect("stops");
    let numbers: Vec<u32> =
        node.log("lasting").lines().filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
    assert!(numbers.len() > 20);
    assert!(numbers.iter().enumerate().all(|(index, n)| index as u32 == *n), "a line is lost or doubled");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_monitor_makes_the_pod_not_ready_and_nothing_runs_on() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let id = node.run(pod.as_str(), node.container("c", &["sleep", "1000"])).await.expect("runs");
    let shim = node.engine.pod_status(pod.as_str()).expect("known").monitor_pid;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(shim).expect("pid"),
        rustix::process::Signal::KILL,
    )
    .expect("kill");
    let status = node.ended(&id).await;
    assert_eq!(status.exit_code, 137);
    assert_eq!(node.engine.pod_status(pod.as_str()).expect("known").state, PodState::NotReady);
    let node = node.reopen().await;
    assert_eq!(node.engine.pod_status(pod.as_str()).expect("known").state, PodState::NotReady);
    node.engine.stop_pod(pod.as_str()).await.expect("stops");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_without_a_container_are_removed_however_deep_they_are() {
    let Some(node) = Node::open().await else { return };
    let lost = node.temp.root().join("volumes").join("f".repeat(64));
    std::fs::create_dir_all(&lost).expect("made");
    let mut at = std::fs::File::open(&lost).map(std::os::fd::OwnedFd::from).expect("open");
    for _ in 0..20_000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::from_raw_mode(0o755)).expect("mkdir");
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).expect("open");
    }
    drop(at);
    let node = node.reopen().await;
    assert!(!lost.exists());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_costs_nothing_that_it_or_others_need() {
    let Some(mut node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let good = node.run(pod.as_str(), node.container("good", &["sleep", "1000"])).await.expect("runs");
    let bad = node.run(pod.as_str(), node.container("bad", &["sleep", "1000"])).await.expect("runs");
    let snapshots = node.temp.root().join("snapshots/overlayfs");
    let count = |part: &str| std::fs::read_dir(snapshots.join(part)).expect("read").count();
    let (containers, layers) = (count("containers"), count("layers"));
    let volumes = [&good, &bad].map(|id| node.temp.root().join("volumes").join(id));
    volumes.iter().for_each(|volume| std::fs::create_dir_all(volume).expect("made"));
    let image = node.image.clone();
    let folder = node.temp.state().join("pods").join(pod.as_str());
    for record in [format!("container-{bad}.json"), "pod.json".to_owned()] {
        let whole = std::fs::read(folder.join(&record)).expect("record");
        std::fs::write(folder.join(&record), b"of another version").expect("write");
        node = node.reopen().await;
        if record != "pod.json" {
            let status = node.engine.container_status(&good).expect("known");
            assert_eq!(status.state, ContainerState::Running, "its neighbour is taken over");
        }
        // Nothing that comes later in this daemon's life removes anything either.
        node.engine.images().collect().await.expect_err("refused");
        node.engine.images().prune(false).await.expect_err("refused");
        node.engine.images().remove(&image).await.expect("forgotten");
        assert_eq!((count("containers"), count("layers")), (containers, layers), "{record}");
        assert!(volumes.iter().all(|volume| volume.exists()), "{record}");
        std::fs::write(folder.join(&record), whole).expect("write");
    }
    let node = node.reopen().await;
    for id in [&good, &bad] {
        let status = node.engine.container_status(id).expect("known");
        assert_eq!(status.state, ContainerState::Running);
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_half_made_is_undone() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let record = node.temp.state().join("pods").join(pod.as_str()).join("pod.json");
    let text = std::fs::read_to_string(&record).expect("record").replace("\"Ready\"", "\"Starting\"");
    std::fs::write(&record, text).expect("write");
    let node = node.reopen().await;
    assert!(node.engine.list_pods(&PodFilter::default()).is_empty());
    node.end().await;
}
