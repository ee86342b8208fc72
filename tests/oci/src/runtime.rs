//! The runtime under test: which one it is, and how it is called.

use crate::output::{Output, PATIENCE, wait};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Which runtime it is, by what `--version` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Corten,
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// One that these tests know nothing about; it is judged as ours is.
    Other,
}

/// The runtime under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    program: PathBuf,
    /// Which one.
    pub kind: Kind,
    /// The first line of `--version`, as `runc version 1.1.5`.
    pub version: String,
}

impl Runtime {
    /// The one that `OCI_RUNTIME` names, else the built `corten-oci`.
    ///
    /// # Panics
    /// When there is none, or when it does not tell its version.
    pub fn under_test() -> &'static Self {
        static FOUND: OnceLock<Runtime> = OnceLock::new();
        FOUND.get_or_init(|| {
            let program = match std::env::var_os("OCI_RUNTIME").filter(|name| !name.is_empty()) {
                Some(name) => locate(&name),
                None => test_support::programs::oci().unwrap_or_else(|problem| panic!("{problem}")),
            };
            let said = Command::new(&program).arg("--version").output();
            let said = said.unwrap_or_else(|said| panic!("{} does not run: {said}", program.display()));
            let text = String::from_utf8_lossy(&said.stdout);
            let version = text.lines().next().unwrap_or_default().trim().to_owned();
            let kind = match version.split(' ').next() {
                Some("corten-oci") => Kind::Corten,
                Some("runc") => Kind::Runc,
                Some("crun") => Kind::Crun,
                _ => Kind::Other,
            };
            Self { program, kind, version }
        })
    }

    /// Its program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command without any argument of its own. crun refuses a host with both versions of cgroups
    /// (libcrun/cgroup-utils.c, `libcrun_get_cgroup_mode`), so it does not get to see the second one.
    #[must_use]
    pub fn command(&self) -> Command {
        if self.kind != Kind::Crun || !Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
            return Command::new(&self.program);
        }
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "slave", "/bin/sh", "-c"])
            .arg("umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"")
            .arg(&self.program);
        command
    }
}

/// Runs a command to its end, with its output in two new files below `folder`.
///
/// # Panics
/// When it does not start or takes longer than [`PATIENCE`].
#[track_caller]
pub fn finish(command: &mut Command, folder: &Path) -> Output {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (out_file, err_file) = (folder.join(format!("out-{number}")), folder.join(format!("err-{number}")));
    let make = |path: &Path| File::create(path).unwrap_or_else(|said| panic!("{}: {said}", path.display()));
    let arguments: Vec<String> = command.get_args().map(|part| part.to_string_lossy().into_owned()).collect();
    let call = arguments.join(" ");
    let mut child = command
        .stdout(Stdio::from(make(&out_file)))
        .stderr(Stdio::from(make(&err_file)))
        .spawn()
        .unwrap_or_else(|said| panic!("`{call}` does not start: {said}"));
    let status = wait(&mut child, PATIENCE);
    let read = |path: &Path| {
        std::fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    };
    let (out, err) = (read(&out_file), read(&err_file));
    let Some(status) = status else { panic!("`{call}` took more than {PATIENCE:?}: {err}{out}") };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Output { call, code, out, err, out_file }
}

fn locate(name: &OsString) -> PathBuf {
    let path = PathBuf::from(name);
    if path.components().count() > 1 {
        return path
            .canonicalize()
            .unwrap_or_else(|said| panic!("OCI_RUNTIME names {}: {said}", path.display()));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&folders).chain(extra).map(|folder| folder.join(&path)).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("OCI_RUNTIME names {}, which is not in PATH", path.display()))
}
