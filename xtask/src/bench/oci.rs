//! `cargo xtask bench oci`: one bundle, run by corten-oci and by Debian's runc and crun in turns.
//!
//! The container is what `runc spec` describes, with /bin/true of busybox. Measured are the time of `run`, the
//! memory that its processes need at most, and its system calls.

use crate::build::{Profile, build};
use crate::steps::{cargo, read};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::TempRoot;
use test_support::kernel::{Baseline, Watch};

/// Group below which all containers and measurements are; removed in the end.
const GROUP: &str = "corten-bench-oci";
/// Where the v1 memory controller is on Debian.
const MEMORY: &str = "/sys/fs/cgroup/memory";
/// crun 1.8 takes a machine with this mount and v1 controllers for one with cgroup v2.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// Set for the run inside a mount namespace without [`UNIFIED`].
const INSIDE: &str = "CORTEN_BENCH_INSIDE";

/// One runtime of the comparison.
struct Runtime {
    name: &'static str,
    program: PathBuf,
    state: PathBuf,
    times: Vec<Duration>,
}

/// The command: `--rounds N` (100), `--no-build`.
pub fn command(arguments: &[&str]) -> Result<(), String> {
    let mut rounds = 100;
    let mut builds = true;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--no-build" => builds = false,
            "--rounds" => {
                rounds = words
                    .next()
                    .and_then(|n| n.parse().ok())
                    .filter(|n| (1..=10_000).contains(n))
                    .ok_or("--rounds wants a number from 1 to 10000")?;
            }
            unknown => return Err(format!("{unknown:?} is not an argument of bench oci")),
        }
    }
    if builds && std::env::var_os(INSIDE).is_none() {
        build(Profile::Release)?;
    }
    if Path::new(UNIFIED).exists() && std::env::var_os(INSIDE).is_none() {
        return inside(arguments);
    }
    measure(rounds)
}

/// Starts over in a mount namespace of its own, for all runtimes alike.
fn inside(arguments: &[&str]) -> Result<(), String> {
    let own = std::env::current_exe().map_err(super::said)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("umount {UNIFIED}; exec \"$@\""), "sh"]);
    command.arg(own).args(["bench", "oci"]).args(arguments).env(INSIDE, "1");
    crate::steps::run(&mut command, "The reason is above.")
}

fn measure(rounds: usize) -> Result<(), String> {
    let root = TempRoot::new().map_err(super::said)?;
    let bundle = make_bundle(root.path())?;
    let baseline = Baseline::take(Watch::root(root.path())).map_err(super::said)?;
    let ours = Profile::Release.dist().join("corten-oci");
    let mut runtimes: Vec<Runtime> = [("corten-oci", ours), ("runc", "runc".into()), ("crun", "crun".into())]
        .into_iter()
        .filter(|(name, program)| {
            let there = read(Command::new(program).arg("--version")).is_ok();
            if !there {
                println!("{name} is not there and is left out");
            }
            there
        })
        .map(|(name, program)| Runtime {
            name,
            program,
            state: root.state().join(name),
            times: Vec::with_capacity(rounds),
        })
        .collect();
    let outcome = rounds_of(&mut runtimes, &bundle, rounds).and_then(|()| {
        println!("`run` of /bin/true, {rounds} rounds in turns:");
        println!("{:12} {:>10} {:>10} {:>14} {:>14}", "", "median", "fastest", "peak memory", "system calls");
        for runtime in &mut runtimes {
            runtime.times.sort_unstable();
            let memory = peak_memory(runtime, &bundle)?;
            let calls = system_calls(runtime, &bundle)?;
            println!(
                "{:12} {:>7.2} ms {:>7.2} ms {:>14} {:>14}",
                runtime.name,
                millis(median(&runtime.times)),
                millis(runtime.times[0]),
                memory.map_or("-".to_owned(), |bytes| format!("{} KiB", bytes / 1024)),
                calls.map_or("-".to_owned(), |calls| calls.to_string()),
            );
        }
        in_process(rounds)
    });
    remove_groups();
    let left = baseline.diff_within(Duration::from_secs(10)).map_err(super::said)?;
    outcome?;
    if left.is_empty() { Ok(()) } else { Err(format!("left behind:\n  {}", left.join("\n  "))) }
}

