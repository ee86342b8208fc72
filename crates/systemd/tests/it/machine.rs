//! The machine's own systemd, with cgroup v2.

use crate::{Sleeper, alone};
use cgroups::{Cgroups, Limits, Mode};
use std::path::Path;
use std::time::{Duration, Instant};
use systemd::{Bus, PATIENCE, Properties, Scope};
use types::ErrorKind;

/// True where scopes can be made: by root, on v2.
fn usable(test: &str) -> bool {
    let why = if !Path::new("/run/systemd/system").is_dir() {
        "this machine was not started with systemd"
    } else if !rustix::process::geteuid().is_root() {
        "the machine's scopes are root's"
    } else if Cgroups::probe().is_ok_and(|cgroups| cgroups.mode() != Mode::V2) {
        "cgroup v2 is needed"
    } else {
        return true;
    };
    eprintln!("skipped: {test}: {why}");
    false
}

/// The same for v1.
fn usable_v1(test: &str) -> bool {
    let why = if !Path::new("/run/systemd/system").is_dir() {
        "this machine was not started with systemd"
    } else if !rustix::process::geteuid().is_root() {
        "the machine's scopes are root's"
    } else if Cgroups::probe().is_ok_and(|cgroups| cgroups.mode() == Mode::V2) {
        "cgroup v1 is needed"
    } else {
        return true;
    };
    eprintln!("skipped: {test}: {why}");
    false
}

fn named(name: &str) -> Scope {
    let name = format!("{}-{name}", std::process::id());
    Scope::parse(&format!("system.slice:corten-test:{name}"), "unused", Bus::System).unwrap()
}

/// Stops the unit when dropped.
struct Stopped<'a>(&'a Scope);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.stop(PATIENCE) {
            eprintln!("could not clean up: {}", error.chain());
        }
    }
}

