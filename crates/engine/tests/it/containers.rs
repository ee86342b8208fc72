//! Containers.

use crate::node::Node;
use engine::api::{ContainerFilter, ContainerState};
use std::time::{Duration, Instant};
use types::ErrorKind;
use types::container::Mount;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_in_its_own_world() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let script = "hostname; cat /proc/self/cgroup | head -1; echo pid $$; ls / | tr '\\n' ' '; mount | grep -c overlay; \
                  touch /new && echo written; grep Seccomp: /proc/self/status; echo $PATH $FOO";
    let mut config = node.container("c", &["sh", "-c", script]);
    config.envs = vec![("FOO".into(), b"bar".to_vec())];
    config.security.seccomp = types::pod::SecurityProfile::RuntimeDefault;
    let id = node.run(pod.as_str(), config).await.expect("runs");
    let status = node.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"), "{}", node.log("c"));
    let log = node.log("c");
    for words in [" pid 1\n", " 1\n", " written\n", "Seccomp:\t2", "/bin bar\n"] {
        assert!(log.contains(words), "{words:?} is missing in {log}");
    }
    // The node's mount table never shows a container's root.
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!table.contains(&id));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let missing = node.container("missing", &["no-such-program"]);
    let mut user = node.container("user", &["true"]);
    user.security.run_as_username = "nobody-here".into();
    for (config, words) in
        [(missing, "\"no-such-program\": executable file not found"), (user, "user \"nobody-here\"")]
    {
        let name = config.metadata.name.clone();
        let id = node.engine.create_container(pod.as_str(), config).await.expect("created");
        let error = node.engine.start_container(id.as_str()).await.expect_err(&name);
        assert!(error.chain().contains(words), "{}", error.chain());
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let status = node.engine.container_status(id.as_str()).expect("known");
        assert_eq!(
            (status.state, status.exit_code, status.reason.as_str()),
            (ContainerState::Exited, 128, "StartError")
        );
        node.engine.remove_container(id.as_str()).await.expect("removed");
    }
    let mut mount = node.container("mount", &["true"]);
    mount.mounts = vec![Mount {
        container_path: "/data".into(),
        host_path: "/no/such/source".into(),
        ..Mount::default()
    }];
    let error = node.engine.create_container(pod.as_str(), mount).await.expect_err("no source").chain();
    assert!(error.contains("\"/no/such/source\" does not exist"), "{error}");
    let mut image = node.container("image", &["true"]);
    image.image = "no/such/image:1".into();
    let error = node.engine.create_container(pod.as_str(), image).await.expect_err("no image");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(node.engine.list_containers(&ContainerFilter::default()).is_empty());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_asks_first_and_kills_when_time_is_up() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let polite = node
        .run(
            pod.as_str(),
            node.container("polite", &["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"]),
        )
        .await
        .expect("runs");
    let deaf = node.run(pod.as_str(), node.container("deaf", &["sleep", "1000"])).await.expect("runs");
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.engine.stop_container(&polite, Duration::from_secs(20)).await.expect("stops");
    assert_eq!(node.engine.container_status(&polite).expect("known").exit_code, 5);
    let began = Instant::now();
    node.engine.stop_container(&deaf, Duration::from_millis(300)).await.expect("stops");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(node.engine.container_status(&deaf).expect("known").exit_code, 137);
    node.engine.stop_container(&deaf, Duration::ZERO).await.expect("again");
    node.engine.stop_container(&"f".repeat(64), Duration::ZERO).await.expect("gone is stopped");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_brings_output_code_and_respects_its_limits() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let id = node.run(pod.as_str(), node.container("c", &["sleep", "1000"])).await.expect("runs");
    let sh = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let output = node.engine.exec_sync(&id, sh("echo out; echo err >&2; exit 4"), None).await.expect("exec");
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice(), output.exit_code),
        (&b"out\n"[..], &b"err\n"[..], 4)
    );
    let error = node.engine.exec_sync(&id, vec!["no-such-program".into()], None).await.expect_err("missing");
    assert!(error.chain().contains("executable file not found"), "{}", error.chain());
    let began = Instant::now();
    let error = node
        .engine
        .exec_sync(&id, sh("sleep 100"), Some(Duration::from_millis(300)))
        .await
        .expect_err("limit");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(5));
    // At the limit everything that it started is killed, also what moved to a session of its own.
    let script = "setsid sleep 4321 & setsid sh -c 'setsid sleep 4321' & sleep 4321";
    node.engine.exec_sync(&id, sh(script), Some(Duration::from_millis(300))).await.expect_err("limit");
    let count = || async {
        let list = sh("ps | grep -v grep | grep -c 'sleep 4321'; true");
        node.engine.exec_sync(&id, list, None).await.expect("exec").stdout
    };
    for _ in 0..100 {
        if count().await == b"0\n" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count().await, b"0\n");
    // A caller that goes away takes its command along.
    let gone = node.engine.exec_sync(&id, sh("sleep 4321"), None);
    assert!(tokio::time::timeout(Duration::from_millis(200), gone).await.is_err());
    for _ in 0..100 {
        if count().await == b"0\n" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count().await, b"0\n");
    // A background child holds the pipes; the answer does not wait for it.
    let began = Instant::now();
    let output = node.engine.exec_sync(&id, sh("sleep 100 & echo done"), None).await.expect("exec");
    assert_eq!(output.stdout, b"done\n");
    assert!(began.elapsed() < Duration::from_secs(5));
    let error =
        node.engine.exec_sync(&id, sh("yes"), Some(Duration::from_secs(60))).await.expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_limit_kills_and_says_so() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let mut config = node.container("c", &["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"]);
    config.resources.memory_limit = 32 << 20;
    config.resources.memory_swap_limit = 32 << 20;
    let id = node.run(pod.as_str(), config).await.expect("runs");
    let status = node.ended(&id).await;
    assert_eq!(status.reason, "OOMKilled", "{status:?}");
    assert_ne!(status.exit_code, 0);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pods_at_once_leave_nothing() {
    let Some(node) = Node::open().await else { return };
    let node = std::sync::Arc::new(node);
    let mut tasks = Vec::new();
    for n in 0..20 {
        let node = node.clone();
        tasks.push(tokio::spawn(async move {
            let pod = node.engine.run_pod(node.pod(&format!("p{n}")), "").await.expect("pod");
            node.run(pod.as_str(), node.container("c", &["sleep", "1000"])).await.expect("runs");
        }));
    }
    for task in tasks {
        task.await.expect("joined");
    }
    let running = ContainerFilter { state: Some(ContainerState::Running), ..ContainerFilter::default() };
    assert_eq!(node.engine.list_containers(&running).len(), 20);
    std::sync::Arc::into_inner(node).expect("only owner").end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_cgroup_holds_the_container_with_its_limits() {
    let Some(node) = Node::open().await else { return };
    let mut config = node.pod("p");
    config.cgroup_parent = format!("{}/caller/pod1", node.cgroup());
    let pod = node.engine.run_pod(config, "").await.expect("pod");
    let mut container = node.container("c", &["sh", "-c", "cat /proc/self/cgroup; sleep 1000"]);
    container.resources.memory_limit = 64 << 20;
    container.resources.cpu_shares = 512;
    let id = node.run(pod.as_str(), container).await.expect("runs");
    let pid = node.engine.container_status(&id).expect("known").pid;
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let wanted = format!("{}/caller/pod1/{id}", node.cgroup());
    assert!(own.lines().all(|line| line.ends_with(&wanted) || line.ends_with(":/")), "{own}");
    assert!(own.lines().filter(|line| line.ends_with(&wanted)).count() >= 1, "{own}");
    let limit = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .iter()
        .zip(["memory.limit_in_bytes", "memory.max"])
        .find_map(|(root, file)| std::fs::read_to_string(format!("{root}{wanted}/{file}")).ok());
    assert_eq!(limit.as_deref().map(str::trim), Some("67108864"));
    // Inside, the container's own group is the root.
    for _ in 0..200 {
        if node.log("c").contains("::/") || node.log("c").contains(":/\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let inside = node.log("c");
    assert!(inside.contains(":/\n") && !inside.contains(&id), "{inside}");
    node.engine.remove_pod(pod.as_str()).await.expect("removed");
    node.remove_cgroup("caller");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_limit_that_no_program_fits_in_is_named() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let mut config = node.container("c", &["sleep", "1000"]);
    config.resources.memory_limit = 1;
    let error = node.run(pod.as_str(), config).await.expect_err("one byte").chain();
    assert!(error.contains("memory limit is too small"), "{error}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_go_with_the_last_container_of_an_image_that_was_removed() {
    let Some(node) = Node::open().await else { return };
    let pod = node.engine.run_pod(node.pod("p"), "").await.expect("pod");
    let id = node.run(pod.as_str(), node.container("c", &["sleep", "1000"])).await.expect("runs");
    node.engine.images().remove(&node.image).await.expect("removed");
    let layers = node.temp.root().join("snapshots/overlayfs/layers");
    let count = || std::fs::read_dir(&layers).expect("layers").count();
    assert!(count() > 0, "a running container keeps its layers");
    let output = node.engine.exec_sync(&id, vec!["echo".into(), "still".into()], None).await.expect("exec");
    assert_eq!(output.stdout, b"still\n");
    node.engine.remove_pod(pod.as_str()).await.expect("removed");
    for _ in 0..200 {
        if count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(count(), 0);
    node.end().await;
}