fn rounds_of(runtimes: &mut [Runtime], bundle: &Path, rounds: usize) -> Result<(), String> {
    // The first of each is not counted: files come from the disk, and the groups above are made.
    for round in 0..=rounds {
        for runtime in &mut *runtimes {
            let mut command = runtime.run(bundle);
            let begin = Instant::now();
            let output = command.output().map_err(|why| format!("cannot start {}: {why}", runtime.name))?;
            let time = begin.elapsed();
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{} failed: {}", runtime.name, why.trim()));
            }
            if round > 0 {
                runtime.times.push(time);
            }
        }
    }
    Ok(())
}

impl Runtime {
    fn run(&self, bundle: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).args(["run", "--bundle"]).arg(bundle).arg("bench");
        command.stdin(Stdio::null());
        command
    }
}

/// What the processes of one `run` are charged at most, in bytes: they start in a group of their own. The
/// container's own process leaves it for the container's group, so this is the price of the runtime.
fn peak_memory(runtime: &Runtime, bundle: &Path) -> Result<Option<u64>, String> {
    let group = Path::new(MEMORY).join(GROUP).join("peak");
    if !Path::new(MEMORY).join("tasks").exists() {
        return Ok(None);
    }
    std::fs::create_dir_all(&group).map_err(super::said)?;
    let run = runtime.run(bundle);
    let mut command = Command::new("sh");
    command.args(["-c", "echo 0 > \"$1\"; shift; exec \"$@\"", "sh"]).arg(group.join("tasks"));
    command.arg(run.get_program()).args(run.get_args());
    read(&mut command)?;
    let peak = std::fs::read_to_string(group.join("memory.max_usage_in_bytes")).map_err(super::said)?;
    // Freed slab pages keep the group for a moment.
    let _ = std::fs::remove_dir(&group);
    peak.trim().parse().map(Some).map_err(|why| format!("{peak:?}: {why}"))
}

/// System calls of one `run` with all its processes, by strace(1).
fn system_calls(runtime: &Runtime, bundle: &Path) -> Result<Option<u64>, String> {
    if read(Command::new("strace").arg("-V")).is_err() {
        return Ok(None);
    }
    let report = runtime.state.with_extension("strace");
    let run = runtime.run(bundle);
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&report).arg(run.get_program()).args(run.get_args());
    read(&mut command)?;
    let text = std::fs::read_to_string(&report).map_err(super::said)?;
    Ok(calls_of(&text))
}

/// The sum of strace's table: `100.00    0.038712          40       966        48 total`.
fn calls_of(report: &str) -> Option<u64> {
    let line = report.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The same start without a command line: by a shim that runs already.
fn in_process(rounds: usize) -> Result<(), String> {
    let mut command = cargo(&["run", "--release", "--quiet", "-p", "corten-monitor", "--example", "starts"]);
    command.args(["--", &rounds.to_string()]);
    command.env(test_support::programs::variable("corten-shim"), Profile::Release.dist().join("corten-shim"));
    let micros: f64 =
        read(&mut command)?.trim().parse().map_err(|why| format!("no number was printed: {why}"))?;
    println!(
        "{:12} {:>7.2} ms   (start of the program in a pod whose shim runs)",
        "corten-shim",
        micros / 1000.0
    );
    Ok(())
}

/// busybox as the root, and `runc spec`'s container without a terminal.
fn make_bundle(place: &Path) -> Result<PathBuf, String> {
    let bundle = place.join("bundle");
    let rootfs = bundle.join("rootfs");
    let make = || -> std::io::Result<()> {
        for folder in ["bin", "proc", "dev", "sys"] {
            std::fs::create_dir_all(rootfs.join(folder))?;
        }
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
        std::os::unix::fs::symlink("busybox", rootfs.join("bin/true"))?;
        std::fs::write(bundle.join("config.json"), config().to_string())
    };
    make().map_err(|why| format!("cannot make the bundle {}: {why}", bundle.display()))?;
    Ok(bundle)
}

fn config() -> serde_json::Value {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "cgroupsPath": format!("/{GROUP}/container"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// The empty groups above the containers'.
fn remove_groups() {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    for place in hierarchies.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]) {
        for name in ["peak", "container", ""] {
            let _ = std::fs::remove_dir(place.join(GROUP).join(name));
        }
    }
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_straces_table_is_found() {
        let report = "% time  seconds  usecs/call  calls  errors syscall\n 48.04  0.01  9298  2  wait4\n\
            100.00    0.038712          40       966        48 total\n";
        assert_eq!(calls_of(report), Some(966));
        assert_eq!(calls_of("nothing"), None);
    }
}
