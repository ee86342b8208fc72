//! containerd with a root, a state folder and a socket of its own, whose only runtime is ours (`BinaryName`).

mod cri;
mod ctr;
mod systemd;

use crate::machine::{Cgroups, Manager, available, runtime, said};
use cri_api::v1::ImageSpec;
use runtime_manager::Client;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use test_support::kernel::{Baseline, Watch};
use test_support::{Supervised, TempRoot, image};

/// A shell and busybox's programs.
pub const IMAGE: &str = "localhost/busybox:test";
/// What sleeps in every pod; containerd needs one.
const PAUSE: &str = "localhost/pause:test";

/// One containerd and what the kernel held before it.
pub struct Containerd {
    manager: Manager,
    daemon: Option<Supervised>,
    cgroups: Cgroups,
    baseline: Baseline,
    root: TempRoot,
}

impl Containerd {
    /// Started, with the images imported; `None`, said, where there is no containerd.
    pub fn new() -> Option<Self> {
        Self::with(Manager::Cgroupfs)
    }

    /// The same with `SystemdCgroup`, or `None` where systemd is not there.
    pub fn with(manager: Manager) -> Option<Self> {
        let programs = ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/bin/containerd-shim-runc-v2"];
        if !manager.available("containerd") || !available("containerd", &programs) {
            return None;
        }
        let root = TempRoot::new().unwrap();
        let cgroups = Cgroups::of(root.path(), manager);
        let watch = Watch::root(root.path()).named(cgroups.name.clone());
        let baseline = Baseline::take(watch).unwrap();
        let mut made = Self { manager, daemon: None, cgroups, baseline, root };
        std::fs::write(made.path("config.toml"), made.config()).unwrap();
        std::fs::create_dir_all(made.path("net.d")).unwrap();
        made.start();
        let images = [(IMAGE, image::busybox().unwrap()), (PAUSE, image::pause().unwrap())];
        for (name, image) in images {
            let archive = made.path("image.tar");
            std::fs::write(&archive, image.archive(name).unwrap()).unwrap();
            made.ok("k8s.io", &["images", "import", archive.to_str().unwrap()]);
            if name == IMAGE && manager == Manager::Cgroupfs {
                made.ok("plain", &["images", "import", archive.to_str().unwrap()]);
            }
            std::fs::remove_file(archive).unwrap();
        }
        Some(made)
    }

    /// Its defaults, but for the paths and the runtime. `restrict_oom_score_adj` is for machines without CAP_SYS_RESOURCE.
    fn config(&self) -> String {
        let dir = self.root.path().display();
        format!(
            r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "{dir}/s"

[ttrpc]
  address = "{dir}/s.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{dir}/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "corten"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.corten]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.corten.options]
  BinaryName = {runtime:?}
  Root = "{dir}/oci"
  SystemdCgroup = {systemd}
"#,
            systemd = self.manager == Manager::Systemd,
            runtime = runtime().display().to_string(),
        )
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let config = self.path("config.toml");
        let log = self.path("log");
        let arguments = ["--config".as_ref(), config.as_os_str()];
        self.daemon = Some(Supervised::start(Path::new("/usr/bin/containerd"), &arguments, &log).unwrap());
        let end = Instant::now() + self.manager.patience();
        while !self.ctr("k8s.io", &["version"]).status.success() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < end, "containerd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the daemon only: its shims and their containers stay.
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.end().unwrap();
        }
    }

    /// A path in the test's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The cgroups of this test.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// A client of the CRI, once that answers; it begins later than the rest of the daemon.
    pub async fn client(&self) -> Client {
        let client = Client::connect(&self.path("s"), self.manager.patience()).await.unwrap();
        let end = Instant::now() + self.manager.patience();
        while let Err(error) = client.pods_with_label("any", "any").await {
            assert!(Instant::now() < end, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It hears of imported images by events.
        for name in [IMAGE, PAUSE] {
            let image = ImageSpec { image: name.into(), ..Default::default() };
            while client.image_status(&image).await.unwrap().is_none() {
                assert!(Instant::now() < end, "{name} is not seen");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        client
    }

    /// A `ctr` command that is not yet started.
    pub fn ctr_command(&self, namespace: &str, arguments: &[&str]) -> Command {
        let mut command = self.manager.limited("ctr");
        command.arg("--address").arg(self.path("s")).args(["--namespace", namespace]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Runs ctr.
    pub fn ctr(&self, namespace: &str, arguments: &[&str]) -> Output {
        self.ctr_command(namespace, arguments).output().unwrap()
    }

    /// Runs ctr, which must succeed; what it printed.
    #[track_caller]
    pub fn ok(&self, namespace: &str, arguments: &[&str]) -> String {
        let output = self.ctr(namespace, arguments);
        assert!(output.status.success(), "ctr {arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn remove_all(&self) {
        for namespace in ["k8s.io", "plain"] {
            let list = |what: &[&str]| {
                let output = self.ctr(namespace, what);
                String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
            };
            for task in list(&["tasks", "list", "-q"]) {
                self.ctr(namespace, &["tasks", "rm", "-f", &task]);
            }
            for container in list(&["containers", "list", "-q"]) {
                self.ctr(namespace, &["containers", "rm", &container]);
            }
        }
    }

    /// Ends the test, which must have removed what it made, and fails if the machine is not as before.
    #[track_caller]
    pub fn end(mut self) {
        for namespace in ["k8s.io", "plain"] {
            assert_eq!(self.ok(namespace, &["containers", "list", "-q"]), "", "containers in {namespace}");
            let records = std::fs::read_dir(self.path("oci").join(namespace));
            let records: Vec<_> = records.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            assert!(records.is_empty(), "the runtime left records: {records:?}");
        }
        let groups = self.cgroups.all();
        let left: Vec<_> = groups.iter().filter(|path| !path.ends_with(&self.cgroups.name)).collect();
        assert!(left.is_empty(), "the runtime left cgroups: {left:?}");
        self.stop();
        self.cgroups.remove_within(Duration::from_secs(5));
        self.baseline.assert_nothing_left();
    }
}

impl Drop for Containerd {
    /// After a failure too; [`Containerd::end`] says more.
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.remove_all();
        }
    }
}
