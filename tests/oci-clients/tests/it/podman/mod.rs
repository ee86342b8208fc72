//! Podman with storage of its own.

mod build;
mod hooks;
mod life;
mod limits;
mod namespaces;
mod pods;
mod privileges;
mod systemd;
mod terminal;

use crate::machine::{Cgroups, Manager, available, runtime, said};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use test_support::kernel::{Baseline, Watch};
use test_support::{TempRoot, image};

/// The image that all tests use: busybox, whose command is a shell.
pub const IMAGE: &str = "localhost/busybox:test";

/// A folder for the store of this run. Nothing runs at the end of all tests, so those of earlier runs go now.
fn fresh_store() -> PathBuf {
    const NAME: &str = "podman-store-";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Cargo makes it, where it runs.
    std::fs::create_dir_all(folder).unwrap();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(NAME).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    folder.join(format!("{NAME}{}", std::process::id()))
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "-T"]).args([from, to]).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

/// One podman: its storage, its configuration and what the kernel held before it.
pub struct Podman {
    manager: Manager,
    cgroups: Cgroups,
    baseline: Baseline,
    root: TempRoot,
}

impl Podman {
    /// With the image loaded; `None`, said, where there is no podman.
    pub fn new() -> Option<Self> {
        Self::with(Manager::Cgroupfs)
    }

    /// The same with one of Podman's managers of cgroups, or `None` where that is not there.
    pub fn with(manager: Manager) -> Option<Self> {
        let programs = ["/usr/bin/podman", "/usr/bin/conmon", "/usr/bin/timeout"];
        if !manager.available("podman") || !available("podman", &programs) {
            return None;
        }
        let root = TempRoot::new().unwrap();
        let cgroups = Cgroups::of(root.path(), manager);
        let watch = Watch::root(root.path()).named(cgroups.name.clone());
        let made = Self { manager, baseline: Baseline::take(watch).unwrap(), cgroups, root };
        made.configure();
        made.take_image();
        Some(made)
    }