fn text(scope: &Scope, file: &str) -> String {
    let path = format!("/sys/fs/cgroup{}/{file}", scope.cgroup(PATIENCE).unwrap());
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

fn own_group(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().trim().to_owned()
}

fn limits() -> Limits {
    let mut limits = Limits { pids: Some(55), ..Limits::default() };
    limits.memory.limit = Some(64 << 20);
    limits.memory.swap = Some(64 << 20);
    limits.cpu.shares = Some(2000);
    limits.cpu.quota = Some(50_000);
    limits.cpu.cpus = "0".to_owned();
    limits
}

#[test]
fn a_scope_holds_the_process_with_its_limits_and_is_gone_after_the_stop() {
    if !usable("scope") {
        return;
    }
    let scope = named("life");
    let sleeper = Sleeper::new();
    let properties = Properties::of_limits(&limits(), Mode::V2).unwrap();
    let start = Instant::now();
    scope.start(sleeper.pid(), &properties, PATIENCE).unwrap_or_else(|error| panic!("{}", error.chain()));
    eprintln!("a scope started in {:?}", start.elapsed());
    let _stopped = Stopped(&scope);
    assert_eq!(own_group(sleeper.pid()), format!("0::{}", scope.cgroup(PATIENCE).unwrap()));
    assert_eq!(text(&scope, "memory.max"), (64 << 20).to_string());
    assert_eq!(text(&scope, "memory.swap.max"), "0");
    assert_eq!(text(&scope, "pids.max"), "55");
    assert_eq!(text(&scope, "cpu.weight"), "170");
    assert_eq!(text(&scope, "cpu.max"), "50000 100000");
    assert_eq!(text(&scope, "cpuset.cpus"), "0");

    // The crate beside it takes what systemd made as it is.
    let cgroups = Cgroups::probe_from_root().unwrap();
    let group = cgroups.create(&scope.cgroup(PATIENCE).unwrap()).unwrap();
    group.add(sleeper.pid()).unwrap();
    group.limit(&limits()).unwrap();
    assert_eq!(group.processes().unwrap(), [sleeper.pid()]);

    let mut more = limits();
    more.memory.limit = Some(128 << 20);
    more.memory.swap = Some(-1);
    more.pids = Some(-1);
    scope.update(&Properties::of_limits(&more, Mode::V2).unwrap(), PATIENCE).unwrap();
    assert_eq!(text(&scope, "memory.max"), (128 << 20).to_string());
    assert_eq!(text(&scope, "memory.swap.max"), "max");
    assert_eq!(text(&scope, "pids.max"), "max");

    // What systemd knows it does not take back.
    let reload = std::process::Command::new("systemctl").arg("daemon-reload").status().unwrap();
    assert!(reload.success());
    assert_eq!(text(&scope, "memory.max"), (128 << 20).to_string());

    let error = scope.start(std::process::id() as i32, &Properties::default(), PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", error.chain());
    assert!(error.message().contains(scope.unit()), "{error}");

    group.kill().unwrap();
    scope.stop(PATIENCE).unwrap();
    group.remove().unwrap();
    assert!(cgroups.open(group.path()).unwrap().is_none());
    scope.stop(PATIENCE).expect("one that is gone is fine");
    let error = scope.update(&properties, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
}

#[test]
fn annotations_become_properties_and_bad_ones_are_refused() {
    if !usable("annotations") {
        return;
    }
    let scope = named("annotated");
    let sleeper = Sleeper::new();
    let annotated = |pairs: &[(&str, &str)]| Properties::of_annotations(pairs.iter().copied()).unwrap();
    let bad = annotated(&[("org.systemd.property.NoSuchProperty", "'x'")]);
    let error = scope.start(sleeper.pid(), &bad, PATIENCE).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::FailedPrecondition),
        "{}",
        error.chain()
    );
    assert!(error.chain().contains("NoSuchProperty"), "{}", error.chain());
    let good = annotated(&[
        ("org.systemd.property.TimeoutStopSec", "7"),
        ("org.systemd.property.Description", "'annotated'"),
        ("unrelated", "x"),
    ]);
    scope.start(sleeper.pid(), &good, PATIENCE).unwrap_or_else(|error| panic!("{}", error.chain()));
    let _stopped = Stopped(&scope);
    let show = std::process::Command::new("systemctl")
        .args(["show", "-p", "TimeoutStopUSec,Description,Delegate,CollectMode", scope.unit()])
        .output()
        .unwrap();
    let show = String::from_utf8_lossy(&show.stdout).into_owned();
    for line in
        ["TimeoutStopUSec=7s", "Description=annotated", "Delegate=yes", "CollectMode=inactive-or-failed"]
    {
        assert!(show.contains(line), "{show}");
    }
    drop(sleeper);
}

#[test]
fn a_process_that_is_gone_is_an_error_and_leaves_no_unit() {
    if !usable("gone") {
        return;
    }
    let scope = named("gone");
    let mut sleeper = Sleeper::new();
    let pid = sleeper.pid();
    sleeper.0.kill().unwrap();
    sleeper.0.wait().unwrap();
    let error = scope.start(pid, &Properties::default(), PATIENCE).unwrap_err();
    eprintln!("{}", error.chain());
    let path = format!("/sys/fs/cgroup{}", scope.cgroup(PATIENCE).unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    while Path::new(&path).exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!Path::new(&path).exists());
}

#[test]
fn child_that_counts_its_threads() {
    if std::env::var_os("CORTEN_TEST_THREADS").is_none() {
        return;
    }
    // The test's own thread and the one that waits for it.
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let threads = count("/proc/self/task");
    let scope = named("threads");
    let sleeper = Sleeper::new();
    scope.start(sleeper.pid(), &Properties::default(), PATIENCE).unwrap();
    assert_eq!(count("/proc/self/task"), threads, "a thread lives on");
    // Two stay for good after the first call: tokio's pipe for signals, one for each process.
    let descriptors = count("/proc/self/fd");
    scope.cgroup(PATIENCE).unwrap();
    scope.update(&Properties::of_limits(&limits(), Mode::V2).unwrap(), PATIENCE).unwrap();
    drop(sleeper);
    scope.stop(PATIENCE).unwrap();
    assert_eq!(count("/proc/self/fd"), descriptors, "a descriptor stays open");
    assert_eq!(count("/proc/self/task"), threads, "a thread lives on");
    println!("counted");
}

#[test]
fn no_thread_and_no_connection_outlives_a_call() {
    if !usable("threads") {
        return;
    }
    let text = alone("machine::child_that_counts_its_threads", &[("CORTEN_TEST_THREADS", "1")]);
    assert!(text.contains("counted"), "{text}");
}

#[test]
fn many_scopes_at_once_leave_nothing() {
    if !usable("many") {
        return;
    }
    let count = std::env::var("CORTEN_TEST_SCOPES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let start = Instant::now();
    std::thread::scope(|threads| {
        for worker in 0..4 {
            threads.spawn(move || {
                for round in (worker..count).step_by(4) {
                    let scope = named(&format!("many-{round}"));
                    let sleeper = Sleeper::new();
                    scope.start(sleeper.pid(), &Properties::default(), PATIENCE).unwrap();
                    drop(sleeper);
                    scope.stop(PATIENCE).unwrap();
                }
            });
        }
    });
    eprintln!("{count} scopes came and went in {:?}", start.elapsed());
    let left: Vec<_> = std::fs::read_dir("/sys/fs/cgroup/system.slice")
        .unwrap()
        .flatten()
        .filter(|entry| {
            entry.file_name().to_string_lossy().contains(&format!("corten-test-{}-many", std::process::id()))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Runs as a user; see below.
#[test]
fn child_without_root() {
    if std::env::var_os("CORTEN_TEST_USER").is_none() {
        return;
    }
    let scope = Scope::parse("", &format!("test-{}", std::process::id()), Bus::User).unwrap();
    let path = scope.cgroup(PATIENCE).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert!(path.contains("user@1.service/user.slice/corten-test-"), "{path}");
    let sleeper = Sleeper::new();
    let mut limits = Limits { pids: Some(33), ..Limits::default() };
    limits.memory.limit = Some(32 << 20);
    let properties = Properties::of_limits(&limits, Mode::V2).unwrap();
    scope.start(sleeper.pid(), &properties, PATIENCE).unwrap_or_else(|error| panic!("{}", error.chain()));
    let _stopped = Stopped(&scope);
    assert_eq!(own_group(sleeper.pid()), format!("0::{path}"));
    let group =
        Cgroups::probe_from_root().unwrap().create(&path).unwrap_or_else(|error| panic!("{}", error.chain()));
    group.add(sleeper.pid()).unwrap_or_else(|error| panic!("{}", error.chain()));
    group.limit(&limits).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(std::fs::read_to_string(format!("/sys/fs/cgroup{path}/pids.max")).unwrap().trim(), "33");
    // Another one, which we may not move ourselves: we are outside of what is ours.
    let second = Sleeper::new();
    assert_eq!(group.add(second.pid()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    scope.attach(second.pid(), "", PATIENCE).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(own_group(second.pid()), format!("0::{path}"));
    assert!(scope.attach(1, "", PATIENCE).is_err(), "another's process");
    group.freeze().unwrap();
    group.thaw().unwrap();
    group.kill().unwrap();
    scope.stop(PATIENCE).unwrap();
    group.remove().unwrap();
    assert_eq!(
        scope.attach(std::process::id() as i32, "", PATIENCE).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    println!("without root");
}

/// A bus for users, which not every machine has (Debian: dbus-user-session), in the form of that package.
struct UserBus(bool);

const USER_UNITS: &str = "/run/systemd/user";

impl UserBus {
    fn new() -> Self {
        if Path::new("/usr/lib/systemd/user/dbus.socket").exists() {
            return UserBus(false);
        }
        let write = |name: &str, text: &str| std::fs::write(format!("{USER_UNITS}/{name}"), text).unwrap();
        std::fs::create_dir_all(format!("{USER_UNITS}/sockets.target.wants")).unwrap();
        write("dbus.socket", "[Socket]\nListenStream=%t/bus\n");
        write(
            "dbus.service",
            "[Unit]\nRequires=dbus.socket\n[Service]\nExecStart=dbus-daemon --session --address=systemd: --nofork \
             --nopidfile --systemd-activation --syslog-only\n",
        );
        std::os::unix::fs::symlink(
            "../dbus.socket",
            format!("{USER_UNITS}/sockets.target.wants/dbus.socket"),
        )
        .unwrap();
        UserBus(true)
    }
}

impl Drop for UserBus {
    fn drop(&mut self) {
        if self.0 {
            for name in ["sockets.target.wants/dbus.socket", "dbus.socket", "dbus.service"] {
                let _ = std::fs::remove_file(format!("{USER_UNITS}/{name}"));
            }
        }
    }
}

#[test]
fn a_user_without_root_gets_a_scope_of_the_users_own_systemd() {
    use std::os::unix::process::CommandExt;
    if !usable("user") {
        return;
    }
    let systemctl = |verb: &str| {
        std::process::Command::new("systemctl")
            .args([verb, "user@1.service"])
            .status()
            .is_ok_and(|s| s.success())
    };
    let _bus = UserBus::new();
    // User 1 is `daemon` everywhere.
    if !systemctl("start") {
        eprintln!("skipped: user: no systemd can be started for user 1");
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "machine::child_without_root", "--nocapture"])
        .env_remove("DBUS_SESSION_BUS_ADDRESS");
    command.env("CORTEN_TEST_USER", "1").env("XDG_RUNTIME_DIR", "/run/user/1").current_dir("/").uid(1).gid(1);
    let output = command.output();
    systemctl("stop");
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: user: another user cannot run this test: {error}");
            return;
        }
    };
    assert!(String::from_utf8_lossy(&output.stdout).contains("without root"), "{output:?}");
}

#[test]
fn on_v1_limits_and_device_rules_outlive_a_reload_of_systemd() {
    use cgroups::{DeviceKind, DeviceRule};
    if !usable_v1("v1") {
        return;
    }
    let rule = |allow, kind, major, minor| DeviceRule {
        allow,
        kind,
        major,
        minor,
        read: true,
        write: true,
        mknod: true,
    };
    let rules = [
        rule(false, DeviceKind::All, None, None),
        rule(true, DeviceKind::Char, Some(1), Some(3)),
        rule(true, DeviceKind::Char, Some(136), None),
    ];
    let scope = named("v1");
    let sleeper = Sleeper::new();
    let cgroups = Cgroups::probe_from_root().unwrap();
    let mut properties = Properties::of_limits(&limits(), cgroups.mode()).unwrap();
    properties.extend(Properties::of_devices(&rules, cgroups.mode()));
    scope.start(sleeper.pid(), &properties, PATIENCE).unwrap_or_else(|error| panic!("{}", error.chain()));
    let _stopped = Stopped(&scope);
    let path = scope.cgroup(PATIENCE).unwrap();
    let group = cgroups.create(&path).unwrap();
    group.add(sleeper.pid()).unwrap();
    let mut limits = limits();
    // Not every kernel accounts swap.
    limits.memory.swap = None;
    group.limit(&limits).unwrap_or_else(|error| panic!("{}", error.chain()));
    group.devices(&rules).unwrap();
    for line in own_group(sleeper.pid()).lines() {
        assert!(line.ends_with(&path), "{line}");
    }
    let read = |file: &str| {
        let controller = file.split('.').next().unwrap();
        let path = format!("/sys/fs/cgroup/{controller}{path}/{file}");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    };
    let all = || ["memory.limit_in_bytes", "cpu.shares", "pids.max", "devices.list"].map(read);
    let before = all();
    assert_eq!(before[..3], [(64 << 20).to_string(), "2000".to_owned(), "55".to_owned()]);
    assert_eq!(before[3], "c 1:3 rwm\nc 136:* rwm");
    let reload = std::process::Command::new("systemctl").arg("daemon-reload").status().unwrap();
    assert!(reload.success());
    assert_eq!(all(), before);
    group.kill().unwrap();
    scope.stop(PATIENCE).unwrap();
    group.remove().unwrap();
    assert!(cgroups.open(&path).unwrap().is_none());
}
