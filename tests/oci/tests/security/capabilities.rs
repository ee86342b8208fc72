//! Capabilities that nobody gave.

use oci_suite::Case;

/// `CAP_NET_RAW` and `CAP_KILL`.
const RAW: u64 = 1 << 13;
const KILL: u64 = 1 << 5;

/// The sets of the process that `cat` is, by their names in proc(5).
fn sets(text: &str) -> impl Fn(&str) -> u64 + '_ {
    move |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.unwrap_or_else(|| panic!("no {name} in {text}")).trim_start_matches(':').trim();
        u64::from_str_radix(number, 16).expect("a hexadecimal set")
    }
}

fn assert_nothing_to_inherit(text: &str, what: &str) {
    let set = sets(text);
    assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{what}: {text}");
}

/// `exec --cap` put the capability into the inheritable set, too: a file with inheritable file capabilities then has it for
/// any user of the container (runc until 1.1.1; Debian's is newer).
#[test]
fn cve_2022_29162_exec_with_a_capability_makes_nothing_inheritable() {
    let Some(case) = Case::new("29162") else { return };
    case.sleeps().run_detached();
    let plain = case.call(&["exec", &case.id, "cat", "/proc/self/status"]).good().out;
    assert_nothing_to_inherit(&plain, "exec");
    let asked = case.call(&["exec", "--cap", "CAP_NET_RAW", &case.id, "cat", "/proc/self/status"]).good().out;
    assert_nothing_to_inherit(&asked, "exec --cap");
    assert_eq!(sets(&asked)("CapEff") & RAW, RAW, "the capability that was asked for is there: {asked}");
    assert_eq!(sets(&plain)("CapEff") & RAW, 0, "and only there: {plain}");
    case.delete_force();
    case.assert_nothing_left();
}

/// crun until 1.4.3 gave every container what it was given itself as inheritable. A caller with such a set (a service that
/// has ambient capabilities) must not pass it on, neither to a first process nor to an exec, neither as root nor as a user.
#[test]
fn cve_2022_27650_no_process_inherits_capabilities_of_the_caller() {
    let Some(case) = Case::new("27650") else { return };
    let call = |args: &[&str]| {
        let inner = case.command(args);
        let mut command = std::process::Command::new("setpriv");
        command.args(["--inh-caps=+net_raw,+kill", "--ambient-caps=+net_raw"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.current_dir(case.bundle.path()).stdin(std::process::Stdio::null());
        case.finish(&mut command)
    };
    for uid in [0, 1000] {
        case.edit(|config| config["process"]["user"]["uid"] = uid.into());
        case.args(&["cat", "/proc/self/status"]);
        assert_nothing_to_inherit(&call(&["run", &case.id]).good().out, "run");
        case.sleeps();
        let _ = call(&["run", "--detach", &case.id]).good();
        assert_nothing_to_inherit(&call(&["exec", &case.id, "cat", "/proc/self/status"]).good().out, "exec");
        case.delete_force();
    }
    // Without any `capabilities`: none at all, and not the caller's.
    case.edit(|config| drop(config["process"].as_object_mut().unwrap().remove("capabilities")));
    case.args(&["cat", "/proc/self/status"]);
    let none = call(&["run", &case.id]).good().out;
    assert_nothing_to_inherit(&none, "without capabilities");
    case.assert_nothing_left();
}

/// youki's exec gave the new process more than it was told, by adding up sets: whatever an exec is told, each set is exactly
/// that, and nothing is above the container's bounding set without being asked for.
#[test]
fn cve_2025_27612_exec_has_no_more_capabilities_than_told() {
    let Some(case) = Case::new("27612") else { return };
    case.capabilities(&["CAP_KILL", "CAP_NET_RAW"]).sleeps().run_detached();
    let exec = |process: serde_json::Value| {
        let file = case.bundle.aside().join("process.json");
        std::fs::write(&file, process.to_string()).unwrap();
        case.call(&["exec", "--process", file.to_str().unwrap(), &case.id]).good().out
    };
    let process = |capabilities: serde_json::Value, uid: u32| {
        let mut process = serde_json::json!({
            "user": { "uid": uid, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": ["cat", "/proc/self/status"],
        });
        if !capabilities.is_null() {
            process["capabilities"] = capabilities;
        }
        process
    };
    let one =
        serde_json::json!({ "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] });
    for uid in [0, 1000] {
        let text = exec(process(one.clone(), uid));
        let set = sets(&text);
        let expected = if uid == 0 { KILL } else { 0 };
        assert_eq!(
            (set("CapBnd"), set("CapPrm"), set("CapEff")),
            (KILL, expected, expected),
            "{uid}: {text}"
        );
        assert_nothing_to_inherit(&text, "exec with a process file");
    }
    // Root regains its permitted set from the bounding set at execve (capabilities(7)): told none, it must have none there.
    let empty = serde_json::json!({ "bounding": [], "permitted": [], "effective": [], "inheritable": [], "ambient": [] });
    let text = exec(process(empty, 0));
    let set = sets(&text);
    assert_eq!((set("CapBnd"), set("CapPrm"), set("CapEff")), (0, 0, 0), "{text}");
    // A process file that says nothing of capabilities gets no more than the container has (runc gives it the container's).
    let told_nothing = exec(process(serde_json::Value::Null, 0));
    let set = sets(&told_nothing);
    assert_eq!((set("CapBnd") | set("CapPrm") | set("CapEff")) & !(RAW | KILL), 0, "{told_nothing}");
    assert_nothing_to_inherit(&told_nothing, "exec without capabilities");
    case.delete_force();
    case.assert_nothing_left();
}

/// The five sets are checked against each other: what is ambient has to be permitted and inheritable (capabilities(7)), and a
/// name that nobody knows is not passed over in silence as if it had been given.
#[test]
fn ambient_capabilities_are_only_those_that_the_other_sets_allow() {
    let Some(case) = Case::new("ambient") else { return };
    case.edit(|config| {
        config["process"]["user"]["uid"] = 1000.into();
        config["process"]["capabilities"] =
            serde_json::json!({ "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": ["CAP_NET_RAW"] });
    });
    case.args(&["cat", "/proc/self/status"]);
    let said = case.run();
    if said.code == 0 {
        let set = sets(&said.out);
        assert_eq!(set("CapAmb") & RAW, 0, "{}", said.out);
        assert_eq!(set("CapEff") & RAW, 0, "{}", said.out);
    }
    case.assert_nothing_left();
}