    /// The image is loaded by podman once for all tests, into a store that each test copies: loading takes most of a second.
    fn take_image(&self) {
        static LOADED: OnceLock<PathBuf> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let archive = self.path("image.tar");
            std::fs::write(&archive, image::busybox().unwrap().archive(IMAGE).unwrap()).unwrap();
            self.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
            std::fs::remove_file(archive).unwrap();
            let kept = fresh_store();
            copy(&self.path("storage"), &kept);
            // Podman's own records name the places that they were made for.
            let _ = std::fs::remove_dir_all(kept.join("libpod"));
            kept
        });
        if !self.path("storage").exists() {
            copy(loaded, &self.path("storage"));
        }
    }

    /// Podman's files: it takes errors from the runtime's log (`--log-format=json`) of the runtimes that are listed. Locks are files too, since its other kind is one for the whole machine (`/dev/shm/libpod_lock`). The
    /// limits are the machine's, not podman's defaults, which need CAP_SYS_RESOURCE.
    fn configure(&self) {
        let limit = |resource| {
            let limit = rustix::process::getrlimit(resource).maximum.unwrap_or(4096).min(4096);
            format!("{limit}:{limit}")
        };
        let (files, processes) =
            (limit(rustix::process::Resource::Nofile), limit(rustix::process::Resource::Nproc));
        let (run, graph) = (self.path("run"), self.path("storage"));
        std::fs::write(
            self.path("storage.conf"),
            format!("[storage]\ndriver = \"vfs\"\nrunroot = {run:?}\ngraphroot = {graph:?}\n"),
        )
        .unwrap();
        std::fs::write(
            self.path("containers.conf"),
            format!(
                "[containers]\ndefault_ulimits = [\"nofile={files}\", \"nproc={processes}\"]\n\
                 [engine]\nlock_type = \"file\"\nevents_logger = \"none\"\n\
                 runtime_supports_json = [\"corten-oci\", \"runc\", \"crun\"]\n"
            ),
        )
        .unwrap();
        std::fs::create_dir_all(self.path("tmp")).unwrap();
        self.manager.give(self.root.path());
        self.manager.give(&self.path("tmp"));
    }

    /// A path in the test's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The cgroups of this test.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// A podman command that is not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.manager.limited("podman");
        self.prepare(&mut command);
        command.args(self.globals()).args(arguments);
        command
    }

    /// A shell with podman's environment.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = self.manager.limited("sh");
        self.prepare(&mut command);
        command.args(["-c", script]);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .env("TMPDIR", self.path("tmp"))
            .current_dir(self.root.path())
            .stdin(Stdio::null());
    }

    fn globals(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (flag, value) in [
            ("--root", self.path("storage")),
            ("--runroot", self.path("run")),
            ("--tmpdir", self.path("libpod")),
            ("--runtime", runtime()),
        ] {
            words.extend([flag.to_owned(), value.display().to_string()]);
        }
        let manager = match self.manager {
            Manager::Cgroupfs => "--cgroup-manager=cgroupfs",
            Manager::Systemd | Manager::UsersSystemd => "--cgroup-manager=systemd",
        };
        words.extend(["--storage-driver=vfs", manager].map(str::to_owned));
        words
    }

    /// Runs podman.
    pub fn podman(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs podman, which must succeed; what it printed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.podman(arguments);
        assert!(output.status.success(), "podman {arguments:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs podman, which must fail; its exit code and what it complained of.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.podman(arguments);
        assert!(!output.status.success(), "podman {arguments:?} succeeded: {}", said(&output));
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// `podman run` or another verb that makes containers, in our cgroups and without a network.
    pub fn making<'a>(&'a self, verb: &'a str, options: &[&'a str], words: &[&'a str]) -> Vec<&'a str> {
        let network = options.iter().any(|option| ["--network", "--pod"].contains(option));
        let pod = options.contains(&"--pod");
        let mut all = vec![verb];
        if !network {
            all.extend(["--network", "none"]);
        }
        if !pod {
            all.extend(["--cgroup-parent", &self.cgroups.name]);
        }
        [all, options.to_vec(), vec![IMAGE], words.to_vec()].concat()
    }

    /// Runs a container to its end and removes it; what it printed.
    #[track_caller]
    pub fn run(&self, options: &[&str], words: &[&str]) -> String {
        self.ok(&self.making("run", &[&["--rm"], options].concat(), words))
    }

    /// The same for a shell's script.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> String {
        self.run(options, &["sh", "-c", script])
    }

    /// Starts a container that stays; its id.
    #[track_caller]
    pub fn start(&self, name: &str, options: &[&str], words: &[&str]) -> String {
        self.ok(&self.making("run", &[&["-d", "--name", name], options].concat(), words))
    }

    /// A field of `podman inspect`.
    #[track_caller]
    pub fn field(&self, name: &str, template: &str) -> String {
        self.ok(&["container", "inspect", name, "--format", template])
    }

    /// Runs podman on a terminal of 33 rows and 77 columns; each `(shown, typed)` is typed once `shown` is there. What
    /// the terminal showed.
    #[track_caller]
    pub fn on_terminal(&self, arguments: &[&str], typed: &[(&str, &str)]) -> String {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
        let words: Vec<String> = self
            .globals()
            .iter()
            .map(|word| quoted(word))
            .chain(arguments.iter().map(|word| quoted(word)))
            .collect();
        let line = format!("stty rows 33 cols 77; exec podman {}", words.join(" "));
        let mut command = self.manager.limited("script");
        self.prepare(&mut command);
        let mut child = command
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept open until the end: `script` types an end of file where its input ends.
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (mut shown, mut typed, mut buffer) = (String::new(), typed.iter().peekable(), [0; 4096]);
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
            while let Some((_, keys)) = typed.next_if(|(awaited, _)| shown.contains(awaited)) {
                stdin.write_all(keys.as_bytes()).unwrap();
            }
        }
        let status = child.wait().unwrap();
        drop(stdin);
        assert!(status.success(), "podman {arguments:?}: {status}: {shown:?}");
        shown.replace('\r', "")
    }

    /// Ends the test: removes what it made, and fails if the machine is not as before.
    #[track_caller]
    pub fn end(self) {
        self.ok(&["rm", "-f", "-a", "-t", "0"]);
        if self.manager == Manager::UsersSystemd {
            // Ends the process that keeps the user's namespace.
            self.ok(&["system", "migrate"]);
        }
        let left: Vec<PathBuf> = self
            .cgroups
            .all()
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("/libpod-"))
            .filter(|path| !path.to_string_lossy().contains("conmon"))
            .collect();
        assert!(left.is_empty(), "the runtime left cgroups: {left:?}");
        self.cgroups.remove_within(Duration::from_secs(5));
        self.baseline.assert_nothing_left();
    }
}

impl Drop for Podman {
    /// After a failure too; [`Podman::end`] says more.
    fn drop(&mut self) {
        let _ = self.podman(&["pod", "rm", "-f", "-a", "-t", "0"]);
        let _ = self.podman(&["rm", "-f", "-a", "-t", "0"]);
    }
}
