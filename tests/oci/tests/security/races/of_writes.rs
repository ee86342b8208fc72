//! Writes to proc whose way changes while the runtime goes it (CVE-2025-52881): by mounts that come and go, of the container
//! itself or of who shares its root, and by names that are exchanged. `writes.rs` has the same without a race.

use super::rounds;
use crate::links::fake_proc;
use crate::writes::{assert_not_astray, lead_to};
use crate::{attacker, loses_at_times, quietly};
use oci_suite::attack::{Exchange, install_attacker, stop_attacker};
use oci_suite::{Case, Kind};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Where a write goes that is led astray: it is of proc, takes any text, and harms nobody else.
const PREY: &str = "/true-proc/sys/kernel/domainname";

/// A proc that is none. All that a runtime would write leads to the prey, and `marker` tells who sees it.
fn trap(case: &Case) -> PathBuf {
    let fake = case.bundle.aside().join("fake");
    fake_proc(&fake);
    lead_to(&fake, PREY);
    std::fs::write(fake.join("marker"), "").unwrap();
    std::fs::create_dir(case.bundle.root().join("true-proc")).unwrap();
    case.edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    fake
}

/// 1,000 times `exec` with an OOM score, and 100 times with a label or another user as well, into a container that puts the fake over its `/proc` and
/// takes it away again all the time. What a runtime writes after it came in goes to either.
#[test]
fn cve_2025_52881_what_1000_execs_write_goes_to_no_proc_that_the_container_swaps() {
    let Some(case) = Case::new("52881-race-exec") else { return };
    let fake = trap(&case);
    install_attacker(&attacker(), &case.bundle.root());
    case.capabilities(&["CAP_SYS_ADMIN"]).args(&["/oci-attacker", "swap"]);
    case.mount("/fake", "bind", fake.to_str().unwrap(), &["bind"]);
    case.mount("/true-proc", "proc", "proc", &[]);
    let container = case.run_detached();
    let file = case.bundle.aside().join("process.json");
    let mut process = json!({
        "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": ["test", "-e", "/proc/marker"],
        "oomScoreAdj": 700,
    });
    let (mut swapped, start) = (0, Instant::now());
    loses_at_times(&[Kind::Runc, Kind::Crun], "a write goes to its own file", || {
        for round in 0..rounds() {
            if round % 10 == 0 {
                let mut labelled = process.clone();
                match round / 10 % 3 {
                    0 => labelled["apparmorProfile"] = "label".into(),
                    1 => labelled["selinuxLabel"] = "label".into(),
                    _ => labelled["user"]["uid"] = 1000.into(),
                }
                std::fs::write(&file, labelled.to_string()).unwrap();
                quietly(&mut case.command(&["exec", "--process", file.to_str().unwrap(), &case.id]));
            }
            process["oomScoreAdj"] = (600 + round % 200).into();
            std::fs::write(&file, process.to_string()).unwrap();
            let entered =
                quietly(&mut case.command(&["exec", "--process", file.to_str().unwrap(), &case.id]));
            swapped += usize::from(entered);
            if round % 50 == 0 {
                assert_not_astray(container, &format!("round {round}"));
            }
        }
        assert_not_astray(container, "at the end");
    });
    let turns = stop_attacker(&case.bundle.root());
    println!("{} execs in {:?}, {swapped} of them saw the fake; {turns} swaps", rounds(), start.elapsed());
    assert!(swapped > 0 || case.runtime.kind != Kind::Corten, "no exec was there while the fake was");
    case.delete_force();
    case.assert_nothing_left();
}

