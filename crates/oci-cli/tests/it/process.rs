//! What a process of the specification has beside its program.

use super::Place;
use serde_json::{Value, json};

fn output(place: &Place, script: &str) -> String {
    place.edit(|config| config["process"]["args"] = json!(["sh", "-c", script]));
    let output = place.run(&["run", &place.id]);
    assert!(output.status.success(), "{output:?}");
    place.assert_nothing_left();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Fields 19 and 41 of proc_pid_stat(5): nice and policy; the name in field 2 is `sh` or `cat`.
fn nice_and_policy(stat: &str) -> (String, String) {
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[19 - 3].to_owned(), fields[41 - 3].to_owned())
}

#[test]
fn scheduler_and_io_priority_are_set() {
    let Some(place) = Place::new("scheduler") else { return };
    place.edit(|config| {
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 3 });
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    });
    let text = output(&place, "cat /proc/self/stat; busybox ionice");
    assert_eq!(nice_and_policy(text.lines().next().unwrap()), ("3".into(), "3".into()));
    assert!(text.contains("idle"), "{text}");
    let wrong: [(Value, &str); 4] = [
        (json!({ "policy": "SCHED_FIFO", "priority": 1000 }), "0 to 99"),
        (json!({ "policy": "SCHED_OTHER", "priority": 1 }), "SCHED_FIFO"),
        (json!({ "policy": "SCHED_OTHER", "runtime": 1 }), "SCHED_DEADLINE"),
        (
            json!({ "policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 1, "period": 1 }),
            "cannot set process.scheduler",
        ),
    ];
    for (scheduler, words) in wrong {
        place.edit(|config| config["process"]["scheduler"] = scheduler);
        assert!(place.bad(1, &["run", &place.id]).contains(words), "{words}");
        place.assert_nothing_left();
    }
}

#[test]
fn an_exec_starts_and_ends_up_on_the_cpus_that_it_should() {
    let Some(place) = Place::running("affinity", &["sleep", "100"]) else { return };
    if std::thread::available_parallelism().is_ok_and(|n| n.get() < 2) {
        eprintln!("SKIPPED affinity: needs two CPUs");
        return;
    }
    place.edit(|config| config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "1" }));
    place.good(&["run", "-d", &place.id]);
    let cpus = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    };
    let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    assert_eq!(cpus(&state["pid"].to_string()), cpus("self"), "it is for exec alone");
    let exec = place.run(&["exec", &place.id, "grep", "Cpus_allowed_list", "/proc/self/status"]);
    assert_eq!(String::from_utf8_lossy(&exec.stdout).split_whitespace().last(), Some("1"), "{exec:?}");
    place.good(&["delete", "-f", &place.id]);
    place.edit(|config| config["process"]["execCPUAffinity"] = json!({ "final": "1000" }));
    place.good(&["run", "-d", &place.id]);
    assert!(place.bad(255, &["exec", &place.id, "true"]).contains("CPUs"));
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn personality_memory_policy_umask_and_rlimits_are_set() {
    let Some(place) = Place::new("domain") else { return };
    place.edit(|config| {
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
        config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" });
        config["process"]["user"]["umask"] = json!(0o27);
        config["process"]["rlimits"] =
            json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }, { "type": "RLIMIT_RTTIME", "soft": 5000000, "hard": 6000000 }]);
    });
    let text = output(
        &place,
        "busybox uname -m; umask; ulimit -n; ulimit -Hn; grep realtime /proc/self/limits; grep -m1 bind /proc/self/numa_maps",
    );
    let mut lines = text.lines();
    let machine = lines.next().unwrap();
    assert!(["i686", "armv8l", "armv7l"].contains(&machine), "{text}");
    assert_eq!(lines.by_ref().take(3).collect::<Vec<_>>(), ["0027", "100", "200"], "{text}");
    assert!(text.contains("5000000"), "{text}");
    assert!(text.contains("bind:0") || !std::path::Path::new("/proc/self/numa_maps").exists(), "{text}");
    for (policy, words) in [
        (json!({ "mode": "MPOL_BIND", "nodes": "1000" }), "linux.memoryPolicy"),
        (json!({ "mode": "MPOL_BIND", "nodes": "x" }), "linux.memoryPolicy.nodes"),
    ] {
        place.edit(|config| config["linux"]["memoryPolicy"] = policy);
        assert!(place.bad(1, &["run", &place.id]).contains(words), "{words}");
        place.assert_nothing_left();
    }
}

