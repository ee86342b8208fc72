//! The program from outside: verbs against a CRI server that only pretends, output and exit codes.

// The manager's tests have the same server.
#[path = "../../../runtime-manager/tests/it/fake.rs"]
mod fake;
mod pull;

use fake::{Fake, Play};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

struct World {
    fake: Fake,
    socket: PathBuf,
    dir: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (fake, socket, server) = Fake::serve(dir.path());
        let config = format!("root = \"{0}/root\"\nstate = \"{0}/state\"\n", dir.path().display());
        std::fs::write(dir.path().join("corten.toml"), config).unwrap();
        Self { fake, socket, dir, server }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
        command
            .args(line.split_whitespace())
            .env("CONTAINER_RUNTIME_ENDPOINT", &self.socket)
            .env("CORTEN_CONFIG", self.dir.path().join("corten.toml"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, line: &str) -> Output {
        let output = self.command(line).output();
        tokio::time::timeout(Duration::from_secs(30), output).await.expect("the verb ends").unwrap()
    }

    fn script(&self, name: &str, plays: &[Play]) {
        self.fake.state.lock().unwrap().script.insert(name.into(), plays.iter().copied().collect());
    }

    fn pod(&self, spec: &str) -> String {
        let path = self.dir.path().join("pod.yaml");
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n{spec}");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn assert_clean(&self) {
        let state = self.fake.state.lock().unwrap();
        assert!(state.pods.is_empty() && state.containers.is_empty());
        for folder in ["volumes", "logs"] {
            let folder = self.dir.path().join("root/run").join(folder);
            assert_eq!(std::fs::read_dir(folder).map(Iterator::count).unwrap_or(0), 0);
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn run_shows_the_output_passes_the_code_and_leaves_nothing() {
    let world = World::new();
    world.script("a", &[Play::Exit(0)]);
    world.script("b", &[Play::Exit(5)]);
    let spec = "  restartPolicy: Never\n  containers: [{name: a, image: 'x:1'}, {name: b, image: 'x:1'}]\n";
    let got = world.run(&format!("run {} --timings", world.pod(spec))).await;
    let (out, err) = (text(&got.stdout), text(&got.stderr));
    assert_eq!(got.status.code(), Some(5), "{err}");
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a | hello from a", "b | hello from b"]);
    assert!(err.contains("start the sandbox") && err.contains("whole start"), "{err}");
    assert!(err.contains("b: ended with code 5"), "{err}");
    world.assert_clean();
}

#[tokio::test]
async fn run_refuses_what_is_not_supported_before_it_calls_the_runtime() {
    let world = World::new();
    let got = world
        .run(&format!("run {}", world.pod("  containers: [{name: a, image: x, livenessProbe: {}}]\n")))
        .await;
    assert_eq!(got.status.code(), Some(1));
    assert!(
        text(&got.stderr).contains("spec.containers[0].livenessProbe: is not supported"),
        "{}",
        text(&got.stderr)
    );
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn a_signal_stops_and_removes_the_pod() {
    let world = World::new();
    world.script("a", &[Play::Forever]);
    let file = world.pod("  containers: [{name: a, image: 'x:1'}]\n");
    let child =
        world.command(&format!("run {file}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    while !world.fake.calls().contains(&"start a".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output =
        tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", text(&output.stderr));
    assert!(world.fake.calls().contains(&"stop a 30".to_owned()), "{:?}", world.fake.calls());
    world.assert_clean();
}

#[tokio::test]
async fn a_detached_pod_stays_and_can_be_listed_run_in_and_removed() {
    let world = World::new();
    let file = world.pod("  restartPolicy: Never\n  containers: [{name: a, image: 'x:1'}]\n");
    let got = world.run(&format!("run -d {file}")).await;
    assert!(got.status.success(), "{}", text(&got.stderr));
    assert_eq!(text(&got.stdout), "pod1  10.0.0.9\n");

    let got = world.run("ps").await;
    let table = text(&got.stdout);
    assert!(table.starts_with("CONTAINER   IMAGE") && table.contains("Running   a"), "{table}");
    let got = world.run("ps -o json").await;
    let json: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(json["containers"][0]["state"], "CONTAINER_RUNNING");
    assert_eq!(json["containers"][0]["metadata"]["name"], "a");
    assert_eq!(text(&world.run("ps -q --name ^b$").await.stdout), "");

    let got = world.run("exec c2 ls -l").await;
    assert_eq!(
        (got.status.code(), text(&got.stdout), text(&got.stderr)),
        (Some(7), "ls -l\n".into(), "oops\n".into())
    );
    let got = world.run("exec -it c2 sh").await;
    assert!(text(&got.stderr).contains("not built yet"));

    let got = world.run("rmp -f pod1").await;
    assert_eq!(text(&got.stdout), "Stopped sandbox pod1\nRemoved sandbox pod1\n");
    world.assert_clean();
}

#[tokio::test]
async fn verbs_end_with_a_sentence_and_a_code_when_something_is_wrong() {
    let world = World::new();
    let got = world.run("version").await;
    assert!(text(&got.stdout).starts_with("Version:  0.1.0\nRuntimeName:  fake\n"));
    let got = world.run("inspect nothing").await;
    assert_eq!(got.status.code(), Some(1));
    assert_eq!(text(&got.stderr), "corten: cannot look at container nothing: no such container\n");
    let got = world.run("-r /nonexistent.sock ps").await;
    assert!(text(&got.stderr).contains("/nonexistent.sock"), "{}", text(&got.stderr));
    let got = world.run("-r tcp://1.2.3.4:5 ps").await;
    assert_eq!(got.status.code(), Some(2));
}

#[tokio::test]
async fn the_default_configuration_passes_its_own_check() {
    let world = World::new();
    let file = world.dir.path().join("default.toml");
    std::fs::write(&file, world.run("config default").await.stdout).unwrap();
    let got = world.run(&format!("config check {}", file.display())).await;
    assert!(got.status.success() && got.stdout.is_empty(), "{}", text(&got.stderr));
    std::fs::write(&file, "root = \"/a\"\n[gprc]\n").unwrap();
    let got = world.run(&format!("config check {}", file.display())).await;
    let wanted = format!("corten: {}:2: unknown key gprc; did you mean grpc?\n", file.display());
    assert_eq!((got.status.code(), text(&got.stderr)), (Some(1), wanted));
}