/// Who shares the root's mount: puts the fake at `proc` of it and takes it away, which reaches all slaves of that mount.
struct Sharer {
    root: PathBuf,
    stop: std::sync::Arc<AtomicBool>,
    swaps: std::sync::Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sharer {
    fn start(root: &Path, fake: PathBuf) -> Self {
        mount_bind(root, root).unwrap();
        mount_change(root, MountPropagationFlags::SHARED).unwrap();
        let (stop, swaps) =
            (std::sync::Arc::new(AtomicBool::new(false)), std::sync::Arc::new(AtomicUsize::new(0)));
        let (stopped, counted, proc) = (stop.clone(), swaps.clone(), root.join("proc"));
        let thread = std::thread::spawn(move || {
            let pause = || std::thread::sleep(std::time::Duration::from_micros(500));
            while !stopped.load(Ordering::Relaxed) {
                if mount_bind(&fake, &proc).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                    pause();
                    let _ = unmount(&proc, UnmountFlags::DETACH);
                }
                pause();
            }
        });
        Self { root: root.to_owned(), stop, swaps, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Sharer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = unmount(&self.root, UnmountFlags::DETACH);
    }
}

/// The advisory's own way: mounts that others share come into the container while it is made. 1,000 containers with labels or an
/// OOM score, whose `/proc` is what the sharer puts there at that moment, and the true one elsewhere.
#[test]
fn cve_2025_52881_what_1000_first_processes_write_goes_to_no_proc_that_a_sharer_swaps() {
    let Some(case) = Case::new("52881-race-first") else { return };
    let fake = trap(&case);
    let seen = case.bundle.root().join("tmp/seen");
    case.script("hostname >/tmp/seen; cat /true-proc/sys/kernel/domainname >>/tmp/seen; [ ! -e /proc/marker ] || echo fake >>/tmp/seen");
    case.edit(|config| {
        config["mounts"] = json!([{ "destination": "/true-proc", "type": "proc", "source": "proc" }]);
        config["linux"]["rootfsPropagation"] = "rslave".into();
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }, { "type": "uts" }]);
        config["process"]["oomScoreAdj"] = 600.into();
    });
    let plain = case.bundle.config();
    let sharer = Sharer::start(&case.bundle.root(), fake);
    let (mut up, mut swapped, start) = (0, 0, Instant::now());
    loses_at_times(&[Kind::Runc, Kind::Crun], "a write goes to its own file", || {
        for round in 0..rounds() {
            let label = [None, None, None, Some("apparmorProfile"), Some("selinuxLabel")][round % 5];
            case.edit(|config| {
                *config = plain.clone();
                if let Some(label) = label {
                    config["process"][label] = "label".into();
                }
            });
            let _ = std::fs::remove_file(&seen);
            quietly(&mut case.command(&["run", &case.id]));
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            assert!(
                lines.is_empty() || lines[..2] == ["corten-test", "(none)"],
                "round {round}: a write was led astray: {lines:?}"
            );
            up += usize::from(!lines.is_empty());
            swapped += usize::from(lines.contains(&"fake"));
        }
    });
    println!(
        "{} starts in {:?}, {up} of them came up, {swapped} saw the fake; {} swaps",
        rounds(),
        start.elapsed(),
        sharer.count()
    );
    assert!(
        sharer.count() > 0 && (up > 0 || case.runtime.kind != Kind::Corten),
        "{} swaps, {up} starts came up",
        sharer.count()
    );
    assert!(
        swapped > 0 || case.runtime.kind != Kind::Corten,
        "what the sharer mounts never came into the container"
    );
    drop(sharer);
    case.assert_nothing_left();
}

/// Sysctls: a mount target in a volume is a plain file and a link to a file of `/proc/sys` in turns. Had the mount followed it unseen,
/// the sysctl would go to the host name's file, which lies over its own. 1,000 starts.
#[test]
fn cve_2025_52881_a_sysctl_goes_to_its_own_file_while_1000_mount_targets_are_exchanged() {
    let Some(case) = Case::new("52881-race-sysctl") else { return };
    let volume = case.bundle.aside().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::create_dir(case.bundle.root().join("vol")).unwrap();
    std::fs::write(volume.join("t"), "").unwrap();
    symlink("/proc/sys/kernel/domainname", volume.join("link")).unwrap();
    let bind = |target: &str, source: &str| json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind"] });
    case.script("hostname >/tmp/seen; cat /proc/sys/kernel/domainname >>/tmp/seen").edit(|config| {
        let list = config["mounts"].as_array_mut().unwrap();
        list.truncate(1);
        list.extend([bind("/vol", volume.to_str().unwrap()), bind("/vol/t", "/proc/sys/kernel/hostname")]);
        config["linux"]["sysctl"] = json!({ "kernel.domainname": "astray" });
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }, { "type": "uts" }]);
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let seen = case.bundle.root().join("tmp/seen");
    let exchange = Exchange::start(volume.join("t"), volume.join("link"));
    let (mut up, start) = (0, Instant::now());
    loses_at_times(&[Kind::Runc, Kind::Crun], "a write goes to its own file", || {
        for round in 0..rounds() {
            let _ = std::fs::remove_file(&seen);
            quietly(&mut case.command(&["run", &case.id]));
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            let host = text.lines().next();
            assert!(
                host.is_none_or(|host| host == "corten-test"),
                "round {round}: the sysctl was led astray: {text}"
            );
            up += usize::from(host.is_some());
        }
    });
    println!(
        "{} starts in {:?}, {up} of them came up; {} exchanges",
        rounds(),
        start.elapsed(),
        exchange.count()
    );
    assert!(
        exchange.count() > 0 && (up > 0 || case.runtime.kind != Kind::Corten),
        "{} exchanges, {up} starts came up",
        exchange.count()
    );
    drop(exchange);
    case.assert_nothing_left();
}
