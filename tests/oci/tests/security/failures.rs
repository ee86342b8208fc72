//! What a start that fails leaves behind: nothing. Every step of it is made to fail, and the runtime is killed in the middle.

use oci_suite::attack::Witness;
use oci_suite::{Case, Console, Groups, Kind, Runtime};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What is there of a case that ended, in words: its folder, its groups, mounts, and the processes of its groups. Quick, so that it can
/// be asked after each way; the whole look ([`Case::assert_nothing_left`]) is for the end.
fn left(case: &Case) -> Option<String> {
    let look = || {
        let mounts = test_support::kernel::mounts::below(&[case.bundle.path()]).unwrap_or_default();
        let mut all: Vec<String> = mounts.iter().map(ToString::to_string).collect();
        all.extend(case.entries());
        all.extend(Groups::named(&case.id).iter().map(|group| {
            let inside = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            format!("{} with {:?}", group.display(), inside.trim())
        }));
        all
    };
    let end = Instant::now() + Duration::from_secs(2);
    while !look().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let found = look();
    (!found.is_empty()).then(|| found.join(", "))
}

/// One way to fail: its name, what is wrong with the configuration, and more arguments.
type Way = (&'static str, fn(&mut Value), &'static [&'static str]);

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

fn hook(config: &mut Value, kind: &str, hook: Value) {
    config["hooks"] = json!({ kind: [hook] });
}

fn fails(config: &mut Value, kind: &str) {
    hook(config, kind, json!({ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }));
}

fn namespace(config: &mut Value, kind: &str, path: &str) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|one| one["type"] != kind);
    list.push(json!({ "type": kind, "path": path }));
}

/// From the first thing that is read to the last that is done.
const WAYS: &[Way] = &[
    ("a specification of version 2", |c| c["ociVersion"] = "2.0.0".into(), &[]),
    ("no root", |c| drop(c.as_object_mut().unwrap().remove("root")), &[]),
    ("a root that is missing", |c| c["root"]["path"] = "missing".into(), &[]),
    ("a root that is a file", |c| c["root"]["path"] = "config.json".into(), &[]),
    ("no command", |c| c["process"]["args"] = json!([]), &[]),
    ("an unknown namespace", |c| c["linux"]["namespaces"] = json!([{ "type": "corten" }]), &[]),
    ("a namespace path that is missing", |c| namespace(c, "network", "/run/corten-test-missing"), &[]),
    ("a namespace of another kind", |c| namespace(c, "network", "/proc/self/ns/uts"), &[]),
    ("a namespace path that is no namespace", |c| namespace(c, "ipc", "/etc/hostname"), &[]),
    ("a pid namespace that is missing", |c| namespace(c, "pid", "/run/corten-test-missing"), &[]),
    (
        "a mapping that the kernel refuses",
        |c| {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            let twice = json!([{ "containerID": 0, "hostID": 1, "size": 9 }, { "containerID": 5, "hostID": 5, "size": 9 }]);
            c["linux"]["uidMappings"] = twice.clone();
            c["linux"]["gidMappings"] = twice;
        },
        &[],
    ),
    (
        "a cgroup path with ..",
        |c| c["linux"]["cgroupsPath"] = "/corten-test-a/../../b".into(),
        &["refused or kept inside"],
    ),
    ("CPUs that are not there", |c| c["linux"]["resources"]["cpu"] = json!({ "cpus": "4095" }), &[]),
    ("a memory limit that is none", |c| c["linux"]["resources"]["memory"] = json!({ "limit": "much" }), &[]),
    (
        "a CPU period that the kernel refuses",
        |c| c["linux"]["resources"]["cpu"] = json!({ "period": 1, "quota": 1 }),
        &[],
    ),
    (
        "a device rule of an unknown kind",
        |c| c["linux"]["resources"]["devices"] = json!([{ "allow": true, "type": "z" }]),
        &[],
    ),
    (
        "a mount whose source is missing",
        |c| {
            add_mount(
                c,
                json!({ "destination": "/mnt", "type": "bind", "source": "/corten-test-missing", "options": ["bind"] }),
            )
        },
        &[],
    ),
    (
        "a file system that is unknown",
        |c| add_mount(c, json!({ "destination": "/mnt", "type": "cortenfs", "source": "x" })),
        &[],
    ),
    (
        "a mount option that is refused",
        |c| {
            add_mount(
                c,
                json!({ "destination": "/mnt", "type": "tmpfs", "source": "x", "options": ["size=nothing"] }),
            )
        },
        &[],
    ),
    (
        "a mount below a file",
        |c| add_mount(c, json!({ "destination": "/etc/passwd/x", "type": "tmpfs", "source": "x" })),
        &[],
    ),
    (
        "a folder over a file",
        |c| {
            add_mount(
                c,
                json!({ "destination": "/etc/passwd", "type": "bind", "source": "/tmp", "options": ["bind"] }),
            )
        },
        &[],
    ),
    (
        "a device where something else is",
        |c| {
            c["linux"]["devices"] = json!([{ "path": "/bin/busybox/x", "type": "c", "major": 1, "minor": 3 }])
        },
        &[],
    ),
    (
        "a device of no kind",
        |c| c["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "q", "major": 1, "minor": 3 }]),
        &[],
    ),
    ("a kernel parameter that is missing", |c| c["linux"]["sysctl"] = json!({ "net.corten.test": "1" }), &[]),
    ("a kernel parameter of the node", |c| c["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }), &[]),
    (
        "a kernel parameter with a wrong value",
        |c| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "many" }),
        &[],
    ),
    (
        "a filter with an unknown action",
        |c| c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_CORTEN" }),
        &[],
    ),
    (
        "a filter whose listener is missing",
        |c| {
            c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/corten-test-missing",
                "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_NOTIFY" }] });
        },
        &[],
    ),
    (
        "a limit that may not be raised",
        |c| {
            c["process"]["rlimits"] =
                json!([{ "type": "RLIMIT_NOFILE", "soft": 2_000_000_000_u64, "hard": 2_000_000_000_u64 }])
        },
        &[],
    ),
    (
        "a limit that is unknown",
        |c| c["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORTEN", "soft": 1, "hard": 1 }]),
        &[],
    ),
    ("a working directory that is a file", |c| c["process"]["cwd"] = "/etc/passwd".into(), &[]),
    ("a working directory that is relative", |c| c["process"]["cwd"] = "etc".into(), &[]),
    (
        "an AppArmor profile that is not loaded",
        |c| c["process"]["apparmorProfile"] = "corten-test-missing".into(),
        &[],
    ),
    ("a program that is missing", |c| c["process"]["args"] = json!(["corten-missing"]), &[]),
    ("a program that is a folder", |c| c["process"]["args"] = json!(["/etc"]), &[]),
    ("a program that nobody may execute", |c| c["process"]["args"] = json!(["/etc/passwd"]), &[]),
    ("a program that is none", |c| c["process"]["args"] = json!(["/bin/garbage"]), &[]),
    ("a terminal without a socket", |c| c["process"]["terminal"] = true.into(), &["--detach"]),
    (
        "a terminal whose socket is missing",
        |c| c["process"]["terminal"] = true.into(),
        &["--detach", "--console-socket", "/run/corten-test-missing"],
    ),
    (
        "a terminal without devpts",
        |c| {
            c["process"]["terminal"] = true.into();
            c["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
        },
        &["--detach", "--console-socket", "CONSOLE"],
    ),
    ("a pid file in a folder that is missing", |_| {}, &["--pid-file", "/run/corten-test-missing/pid"]),
    ("descriptors that were not passed in", |_| {}, &["--preserve-fds", "7"]),
    ("a prestart hook that fails", |c| fails(c, "prestart"), &[]),
    ("a createRuntime hook that fails", |c| fails(c, "createRuntime"), &[]),
    ("a createContainer hook that fails", |c| fails(c, "createContainer"), &[]),
    ("a startContainer hook that fails", |c| fails(c, "startContainer"), &[]),
    ("a hook that is missing", |c| hook(c, "createRuntime", json!({ "path": "/corten-test-missing" })), &[]),
    (
        "a hook that takes too long",
        |c| hook(c, "createRuntime", json!({ "path": "/bin/sleep", "args": ["sleep", "300"], "timeout": 1 })),
        &[],
    ),
];

