//! The program as its callers run it, on this machine's kernel, with a busybox bundle.
//!
//! Needs root and `/usr/bin/busybox` (static); without them each test says that it skipped. Whatever a test
//! leaves is removed by its fixture, also when it fails.

mod crowd;
mod events;
mod exec;
mod hooks;
mod killed;
mod life;
mod listener;
mod mounts;
mod namespaces;
mod pause;
mod process;
mod refusals;
mod rootless;
mod security;
mod terminal;
mod update;
mod words;

use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_corten-oci");
const APPLETS: [&str; 16] = [
    "sh", "sleep", "echo", "cat", "true", "false", "id", "ls", "hostname", "ps", "mount", "kill", "env",
    "pwd", "grep", "tty",
];

/// A bundle and a state folder of its own.
struct Place {
    dir: tempfile::TempDir,
    id: String,
}

impl Place {
    /// `None`, with a printed reason, where this machine cannot run containers.
    fn new(name: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED {name}: containers need root");
            return None;
        }
        let busybox = Path::new("/usr/bin/busybox");
        if !busybox.exists() {
            eprintln!("SKIPPED {name}: /usr/bin/busybox is missing (Debian: busybox-static)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("corten-oci-").tempdir_in("/var/tmp").unwrap();
        let rootfs = dir.path().join("bundle/rootfs");
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        std::fs::copy(busybox, rootfs.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let id = format!("corten-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let place = Self { dir, id };
        let made = place.run(&["spec", "--bundle", place.bundle().to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
        Some(place)
    }

    /// With a program to run.
    fn running(name: &str, args: &[&str]) -> Option<Self> {
        let place = Self::new(name)?;
        place.edit(|config| config["process"]["args"] = json!(args));
        Some(place)
    }

    fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(self.root()).args(args).current_dir(self.bundle()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A verb on this place's container that must succeed. Output goes to files where it must outlive us: a pipe
    /// that a container holds would never end.
    fn good(&self, args: &[&str]) -> String {
        let out = self.dir.path().join(format!("out-{}", args[0]));
        let file = std::fs::File::create(&out).unwrap();
        let err = self.dir.path().join(format!("err-{}", args[0]));
        let error = std::fs::File::create(&err).unwrap();
        let status = self.command(args).stdout(file).stderr(error).status().unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        assert!(status.success(), "{args:?}: {status} {text} {}", std::fs::read_to_string(err).unwrap());
        text
    }

    /// A verb that must fail with exit status `code`; its words. They go to a file: when it makes a container
    /// against all hopes, a pipe that this one holds would never end.
    fn bad(&self, code: i32, args: &[&str]) -> String {
        let err = self.dir.path().join("err-bad");
        let file = std::fs::File::create(&err).unwrap();
        let status = self.command(args).stdout(Stdio::null()).stderr(file).status().unwrap();
        let error = std::fs::read_to_string(err).unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
        error
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.good(&["state", &self.id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn await_status(&self, wanted: &str) {
        let start = Instant::now();
        while self.status() != wanted {
            assert!(start.elapsed() < Duration::from_secs(10), "still {} and not {wanted}", self.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Neither state folder nor cgroup is there.
    fn assert_nothing_left(&self) {
        let folders: Vec<_> = std::fs::read_dir(self.root()).map(Iterator::collect).unwrap_or_default();
        assert!(folders.is_empty(), "{folders:?}");
        assert_eq!(self.groups(), Vec::<PathBuf>::new());
    }

    /// The container's groups in every hierarchy.
    fn groups(&self) -> Vec<PathBuf> {
        let tops = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let mut found = Vec::new();
        for top in tops.chain([PathBuf::from("/sys/fs/cgroup")]) {
            // At the top, or below our own group where the top is not ours to write.
            for parent in [top.clone(), top.join("process_api")] {
                let below = std::fs::read_dir(&parent).map(|list| list.flatten().map(|e| e.path()).collect());
                let below: Vec<PathBuf> = below.unwrap_or_default();
                found.extend(
                    below.iter().chain([&parent]).map(|dir| dir.join(&self.id)).filter(|p| p.is_dir()),
                );
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let _ = self.run(&["delete", "--force", &entry.file_name().to_string_lossy()]);
        }
    }
}
