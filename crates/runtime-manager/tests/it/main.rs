//! The manager's state machine against a CRI server that only pretends.

mod fake;
mod hostile;

use corten_runtime_manager::{Control, Error, Event, Manager, Options, Outcome, Stop, manifest};
use cri_api::v1::ContainerState;
use fake::{Fake, Play};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

struct World {
    fake: Fake,
    manager: Manager,
    dir: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (fake, socket, server) = Fake::serve(dir.path());
        let options = Options {
            backoff: Duration::from_millis(20),
            poll: Duration::from_millis(5),
            max_log: 1000,
            ..Options::for_this_node(&dir.path().join("work"), "fake")
        };
        let manager = Manager::connect(&socket, Duration::from_secs(5), options).await.unwrap();
        Self { fake, manager, dir, server }
    }

    fn script(&self, name: &str, plays: &[Play]) {
        self.fake.state.lock().unwrap().script.insert(name.into(), plays.iter().copied().collect());
    }

    fn fail(&self, call: &str) {
        self.fake.state.lock().unwrap().fail.push(call.into());
    }

    /// Nothing of any pod is left: not in the runtime, not on disk.
    fn assert_clean(&self) {
        let state = self.fake.state.lock().unwrap();
        assert!(state.pods.is_empty(), "{:?}", state.pods.keys());
        assert!(state.containers.is_empty(), "{:?}", state.containers.keys());
        for folder in ["volumes", "logs"] {
            let folder = self.dir.path().join("work").join(folder);
            let left: Vec<_> = std::fs::read_dir(&folder)
                .map(|d| d.flatten().map(|e| e.path()).collect())
                .unwrap_or_default();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn pod(spec: &str) -> k8s_openapi::api::core::v1::Pod {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n{spec}");
    manifest::parse("test", &text).unwrap().remove(0).pod
}

const TWO: &str = "  restartPolicy: Never\n  initContainers: [{name: prepare, image: 'tools:1'}]\n  volumes: [{name: v, emptyDir: {}}]\n  containers:\n  - {name: a, image: 'app:1', volumeMounts: [{name: v, mountPath: /v}]}\n  - {name: b, image: 'app:1'}\n";

#[tokio::test]
async fn a_pod_starts_in_order_ends_with_its_code_and_leaves_nothing() {
    let world = World::new().await;
    world.script("prepare", &[Play::Exit(0)]);
    world.script("a", &[Play::Exit(0)]);
    world.script("b", &[Play::Exit(3)]);
    let control = Control::none();
    let mut running = world.manager.start(&pod(TWO), &control).await.unwrap();
    assert_eq!(running.ips, ["10.0.0.9"]);
    assert_eq!(world.manager.wait(&mut running, &control).await.unwrap(), Outcome::Finished { code: 3 });
    world.manager.stop(&running, None, &control).await.unwrap();
    world.manager.remove(&running).await.unwrap();
    let calls = world.fake.calls();
    let wanted = [
        "pull tools:1",
        "pull app:1",
        "run pod",
        "create prepare",
        "start prepare",
        "create a",
        "start a",
        "create b",
        "start b",
    ];
    assert_eq!(calls[..wanted.len()], wanted);
    let steps: Vec<_> = running.steps.iter().map(|step| step.name.as_str()).collect();
    for step in [
        "pull image app:1",
        "prepare volumes",
        "start the sandbox",
        "run init container prepare",
        "start container b",
    ] {
        assert!(steps.contains(&step), "{step} in {steps:?}");
    }
    world.assert_clean();
}

#[tokio::test]
async fn a_failure_at_any_call_of_the_start_takes_everything_back() {
    for call in ["pull app:1", "run pod", "create prepare", "start prepare", "create b", "start b"] {
        let world = World::new().await;
        world.script("prepare", &[Play::Exit(0)]);
        world.fail(call);
        let error = world.manager.start(&pod(TWO), &Control::none()).await.unwrap_err();
        assert!(error.to_string().contains("told to fail"), "{call}: {error}");
        world.assert_clean();
    }
}

#[tokio::test]
async fn a_failing_undo_names_both_errors() {
    let world = World::new().await;
    world.script("prepare", &[Play::Exit(0)]);
    world.fail("start a");
    world.fail("remove pod");
    let error = world.manager.start(&pod(TWO), &Control::none()).await.unwrap_err().to_string();
    assert!(error.contains("start container \"a\"") && error.contains("taking back"), "{error}");
}

#[tokio::test]
async fn a_failing_init_container_ends_a_pod_that_is_never_restarted() {
    let world = World::new().await;
    world.script("prepare", &[Play::Exit(7)]);
    let error = world.manager.start(&pod(TWO), &Control::none()).await.unwrap_err();
    assert!(matches!(error, Error::Init { code: 7, .. }), "{error}");
    assert!(!world.fake.calls().contains(&"create a".to_owned()));
    world.assert_clean();
}

#[tokio::test]
async fn on_failure_starts_again_with_the_next_attempt_until_success() {
    let world = World::new().await;
    world.script("a", &[Play::Exit(1), Play::Exit(1), Play::Exit(0)]);
    let (send, mut events) = mpsc::unbounded_channel();
    let control = Control { events: Some(send), ..Control::none() };
    let pod = pod("  restartPolicy: OnFailure\n  containers: [{name: a, image: 'app:1'}]\n");
    let mut running = world.manager.start(&pod, &control).await.unwrap();
    assert_eq!(world.manager.wait(&mut running, &control).await.unwrap(), Outcome::Finished { code: 0 });
    assert_eq!(running.containers[0].attempt, 2);
    let mut delays = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::BackOff { delay, .. } = event {
            delays.push(delay.as_millis());
        }
    }
    assert_eq!(delays, [20, 40]);
    let attempts: Vec<_> = world
        .fake
        .state
        .lock()
        .unwrap()
        .configs
        .iter()
        .map(|c| c.metadata.clone().unwrap().attempt)
        .collect();
    assert_eq!(attempts, [0, 1, 2]);
    let logs = running.containers[0].log_path.parent().unwrap();
    let mut kept: Vec<_> = std::fs::read_dir(logs).unwrap().flatten().map(|e| e.file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["1.log", "2.log"]);
    world.manager.remove(&running).await.unwrap();
    world.assert_clean();
}

#[tokio::test]
async fn a_sidecar_runs_beside_is_restarted_and_stops_last() {
    let world = World::new().await;
    world.script("proxy", &[Play::Exit(1), Play::Forever]);
    let spec = "  restartPolicy: Never\n  terminationGracePeriodSeconds: 9\n  initContainers: [{name: proxy, image: 'p:1', restartPolicy: Always}]\n  containers: [{name: a, image: 'app:1'}]\n";
    let (stop, asked) = watch::channel(Stop::No);
    let control = Control { events: None, stop: asked };
    let mut running = world.manager.start(&pod(spec), &control).await.unwrap();
    let watching = world.manager.wait(&mut running, &control);
    let asking = async {
        while world.fake.calls().iter().filter(|c| *c == "start proxy").count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send(Stop::Graceful).unwrap();
    };
    let (outcome, ()) = tokio::join!(watching, asking);
    assert_eq!(outcome.unwrap(), Outcome::Stopped);
    world.manager.stop(&running, None, &control).await.unwrap();
    let calls = world.fake.calls();
    let at = |call: &str| {
        calls.iter().position(|c| c.starts_with(call)).unwrap_or_else(|| panic!("{call} in {calls:?}"))
    };
    assert!(at("stop a 9") < at("stop proxy") && at("stop proxy") < at("stop pod"), "{calls:?}");
    world.manager.remove(&running).await.unwrap();
    world.assert_clean();
}

#[tokio::test]
async fn a_request_to_stop_during_an_init_container_takes_the_start_back() {
    let world = World::new().await;
    world.script("prepare", &[Play::Forever]);
    let (stop, asked) = watch::channel(Stop::No);
    let control = Control { events: None, stop: asked };
    let pod = pod(TWO);
    let starting = world.manager.start(&pod, &control);
    let asking = async {
        while !world.fake.calls().contains(&"start prepare".to_owned()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send(Stop::Graceful).unwrap();
    };
    let (outcome, ()) = tokio::join!(starting, asking);
    assert!(matches!(outcome.unwrap_err(), Error::Stopped));
    world.assert_clean();
}

#[tokio::test]
async fn a_lost_sandbox_is_told_and_not_restarted_into() {
    let world = World::new().await;
    let control = Control::none();
    let pod = pod("  containers: [{name: a, image: 'app:1'}]\n");
    let mut running = world.manager.start(&pod, &control).await.unwrap();
    {
        let mut state = world.fake.state.lock().unwrap();
        state.ready = false;
        for container in state.containers.values_mut() {
            container.1 = ContainerState::ContainerExited;
        }
    }
    assert_eq!(world.manager.wait(&mut running, &control).await.unwrap(), Outcome::SandboxLost);
}

#[tokio::test]
async fn an_image_that_is_here_is_not_fetched_and_never_means_never() {
    let world = World::new().await;
    let never = pod("  containers: [{name: a, image: 'app:1', imagePullPolicy: Never}]\n");
    let error = world.manager.start(&never, &Control::none()).await.unwrap_err().to_string();
    assert!(error.contains("imagePullPolicy is Never"), "{error}");
    world.assert_clean();
    world.fake.state.lock().unwrap().images.push("app:1".into());
    world.manager.start(&never, &Control::none()).await.unwrap();
    assert!(!world.fake.calls().iter().any(|call| call.starts_with("pull")));
}

#[tokio::test]
async fn the_sweep_removes_only_folders_without_a_maker_and_without_a_sandbox() {
    let world = World::new().await;
    let control = Control::none();
    let running =
        world.manager.start(&pod("  containers: [{name: a, image: 'app:1'}]\n"), &control).await.unwrap();
    let folder = world.dir.path().join("work/volumes").join(&running.identity.uid);
    assert_eq!(world.manager.sweep().await.unwrap(), 0, "its maker lives");
    let record = std::fs::read_to_string(folder.join("run.json")).unwrap();
    // No process can have this id: it is above the kernel's limit of 2^22.
    let dead = record.replace(&format!("\"pid\":{}", std::process::id()), "\"pid\":2147483000");
    assert_ne!(record, dead);
    std::fs::write(folder.join("run.json"), dead).unwrap();
    assert_eq!(world.manager.sweep().await.unwrap(), 0, "its sandbox lives");
    world.fake.state.lock().unwrap().pods.clear();
    assert_eq!(world.manager.sweep().await.unwrap(), 1);
    assert!(!folder.exists());
}

#[tokio::test]
async fn what_a_container_leaves_as_its_last_words_is_told() {
    let world = World::new().await;
    world.script("a", &[Play::Forever]);
    let (send, mut events) = mpsc::unbounded_channel();
    let control = Control { events: Some(send), ..Control::none() };
    let pod = pod("  restartPolicy: Never\n  containers: [{name: a, image: 'app:1'}]\n");
    let mut running = world.manager.start(&pod, &control).await.unwrap();
    let file = {
        let state = world.fake.state.lock().unwrap();
        let mounts = &state.configs[0].mounts;
        mounts.iter().find(|m| m.container_path == "/dev/termination-log").unwrap().host_path.clone()
    };
    std::fs::write(file, "no\u{1b} disk\n").unwrap();
    world.script("a", &[Play::Exit(4)]);
    assert_eq!(world.manager.wait(&mut running, &control).await.unwrap(), Outcome::Finished { code: 4 });
    let mut found = None;
    while let Ok(event) = events.try_recv() {
        if let Event::Exited { code, message, .. } = event {
            found = Some((code, message));
        }
    }
    assert_eq!(found, Some((4, "no disk".to_owned())));
}

#[tokio::test]
async fn a_log_that_grew_is_rotated_once_and_a_failed_rotation_loses_nothing() {
    for fails in [false, true] {
        let world = World::new().await;
        if fails {
            world.fail("reopen a");
        }
        let (stop, asked) = watch::channel(Stop::No);
        let control = Control { events: None, stop: asked };
        let pod = pod("  containers: [{name: a, image: 'app:1'}]\n");
        let mut running = world.manager.start(&pod, &control).await.unwrap();
        let log = running.containers[0].log_path.clone();
        std::fs::write(&log, vec![b'x'; 2000]).unwrap();
        let watching = world.manager.wait(&mut running, &control);
        let asking = async {
            while !world.fake.calls().contains(&"reopen a".to_owned()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.send(Stop::Graceful).unwrap();
        };
        let (outcome, ()) = tokio::join!(watching, asking);
        assert_eq!(outcome.unwrap(), Outcome::Stopped);
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let old = log.with_extension("log.1");
        if fails {
            assert_eq!((size(&log), size(&old)), (2000, 0));
        } else {
            assert_eq!(size(&old), 2000);
            assert!(size(&log) < 1000);
            assert_eq!(world.fake.calls().iter().filter(|call| *call == "reopen a").count(), 1);
        }
    }
}
