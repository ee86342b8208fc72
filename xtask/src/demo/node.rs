//! A node of the demonstration's own: a folder, a daemon with its configuration, and the command line that
//! talks to it.

use super::story::within;
use crate::build::Profile;
use crate::steps::read;
use serde_json::Value;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use test_support::kernel::{Baseline, Watch};
use test_support::{Supervised, TempRoot};

/// How long a daemon or a pod may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pod's name in the manifest.
const POD: &str = "hello";

/// Folders below ours that hold something only while there are pods.
const PASSING: &[&str] = &[
    "state/pods",
    "state/network/attachments",
    "root/run/volumes",
    "root/run/logs",
    "root/snapshots/overlayfs/containers",
    "root/snapshots/overlayfs/ingest",
    "root/snapshots/native/containers",
    "root/snapshots/native/ingest",
];
/// Where addresses are reserved: a file for each, beside files with other names.
const ADDRESSES: &str = "state/network/ipam/default";

/// Everything that the demonstration started.
pub struct Node {
    /// Its folder.
    pub root: TempRoot,
    baseline: Baseline,
    daemon: Option<Supervised>,
    run: Option<Supervised>,
}

impl Node {
    /// Looks at the machine before anything is started.
    pub fn new() -> Result<Self, String> {
        let root = TempRoot::new().map_err(|why| why.to_string())?;
        let mut watch = Watch::root(root.path()).whole_node();
        for path in PASSING {
            watch = watch.empty(root.path().join(path));
        }
        let baseline = Baseline::take(watch).map_err(|why| why.to_string())?;
        Ok(Self { root, baseline, daemon: None, run: None })
    }

    fn program(&self) -> PathBuf {
        Profile::Release.dist().join("corten")
    }

    fn socket(&self) -> PathBuf {
        self.root.state().join("corten.sock")
    }

    fn config(&self) -> PathBuf {
        self.root.config().join("config.toml")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Starts the daemon and tells how long it took until it answered.
    pub fn start_daemon(&mut self) -> Result<Duration, String> {
        let config = self.config();
        let text = format!(
            "root = {:?}\nstate = {:?}\n\n[grpc]\naddress = {:?}\n\n\
             [network]\ndefault_network = true\nconf_dir = {:?}\n",
            self.root.root(),
            self.root.state(),
            self.socket(),
            self.root.config().join("cni"),
        );
        std::fs::write(&config, text).map_err(|said| format!("cannot write {}: {said}", config.display()))?;
        let (begin, socket) = (Instant::now(), self.socket());
        let arguments = ["daemon".as_ref(), "--config".as_ref(), config.as_os_str()];
        let daemon = Supervised::start(&self.program(), &arguments, &self.log("daemon.log"));
        let daemon = &*self.daemon.insert(daemon.map_err(|why| why.to_string())?);
        within(PATIENCE, "answer from the daemon", || {
            // Waiting on would not help.
            if daemon.has_ended() {
                return Ok(Err("the daemon ended at once".to_owned()));
            }
            std::os::unix::net::UnixStream::connect(&socket).map(Ok).map_err(|said| said.to_string())
        })??;
        Ok(begin.elapsed())
    }

    /// Kills the daemon as the kernel would when memory runs out.
    pub fn kill_daemon(&mut self) -> Result<(), String> {
        let daemon = self.daemon.as_ref().ok_or("no daemon runs")?;
        let pid = daemon.pid().to_string();
        read(Command::new("/bin/sh").args(["-c", "kill -KILL \"$1\"", "kill", &pid]))?;
        within(PATIENCE, "end of the daemon", || {
            if daemon.has_ended() { Ok(()) } else { Err("it still runs".to_owned()) }
        })?;
        self.daemon = None;
        Ok(())
    }

    /// Runs one command of ours and returns what it printed.
    pub fn corten(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.program());
        command.arg("--config").arg(self.config()).arg("--endpoint").arg(self.socket());
        read(command.args(arguments))
    }

