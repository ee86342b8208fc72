//! One test's own world: a bundle, a state folder, a container's name and a cgroup, all gone at its end.

use crate::output::until;
use crate::runtime::finish;
use crate::{Bundle, Groups, Output, Probe, Process, Runtime, bundle};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use test_support::kernel::{Baseline, Watch};

/// The container is named as its cgroup is. A second container of a test is a second case.
#[derive(Debug)]
pub struct Case {
    /// The runtime under test.
    pub runtime: &'static Runtime,
    /// The bundle.
    pub bundle: Bundle,
    /// The container's name, and that of its cgroup.
    pub id: String,
    /// `--root`.
    pub state_dir: tempfile::TempDir,
    before: Baseline,
}

impl Case {
    /// `None`, with a printed reason, where this machine cannot run containers.
    ///
    /// # Panics
    /// When a folder cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(reason) = bundle::missing() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let runtime = Runtime::under_test();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("corten-test-oci-{name}-{}-{number}", std::process::id());
        let bundle = Bundle::new(&id);
        let state_dir = tempfile::Builder::new()
            .prefix("corten-suite-state-")
            .tempdir_in("/run")
            .expect("a folder in /run");
        let watch = Watch::root(&bundle.path()).named(&id);
        let before = Baseline::take(watch).unwrap_or_else(|problem| panic!("{problem}"));
        Some(Self { runtime, bundle, id, state_dir, before })
    }

    /// Changes `config.json`.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) -> &Self {
        self.bundle.edit(change);
        self
    }

    /// The program and its arguments.
    pub fn args(&self, args: &[&str]) -> &Self {
        self.edit(|config| config["process"]["args"] = json!(args))
    }

    /// A shell script as the program.
    pub fn script(&self, script: &str) -> &Self {
        self.args(&["sh", "-c", script])
    }

    /// A program that waits to be killed.
    pub fn sleeps(&self) -> &Self {
        self.args(&["sleep", "1000"])
    }

    /// Adds one mount.
    pub fn mount(&self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &Self {
        self.edit(|config| {
            let mounts = config["mounts"].as_array_mut().expect("mounts");
            mounts.push(
                json!({ "destination": destination, "type": kind, "source": source, "options": options }),
            );
        })
    }

    /// Gives these capabilities to every set but the ambient and inheritable ones.
    pub fn capabilities(&self, names: &[&str]) -> &Self {
        self.edit(|config| {
            config["process"]["capabilities"] =
                json!({ "bounding": names, "effective": names, "permitted": names });
        })
    }

    /// Adds the namespace, or gives it a path.
    pub fn namespace(&self, kind: &str, path: Option<&str>) -> &Self {
        self.edit(|config| {
            let all = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
            all.retain(|one| one["type"] != kind);
            all.push(
                path.map_or_else(|| json!({ "type": kind }), |path| json!({ "type": kind, "path": path })),
            );
        })
    }

    /// Takes the namespace away: the container shares the host's.
    pub fn without_namespace(&self, kind: &str) -> &Self {
        self.edit(|config| {
            config["linux"]["namespaces"]
                .as_array_mut()
                .expect("namespaces")
                .retain(|one| one["type"] != kind);
        })
    }

    /// A user namespace in which container's 0 is host's `first`, for `count` ids; the root belongs to it.
    pub fn user_namespace(&self, first: u32, count: u32) -> &Self {
        let map = json!([{ "containerID": 0, "hostID": first, "size": count }]);
        self.namespace("user", None).edit(|config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        let owner = format!("{first}:{first}");
        let done = Command::new("chown").args(["-hR", &owner]).arg(self.bundle.root()).status();
        assert!(done.is_ok_and(|status| status.success()), "chown of the root");
        self
    }

    /// A shell script as a hook of this kind (`prestart`, `createRuntime`, …). For `startContainer` the shell is
    /// the container's; for the others the host's.
    pub fn hook(&self, kind: &str, script: &str) -> &Self {
        self.edit(|config| {
            let hook =
                json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] });
            match config["hooks"][kind].as_array_mut() {
                Some(hooks) => hooks.push(hook),
                None => config["hooks"][kind] = json!([hook]),
            }
        })
    }

    /// The runtime with `--root` of this case, in the bundle's folder, without input.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.runtime.command();
        command.arg("--root").arg(self.state_dir.path()).args(args);
        command.current_dir(self.bundle.path()).stdin(Stdio::null());
        command
    }

    /// As [`Case::command`], under a shell that runs `before` first, as `ulimit -c 0`.
    #[must_use]
    pub fn command_after(&self, before: &str, args: &[&str]) -> Command {
        let inner = self.command(args);
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("{before}\nexec \"$0\" \"$@\""));
        command.arg(inner.get_program()).args(inner.get_args());
        command.current_dir(self.bundle.path()).stdin(Stdio::null());
        command
    }

    /// Calls the runtime and waits for it.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Output {
        self.finish(&mut self.command(args))
    }

    /// Runs a command that was made by [`Case::command`] and perhaps changed.
    #[track_caller]
    pub fn finish(&self, command: &mut Command) -> Output {
        finish(command, self.state_files().as_path())
    }

    /// `run` of the container as it is configured, to its end.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.call(&["run", &self.id])
    }

    /// `run` of a shell script in place of the program, to its end.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Output {
        self.script(script).run()
    }

    /// `run` of a list of system calls; what they returned.
    #[track_caller]
    pub fn probe(&self, probe: Probe) -> Vec<i64> {
        self.bundle.program("probe", &probe.program());
        let said = self.args(&["probe"]).run().good();
        Probe::results(&std::fs::read(&said.out_file).expect("what the probe wrote"))
    }

    /// `run --detach`, which must succeed; the process of the container.
    #[track_caller]
    pub fn run_detached(&self) -> Process {
        let _ = self.call(&["run", "--detach", &self.id]).good();
        let process = self.process();
        self.await_program(process);
        process
    }

    /// A runtime may come back a moment before its child has become the program; one that has ended or has
    /// become another program is not waited for long.
    fn await_program(&self, process: Process) {
        let args = self.bundle.config()["process"]["args"].clone();
        let wanted: Vec<_> = args.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let wanted = wanted.join("\0");
        let end = Instant::now() + Duration::from_millis(500);
        let runs = || {
            let said = std::fs::read(process.path("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&said).trim_end_matches('\0') == wanted
        };
        while process.lives() && Instant::now() < end && !runs() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(&self) -> Process {
        let _ = self.call(&["create", &self.id]).good();
        self.process()
    }

    /// `start`, which must succeed.
    #[track_caller]
    pub fn start(&self) {
        let _ = self.call(&["start", &self.id]).good();
    }

    /// `kill`, which must succeed.
    #[track_caller]
    pub fn kill(&self, signal: &str) {
        let _ = self.call(&["kill", &self.id, signal]).good();
    }

    /// `delete --force`, which must succeed.
    #[track_caller]
    pub fn delete_force(&self) {
        let _ = self.call(&["delete", "--force", &self.id]).good();
    }

    /// `delete --force` of what a failed call may have left, whatever it says.
    pub fn delete_leftover(&self) {
        let _ = self.call(&["delete", "--force", &self.id]);
    }

    /// `exec` of a shell script, to its end.
    #[track_caller]
    pub fn exec(&self, script: &str) -> Output {
        self.call(&["exec", &self.id, "sh", "-c", script])
    }

    /// What `state` says.
    #[track_caller]
    pub fn state(&self) -> Value {
        let said = self.call(&["state", &self.id]).good();
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("the state is no JSON: {}", said.out))
    }

    /// The status in the state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a status.
    #[track_caller]
    pub fn await_status(&self, wanted: &str) {
        until(&format!("the status {wanted}"), || (self.status() == wanted).then_some(()));
    }

    /// The first process of the container, by its state.
    #[track_caller]
    pub fn process(&self) -> Process {
        let pid = self.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Process::new(pid.filter(|pid| *pid > 0).expect("the state has a pid"))
    }

    /// Removes what the test made and fails the test when anything is left: state, cgroup, mount or process.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.entries(), Vec::<String>::new(), "in the state folder");
        // A process that has ended and waits for the machine's first process to fetch its status holds nothing.
        let left = || -> Vec<String> {
            let lines = self.before.diff().unwrap_or_else(|problem| panic!("{problem}"));
            lines.into_iter().filter(|line| !line.contains("(zombie)")).collect()
        };
        let end = Instant::now() + Duration::from_secs(5);
        while !left().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = left();
        assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    }

    /// The names of the containers that the state folder holds.
    #[must_use]
    pub fn entries(&self) -> Vec<String> {
        let list = std::fs::read_dir(self.state_dir.path()).into_iter().flatten().flatten();
        let names = list.map(|entry| entry.file_name().to_string_lossy().into_owned());
        // crun keeps compiled filters in `.cache`.
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// Where the output of calls goes.
    fn state_files(&self) -> PathBuf {
        let path = self.bundle.path().join("said");
        std::fs::create_dir_all(&path).expect("a folder for output");
        path
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        for name in self.entries() {
            let _ = self
                .command(&["delete", "--force", &name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        for group in Groups::named(&self.id) {
            take_down(&group);
        }
        if let Ok(mounts) = test_support::kernel::mounts::below(&[self.bundle.path()]) {
            for mount in mounts.iter().rev() {
                let _ = rustix::mount::unmount(&mount.target, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// Ends what runs in a group and removes it; its name shows that it is ours.
fn take_down(group: &Path) {
    for (file, word) in [("cgroup.kill", "1"), ("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let _ = std::fs::OpenOptions::new().write(true).open(group.join(file)).and_then(|mut file| {
            use std::io::Write;
            file.write_all(word.as_bytes())
        });
    }
    for _ in 0..200 {
        for pid in std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if std::fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