#[test]
fn a_container_has_a_session_keyring_of_its_own_unless_it_is_told_not_to() {
    let Some(place) = Place::new("keyring") else { return };
    if !std::path::Path::new("/proc/keys").exists() {
        eprintln!("SKIPPED keyring: this kernel has no keyrings");
        return;
    }
    let name = format!("_ses.{}", place.id);
    place.edit(|config| config["linux"]["maskedPaths"] = json!([]));
    // In this order, for a keyring outlives its last process by a moment.
    place.edit(|config| config["process"]["args"] = json!(["cat", "/proc/keys"]));
    let without = place.run(&["run", "--no-new-keyring", &place.id]);
    assert!(without.status.success(), "{without:?}");
    assert!(!String::from_utf8_lossy(&without.stdout).contains(&name), "{without:?}");
    assert!(output(&place, "cat /proc/keys").contains(&name));
    // An exec finds it again.
    place.edit(|config| config["process"]["args"] = json!(["sleep", "100"]));
    place.good(&["run", "-d", &place.id]);
    let exec = place.run(&["exec", &place.id, "cat", "/proc/keys"]);
    let text = String::from_utf8_lossy(&exec.stdout).into_owned();
    assert_eq!(text.matches(&name).count(), 1, "{text}");
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn capabilities_that_cannot_be_granted_are_warned_of_and_left_out() {
    let Some(place) = Place::new("capabilities") else { return };
    place.edit(|config| {
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_FLY"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"], "inheritable": [], "ambient": ["CAP_KILL"],
        });
        config["process"]["args"] = json!(["grep", "^Cap", "/proc/self/status"]);
    });
    let output = place.run(&["run", &place.id]);
    let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{output:?}");
    assert!(
        text.contains("CapEff:\t0000000000000021") && text.contains("CapAmb:\t0000000000000000"),
        "{text}"
    );
    assert!(told.contains("CAP_FLY") && told.contains("ambient"), "{told}");
    // A runtime that lacks one itself.
    let mut narrowed = std::process::Command::new("setpriv");
    narrowed.args(["--bounding-set", "-kill", "--", super::PROGRAM, "--root"]).arg(place.root());
    let output = narrowed.args(["run", &place.id]).current_dir(place.bundle()).output().unwrap();
    let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("CapBnd:\t0000000000000001"), "{text}");
    assert!(told.contains("CAP_KILL"), "{told}");
    place.assert_nothing_left();
}

#[test]
fn exec_adds_what_its_options_say() {
    let Some(place) = Place::running("exec-options", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    let exec = place.run(&["exec", "--cap", "CAP_SYS_TIME", &place.id, "grep", "^Cap", "/proc/self/status"]);
    let text = String::from_utf8_lossy(&exec.stdout).into_owned();
    let set = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    assert_ne!(set("CapEff") & 1 << 25, 0, "{text}");
    assert_eq!((set("CapInh") | set("CapAmb")) & 1 << 25, 0, "{text}");
    for (option, value, words) in [
        ("--cap", "CAP_FLY", "CAP_NET_ADMIN"),
        ("--cgroup", "../x", "leads out"),
        ("--cgroup", "missing", "no such cgroup"),
        ("--pidfd-socket", "/nonexistent", "pidfd socket"),
    ] {
        let error = place.bad(255, &["exec", option, value, &place.id, "true"]);
        assert!(error.contains(words), "{option} {value}: {error}");
    }
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn network_devices_move_into_the_container_with_their_addresses() {
    let Some(place) = Place::new("net-devices") else { return };
    // In a network namespace of the test's own, so that the node's is not touched.
    let number = std::process::id() % 10_000;
    let script = format!(
        "ip link add nsd{number} type veth peer name nsp{number} && ip link set nsp{number} up && ip addr add 10.9.8.7/24 dev nsd{number} && ip -6 addr add fd00::7/64 dev nsd{number} nodad && ip link set nsd{number} up && exec \"$@\""
    );
    let run = |verb: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-n", "sh", "-c", &script, "sh", super::PROGRAM, "--root"]).arg(place.root());
        command.args(verb).arg(&place.id).current_dir(place.bundle()).output().unwrap()
    };
    if !std::path::Path::new("/sbin/ip").exists() && !std::path::Path::new("/usr/sbin/ip").exists() {
        eprintln!("SKIPPED net-devices: ip is missing (Debian: iproute2)");
        return;
    }
    place.edit(|config| {
        config["linux"]["netDevices"] = json!({ format!("nsd{number}"): { "name": "inside0" } });
        config["process"]["args"] = json!(["sh", "-c", "busybox ip addr show inside0"]);
    });
    for users in [false, true] {
        if users {
            place.edit(super::namespaces::with_users);
        }
        let output = run(&["run"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(text.contains("10.9.8.7/24") && text.contains("fd00::7/64") && text.contains("UP"), "{text}");
        place.assert_nothing_left();
    }
    let cases = [
        (json!({ "no-such-dev0": {} }), "no such network device"),
        (json!({ format!("nsd{number}"): { "name": "lo" } }), "already"),
        (json!({ format!("nsd{number}"): { "name": "a/b" } }), "15 bytes"),
    ];
    for (devices, words) in cases {
        place.edit(|config| config["linux"]["netDevices"] = devices);
        let output = run(&["run"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{words}: {output:?}");
        place.assert_nothing_left();
    }
    place.edit(|config| {
        config["linux"]["netDevices"] = json!({ format!("nsd{number}"): { "name": "eth%d" } });
        config["process"]["args"] = json!(["busybox", "ip", "link", "show", "eth0"]);
    });
    assert!(run(&["run"]).status.success());
    place.edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network")
    });
    let output = run(&["create"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("`network` namespace"), "{output:?}");
    place.assert_nothing_left();
}

#[test]
fn intel_rdt_without_resctrl_says_what_is_missing() {
    let Some(place) = Place::running("rdt", &["true"]) else { return };
    if std::fs::read_to_string("/proc/self/mounts").unwrap().contains(" resctrl ") {
        eprintln!("SKIPPED rdt: this machine has resctrl");
        return;
    }
    place.edit(|config| config["linux"]["intelRdt"] = json!({ "closID": "x", "schemata": ["L3:0=f"] }));
    assert!(place.bad(1, &["run", &place.id]).contains("/sys/fs/resctrl"));
    place.assert_nothing_left();
}

#[test]
fn thousands_of_groups_are_taken() {
    let Some(place) = Place::new("groups") else { return };
    let groups: Vec<u32> = (0..5000).map(|number| 4_000_000_000 + number).collect();
    place.edit(|config| config["process"]["user"]["additionalGids"] = json!(groups));
    let said = output(&place, "grep Groups: /proc/self/status | busybox wc -w");
    assert_eq!(said.trim(), "5001", "the heading and the groups");
}