/// Every way, by `run` and by `create`. Peers are looked at as well, and what they leave is told; only ours has to leave nothing.
#[test]
fn failed_creates_leave_nothing() {
    let Some(case) = Case::new("failures") else { return };
    case.bundle.program("garbage", &[0x7f, b'E', b'L', b'F', 0, 0, 0, 0]);
    let plain = case.bundle.config();
    let node = Witness::of("/run/corten-test-missing");
    let mut problems = Vec::new();
    for (what, change, more) in WAYS {
        let mut config = plain.clone();
        change(&mut config);
        case.edit(|old| *old = config);
        let maybe = more.first() == Some(&"refused or kept inside");
        if maybe && matches!(case.runtime.kind, Kind::Runc | Kind::Crun) {
            // They make a group at the cleaned path, which nobody removes.
            continue;
        }
        let place = tempfile::tempdir_in(case.bundle.aside()).unwrap();
        let console = more.contains(&"CONSOLE").then(|| Console::new(place.path()));
        let more: Vec<&str> = more
            .iter()
            .filter(|word| !word.contains(' '))
            .map(|word| if *word == "CONSOLE" { console.as_ref().unwrap().path() } else { word })
            .collect();
        for verb in ["run", "create"] {
            let words = more.iter().filter(|word| verb == "run" || **word != "--detach");
            let args: Vec<&str> =
                [verb].into_iter().chain(words.copied()).chain([case.id.as_str()]).collect();
            let said = case.call(&args);
            if said.code == 0 && verb == "run" && !maybe {
                problems.push(format!("{what}: `run` succeeded"));
            }
            if said.code == 0 {
                // Some of it is only tried at the start.
                case.delete_force();
            } else if said.err.contains("panicked") || said.err.trim().is_empty() {
                problems.push(format!("{what}: `{verb}` says {:?}", said.err));
            }
            if let Some(words) = left(&case) {
                problems.push(format!("{what}: `{verb}` left {words}"));
                case.delete_force();
            }
        }
    }
    node.assert_untouched("a pid file");
    judge(&problems, WAYS.len());
    if case.runtime.kind == Kind::Corten {
        case.assert_nothing_left();
    }
}

