//! `cargo xtask bench images`: pulls of large images by Corten and by Debian's containerd, in turns, from
//! Debian's docker-registry on loopback; beside them what the same bytes cost without a registry and files.
//!
//! It makes the images once ([`make`]) and starts the three programs; what is measured and how, is in
//! `corten bench images`.

mod disk;
mod make;
mod storage;

use super::{Daemon, containerd, corten, end_monitors, print_tail, said, write_network};
use crate::build::{Profile, build};
use crate::steps::{outlive_signals, run};
use disk::Disk;
use make::{MANY, Sizes};
use std::process::Command;
use std::time::Duration;
use storage::Storage;
use test_support::kernel::{Baseline, Watch};
use test_support::registry::Options as RegistryOptions;
use test_support::{Registry, TempRoot};

/// What the promise is about.
const FULL: Sizes = Sizes { image: 1024, one: 600, base: 32, own: 16 };
/// A tenth, for work on the code.
const SMALL: Sizes = Sizes { image: 96, one: 64, base: 8, own: 4 };

/// The command: `--small` takes images of a tenth, `--remake` makes them anew, `--make-only` measures nothing,
/// `--only-corten` and `--only-containerd` leave one out, `--no-build` takes what is in target/dist; the rest goes
/// to `corten bench images`.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    let own = ["--small", "--remake", "--make-only", "--only-corten", "--only-containerd", "--no-build"];
    let flag = |name: &str| arguments.contains(&name);
    let passed: Vec<_> = arguments.iter().filter(|word| !own.contains(word)).collect();
    let sizes = if flag("--small") { SMALL } else { FULL };
    let storage = Storage::open(if flag("--small") { "bench-images-small" } else { "bench-images" })?;
    if flag("--remake") || !storage.is_complete(sizes) {
        storage.clear()?;
        make::make(&storage, sizes)?;
    }
    if flag("--make-only") {
        return Ok(());
    }
    if !flag("--no-build") {
        build(Profile::Release)?;
    }
    let program = Profile::Release.dist().join("corten");
    outlive_signals()?;
    let root = TempRoot::new().map_err(said)?;
    let options = RegistryOptions { storage: Some(storage.folder().to_owned()), ..Default::default() };
    let registry = Registry::start_with(&options).map_err(said)?;
    let conf_dir = root.config().join("cni");
    write_network(&conf_dir, &root.path().join("addresses"))?;
    let disk = Disk::make(root.path())?;
    let baseline = Baseline::take(Watch::root(root.path())).map_err(said)?;

    let mut command = Command::new(&program);
    command.args(["bench", "images"]).env("TMPDIR", disk.folder("plain")?);
    let (own_data, their_data) = (disk.folder("corten")?, disk.folder("containerd")?);
    let ours = match flag("--only-containerd") {
        true => None,
        false => Some(corten::start(&program, &root, &own_data, &conf_dir)?),
    };
    let theirs = match flag("--only-corten") {
        true => None,
        false => Some(containerd::start(&root, &their_data, &conf_dir, "none")?),
    };
    let folders = [(&ours, own_data), (&theirs, their_data)];
    let mut daemons = folders.iter().filter_map(|(daemon, folder)| Some((daemon.as_ref()?, folder)));
    let (one, folder) =
        daemons.next().ok_or("--only-corten and --only-containerd leave nothing to measure")?;
    command.arg("--endpoint").arg(&one.socket).arg("--folder").arg(folder);
    if let Some((other, folder)) = daemons.next() {
        command.arg("--vs").arg(&other.socket).arg("--folder").arg(folder);
    }
    for (name, repo) in [("gzip", "bench/gzip"), ("zstd", "bench/zstd"), ("one", "bench/one")] {
        command.arg("--image").arg(format!("{name}={}", registry.reference(repo, "1")));
        for layer in storage.layers(repo)? {
            command.arg("--plain").arg(format!("{name}={}", layer.display()));
        }
    }
    for at in 0..MANY {
        command.arg("--many").arg(registry.reference(&format!("bench/many{at}"), "1"));
    }
    let outcome = run(command.args(passed), "What the daemons said is printed above.");
    let outcome = outcome.inspect_err(|_| {
        let all: Vec<&Daemon> = [&ours, &theirs].into_iter().flatten().collect();
        all.iter().for_each(|daemon| print_tail(&daemon.log));
    });
    drop((ours, theirs));
    end_monitors(&root);
    let left = baseline.diff_within(Duration::from_secs(10)).map_err(said)?;
    outcome?;
    if left.is_empty() { Ok(()) } else { Err(format!("left behind:\n  {}", left.join("\n  "))) }
}
