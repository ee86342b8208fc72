//! A node from outside: folders, a configuration, a registry, a daemon process, and the verbs.

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use test_support::TempRoot;
use test_support::kernel::{Baseline, Watch};
use test_support::registry::Registry;

/// How long something may take that takes a moment; in a guest a second of the host is a minute.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the kernel may need to take down what nobody has any more.
const LINGERING: Duration = Duration::from_secs(15);

/// Tests of one process get subnets of their own; several processes are kept apart by their ids.
static SUBNETS: AtomicU32 = AtomicU32::new(0);

/// The registry of a node; a node that has images from elsewhere has none.
pub struct Shelf(Option<Registry>);

impl std::ops::Deref for Shelf {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        self.0.as_ref().expect("this node was made without a registry")
    }
}

pub struct Node {
    pub temp: TempRoot,
    pub registry: Shelf,
    baseline: Baseline,
    daemon: Option<Child>,
    /// How every address of its pods begins.
    prefix: String,
}

impl Node {
    /// A node with a registry that holds busybox; `None`, said aloud, where it cannot be had.
    pub fn new() -> Option<Self> {
        Self::with_default_network(true)
    }

    pub fn with_default_network(default_network: bool) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: pods need root");
            return None;
        }
        if !Registry::available() {
            println!("skipped: docker-registry is not installed");
            return None;
        }
        let temp = TempRoot::new().expect("a temporary root");
        let registry = Registry::start().expect("the registry starts");
        registry.push("busybox", "1", &test_support::image::busybox().expect("busybox")).expect("pushed");
        let containers = temp.root().join("snapshots/overlayfs/containers");
        Some(Self::made(temp, Some(registry), default_network, "", &[containers]))
    }

    /// A node without a registry, with more of a configuration; some folders have to be empty in the end.
    pub fn bare(temp: TempRoot, config: &str, empty: &[PathBuf]) -> Self {
        Self::made(temp, None, true, config, empty)
    }

    fn made(
        temp: TempRoot,
        registry: Option<Registry>,
        default_network: bool,
        config: &str,
        empty: &[PathBuf],
    ) -> Self {
        let number = (std::process::id() * 7 + SUBNETS.fetch_add(1, Ordering::Relaxed)) % 250;
        let prefix = format!("10.{}.{number}.", 100 + (std::process::id() / 250) % 100);
        let subnet = format!("{prefix}0/24");
        let config = format!(
            "root = {:?}\nstate = {:?}\n[network]\nconf_dir = {:?}\ndefault_network = {default_network}\nsubnet = {subnet:?}\n[log]\nlevel = \"debug\"\n{config}",
            temp.root(),
            temp.state(),
            temp.path().join("net.d")
        );
        std::fs::write(config_file(&temp), config).expect("configuration");
        let state = temp.state();
        let watch = Watch::root(temp.path()).named(cgroup_name(&state));
        let watch = empty.iter().fold(watch, |watch, folder| watch.empty(folder));
        let baseline = Baseline::take(watch).expect("baseline");
        Self { temp, registry: Shelf(registry), baseline, daemon: None, prefix }
    }

    /// The same with a daemon that answers.
    pub fn serving() -> Option<Self> {
        let mut node = Self::new()?;
        node.start();
        Some(node)
    }

    pub fn start(&mut self) {
        self.start_under(&[]);
    }

    /// The same with other words before the daemon's command line.
    pub fn start_under(&mut self, words: &[&str]) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.temp.path().join("daemon.log"))
            .expect("log");
        let program = corten();
        let mut line: Vec<&std::ffi::OsStr> = words.iter().map(std::ffi::OsStr::new).collect();
        line.push(program.as_os_str());
        let child = Command::new(line[0])
            .args(&line[1..])
            .args(["daemon", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("clone"))
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        self.daemon = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while !self.verb(&["version"]).status.success() {
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
            let goes_on = ended.is_none() && Instant::now() < deadline;
            assert!(goes_on, "the daemon does not answer: {}", self.daemon_log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How every address of its pods begins: `10.x.y.`.
    pub fn prefix(&self) -> String {
        self.prefix.clone()
    }

    /// One of this node's shims, where there is one.
    pub fn a_shim(&self) -> Option<Pid> {
        let records = std::fs::read_dir(self.temp.state().join("pods")).ok()?;
        records.flatten().find_map(|pod| {
            let text = std::fs::read_to_string(pod.path().join("pod.json")).ok()?;
            let record: serde_json::Value = serde_json::from_str(&text).ok()?;
            Pid::from_raw(i32::try_from(record["monitor_pid"].as_i64()?).ok()?)
        })
    }

    pub fn config(&self) -> PathBuf {
        config_file(&self.temp)
    }

    pub fn pid(&self) -> i32 {
        self.daemon.as_ref().map_or(0, |d| d.id().cast_signed())
    }

    /// Ends the daemon with a signal and waits for it.
    pub fn end_daemon(&mut self, signal: Signal) -> bool {
        let Some(mut daemon) = self.daemon.take() else { return true };
        let _ = kill_process(Pid::from_child(&daemon), signal);
        daemon.wait().expect("waited").success()
    }

    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.temp.path().join("daemon.log")).unwrap_or_default()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(corten());
        command
            .env(
                "CONTAINER_RUNTIME_ENDPOINT",
                format!("unix://{}", self.temp.state().join("corten.sock").display()),
            )
            .env("CORTEN_CONFIG", self.config())
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb whatever comes of it.
    pub fn verb(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the program runs")
    }

    /// Runs a verb that has to succeed; answers its output without the last newline.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.verb(words);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "corten {words:?}: {out}{err}\n{}", tail(&self.daemon_log()));
        out.trim_end().to_owned()
    }

    /// Runs a verb that has to fail; answers what it said.
    pub fn fails(&self, words: &[&str]) -> String {
        let output = self.verb(words);
        assert!(!output.status.success(), "corten {words:?} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }

    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.temp.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_string_lossy().into_owned()
    }

    pub fn busybox(&self) -> String {
        self.registry.reference("busybox", "1")
    }

    /// A pod and a container of it as CRI files; answers (pod id, container id).
    pub fn container(&self, name: &str, script: &str) -> (String, String) {
        self.container_of(&self.busybox(), name, script)
    }

    /// The same with another image, which has a shell.
    pub fn container_of(&self, image: &str, name: &str, script: &str) -> (String, String) {
        let logs = self.temp.path().join("logs");
        let pod = self.file(
            &format!("{name}-pod.json"),
            &format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"test","uid":"uid-{name}"}},"log_directory":{logs:?},"linux":{{}}}}"#
            ),
        );
        let container = self.file(
            &format!("{name}.json"),
            &format!(
                r#"{{"metadata":{{"name":"{name}"}},"image":{{"image":"{image}"}},"command":["sh","-c",{script:?}],"log_path":"{name}.log","linux":{{"security_context":{{"namespace_options":{{"pid":1}}}}}}}}"#
            ),
        );
        let pod_id = self.ok(&["runp", &pod]);
        let id = self.ok(&["create", &pod_id, &container, &pod]);
        self.ok(&["start", &id]);
        (pod_id, id)
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.temp.path().join("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// One field of `inspect`.
    pub fn status(&self, id: &str, field: &str) -> serde_json::Value {
        let json: serde_json::Value =
            serde_json::from_str(&self.ok(&["inspect", "-o", "json", id])).expect("JSON");
        json["status"][field].clone()
    }

    pub fn wait_for(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} did not come to be: {}", tail(&self.daemon_log()));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the daemon and looks at the kernel.
    pub fn assert_nothing_left(mut self) {
        assert!(self.end_daemon(Signal::TERM), "the daemon ended badly: {}", tail(&self.daemon_log()));
        let left = self.baseline.diff_within(LINGERING).expect("kernel");
        assert!(left.is_empty(), "left behind: {left:#?}\n{}", tail(&self.daemon_log()));
        // The subnet is this node's alone: no address, route or rule may speak of it any more.
        for (program, words) in
            [("ip", vec!["-o", "address"]), ("ip", vec!["route"]), ("nft", vec!["list", "ruleset"])]
        {
            let said =
                Command::new(program).args(&words).output().map(|o| text(&o.stdout)).unwrap_or_default();
            assert!(!said.contains(&self.prefix), "{program} {words:?} still has {}: {said}", self.prefix);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // A test failed: what it ran is cleared away so that it disturbs no other.
            let _ = Command::new(corten())
                .env("CONTAINER_RUNTIME_ENDPOINT", self.temp.state().join("corten.sock"))
                .args(["rmp", "-f", "-a"])
                .output();
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn config_file(temp: &TempRoot) -> PathBuf {
    temp.path().join("corten.toml")
}

pub fn corten() -> PathBuf {
    test_support::programs::corten().expect("`cargo xtask build --debug` was run")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// The node's top cgroup, as `corten` names it by its state folder.
fn cgroup_name(state: &Path) -> String {
    let hash = state
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    format!("corten-{hash:08x}")
}