fn judge(problems: &[String], ways: usize) {
    if matches!(Runtime::under_test().kind, Kind::Runc | Kind::Crun) {
        println!("{ways} ways; {} has these: {problems:#?}", Runtime::under_test().version);
        return;
    }
    assert!(problems.is_empty(), "{} of {ways} ways: {problems:#?}", problems.len());
}

/// An exec that fails leaves the container as it was: its one process, no other in its group, no descriptor, no file.
#[test]
fn failed_execs_leave_nothing() {
    let Some(case) = Case::new("failed-execs") else { return };
    let process = case.sleeps().run_detached();
    let aside = case.bundle.aside();
    let file = |name: &str, value: Value| {
        let path = aside.join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let base = json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": ["true"] });
    let with = |key: &str, value: Value| {
        let mut process = base.clone();
        process[key] = value;
        process
    };
    let files = [
        file("profile", with("apparmorProfile", "corten-test-missing".into())),
        file(
            "limit",
            with(
                "rlimits",
                json!([{ "type": "RLIMIT_NOFILE", "soft": 2_000_000_000_u64, "hard": 2_000_000_000_u64 }]),
            ),
        ),
        file("directory", with("cwd", "/etc/passwd".into())),
        file("nothing", with("args", json!([]))),
        file("program", with("args", json!(["/bin/missing"]))),
        file("terminal", with("terminal", true.into())),
        file("broken", json!("no process")),
    ];
    let mut ways: Vec<Vec<&str>> = vec![
        vec!["ID", "missing"],
        vec!["ID", "/etc/passwd"],
        vec!["ID"],
        vec!["--cwd", "/etc/passwd", "ID", "true"],
        vec!["--cwd", "/missing", "ID", "true"],
        vec!["--user", "nobody", "ID", "true"],
        vec!["--process", "/corten-test-missing", "ID"],
        vec!["--pid-file", "/corten-test-missing/pid", "--detach", "ID", "sleep", "1000"],
        vec!["--tty", "--console-socket", "/corten-test-missing", "ID", "true"],
        vec!["--preserve-fds", "9", "ID", "true"],
        vec!["corten-test-no-such-container", "true"],
    ];
    ways.extend(files.iter().map(|path| vec!["--process", path, "--detach", "ID"]));
    let group = process.groups();
    let count = || group.read("cgroup.procs").unwrap_or_default().lines().count();
    let before: Vec<_> = case.entries();
    let state = Witness::of(case.state_dir.path().join(&case.id));
    let mut problems = Vec::new();
    for way in &ways {
        let args: Vec<&str> = ["exec"]
            .into_iter()
            .chain(way.iter().map(|word| if *word == "ID" { &case.id } else { *word }))
            .collect();
        let said = case.call(&args);
        if said.code == 0 {
            problems.push(format!("{way:?}: succeeded"));
        }
        let end = Instant::now() + Duration::from_secs(3);
        while count() != 1 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if count() != 1 {
            problems.push(format!("{way:?}: {} processes are in the group", count()));
        }
        if !process.lives() || case.entries() != before {
            problems.push(format!("{way:?}: the container is not as it was"));
        }
    }
    if Runtime::under_test().kind == Kind::Corten {
        state.assert_untouched("the state of the container");
    }
    case.delete_force();
    judge(&problems, ways.len());
    case.assert_nothing_left();
}

/// The runtime is killed (SIGKILL) after each of 40 delays, so at about every step of a start. What it had begun goes by itself, or
/// by one `delete --force`, which need not know how far it came.
#[test]
fn a_runtime_that_is_killed_at_any_point_leaves_what_delete_removes() {
    let Some(case) = Case::new("killed") else { return };
    case.sleeps().hook("createRuntime", "sleep 0.01").mount("/mnt", "tmpfs", "tmpfs", &[]);
    let mut problems = Vec::new();
    for step in 0..40_u64 {
        let null = std::process::Stdio::null;
        let verb: &[&str] = if step % 2 == 0 { &["create"] } else { &["run", "--detach"] };
        let args: Vec<&str> = verb.iter().copied().chain([case.id.as_str()]).collect();
        let mut child = case.command(&args).stdout(null()).stderr(null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(1500 * step));
        let _ = child.kill();
        let _ = child.wait();
        let said = case.call(&["delete", "--force", &case.id]);
        if said.code != 0 {
            problems.push(format!("after {step}: delete says {}", said.err));
            let _ = case.call(&["delete", "--force", &case.id]);
        }
        if let Some(words) = left(&case) {
            problems.push(format!("after {step}: left {words}"));
        }
    }
    judge(&problems, 40);
    if case.runtime.kind == Kind::Corten {
        case.assert_nothing_left();
    }
}