    /// Starts `corten run` in the background and waits until the pod runs; returns what it printed so far.
    pub fn run_pod(&mut self, manifest: &Path) -> Result<String, String> {
        let log = self.log("run.log");
        let mut arguments: Vec<OsString> = vec!["--config".into(), self.config().into()];
        arguments.extend(["--endpoint".into(), self.socket().into(), "run".into(), manifest.into()]);
        arguments.push("--timings".into());
        let run = Supervised::start(&self.program(), &arguments, &log).map_err(|why| why.to_string())?;
        let run = &*self.run.insert(run);
        within(PATIENCE, "running pod", || {
            // The last line of the table of timings.
            if std::fs::read_to_string(&log).is_ok_and(|text| text.contains("whole start")) {
                return Ok(Ok(()));
            }
            if run.has_ended() {
                return Ok(Err("corten run ended".to_owned()));
            }
            Err("it is not up".to_owned())
        })??;
        // Ids are known only now; from here on they count as ours.
        let ids = self.ids()?;
        self.baseline.add_names(ids);
        Ok(std::fs::read_to_string(&log).unwrap_or_default())
    }

    /// Ends `corten run` as Ctrl-C does and returns the end of what it printed.
    pub fn stop_pod(&mut self) -> Result<String, String> {
        let run = self.run.take().ok_or("no pod was started")?;
        let before = std::fs::read_to_string(self.log("run.log")).unwrap_or_default().len();
        let status = run.end().map_err(|why| why.to_string())?;
        let text = std::fs::read_to_string(self.log("run.log")).unwrap_or_default();
        // As a shell tells that a signal ended it: 128 and the number of SIGTERM.
        if matches!(status.code(), Some(0 | 143)) {
            Ok(text.get(before..).unwrap_or_default().to_owned())
        } else {
            Err(format!("corten run ended with {status}"))
        }
    }

    /// The pod's address with a port.
    pub fn pod_address(&self, port: u16) -> Result<SocketAddr, String> {
        let id = self.pod()?;
        let text = self.corten(&["inspectp", &id])?;
        let value: Value = serde_json::from_str(&text).map_err(|said| format!("corten inspectp: {said}"))?;
        let ip = value["status"]["network"]["ip"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
        ip.map(|ip| SocketAddr::new(ip, port)).ok_or_else(|| "the pod has no address".to_owned())
    }

    /// The id of a running container of the pod.
    pub fn container(&self, name: &str) -> Result<String, String> {
        self.listed("ps", "containers", name)
    }

    /// Runs the image's own program inside a container.
    pub fn exec(&self, container: &str) -> Result<String, String> {
        self.corten(&["exec", container, "/hello-web", "write", "--dir", "/tmp"])
    }

    fn pod(&self) -> Result<String, String> {
        self.listed("pods", "items", POD)
    }

    fn list(&self, verb: &str, key: &str) -> Result<Vec<Value>, String> {
        let text = self.corten(&[verb, "-o", "json"])?;
        let value: Value = serde_json::from_str(&text).map_err(|said| format!("corten {verb}: {said}"))?;
        Ok(value[key].as_array().cloned().unwrap_or_default())
    }

    fn listed(&self, verb: &str, key: &str, name: &str) -> Result<String, String> {
        let found = self.list(verb, key)?.into_iter().find(|item| item["metadata"]["name"] == name);
        let id = found.and_then(|item| item["id"].as_str().map(str::to_owned));
        id.ok_or_else(|| format!("corten {verb} does not list {name}"))
    }

    fn ids(&self) -> Result<Vec<String>, String> {
        let both = [self.list("pods", "items")?, self.list("ps", "containers")?].concat();
        Ok(both.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect())
    }

    /// Shows what the daemon and `corten run` said, after a failure.
    pub fn show_logs(&self) {
        for name in ["daemon.log", "run.log"] {
            let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            println!("\n   the end of {name}:");
            lines[lines.len().saturating_sub(30)..].iter().for_each(|line| println!("     {line}"));
        }
    }

    /// Stops what still runs, and tells what the kernel and the disk hold that was not there before.
    pub fn end(mut self) -> Result<Vec<String>, String> {
        if let Some(run) = self.run.take() {
            let _ = run.end();
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.end().map_err(|why| why.to_string())?;
        }
        for note in self.baseline.notes() {
            super::say(note);
        }
        let mut left = self.baseline.diff_within(Duration::from_secs(10)).map_err(|why| why.to_string())?;
        let reserved = std::fs::read_dir(self.root.path().join(ADDRESSES)).into_iter().flatten().flatten();
        left.extend(
            reserved
                .filter_map(|entry| entry.file_name().to_str()?.parse::<IpAddr>().ok())
                .map(|address| format!("reserved address {address}")),
        );
        Ok(left)
    }
}
