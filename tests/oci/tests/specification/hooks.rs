//! config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle": when each hook runs, where, and what it gets.

use oci_suite::{Case, Kind, Process, differs, lacks, output};
use serde_json::{Value, json};

pub const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The file to which hooks write; startContainer sees it at the same place, because its folder is mounted there.
fn told(case: &Case) -> String {
    let folder = case.bundle.aside();
    let path = folder.to_str().unwrap().to_owned();
    case.mount(&path, "bind", &path, &["bind"]);
    format!("{path}/told")
}

fn lines(file: &str) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn the_six_kinds_run_in_their_order_and_each_at_its_step() {
    let Some(case) = Case::new("hook-order") else { return };
    let file = told(&case);
    for kind in KINDS {
        case.hook(kind, &format!("cat > /dev/null; echo {kind} >> {file}"));
        case.hook(kind, &format!("cat > /dev/null; echo {kind}-2 >> {file}"));
    }
    case.script(&format!("echo program >> {file}; exec sleep 1000"));
    let _ = case.create();
    let created = [
        "prestart",
        "prestart-2",
        "createRuntime",
        "createRuntime-2",
        "createContainer",
        "createContainer-2",
    ];
    if case.runtime.kind == Kind::Runc {
        // The rest of the order cannot be looked at then.
        let words = "runtime.md, Lifecycle, step 9: \"The poststart hooks MUST be invoked by the runtime\" after step 8, start";
        return differs(&[Kind::Runc], words, || assert_eq!(lines(&file), created));
    }
    assert_eq!(lines(&file), created);
    if lacks(&[Kind::Crun], "that start comes back after the hooks of start") {
        return;
    }
    case.start();
    output::until("the program", || lines(&file).iter().any(|line| line == "program").then_some(()));
    let told = lines(&file);
    assert_eq!(told[6..8], ["startContainer", "startContainer-2"]);
    let rest: Vec<_> = told[8..].iter().filter(|line| *line != "program").collect();
    assert_eq!(rest, ["poststart", "poststart-2"], "start comes back after poststart");
    case.delete_force();
    assert_eq!(lines(&file)[11..], ["poststop", "poststop-2"]);
    case.assert_nothing_left();
}

#[test]
fn each_hook_gets_the_state_with_its_status_on_standard_input() {
    let Some(case) = Case::new("hook-state") else { return };
    let folder = case.bundle.aside();
    let path = folder.to_str().unwrap();
    case.mount(path, "bind", path, &["bind"]);
    for kind in KINDS {
        case.hook(kind, &format!("cat > {path}/{kind}"));
    }
    case.edit(|config| config["annotations"] = json!({ "com.example.key": "a value" }));
    case.sleeps();
    let process = case.create();
    case.start();
    case.delete_force();
    for (kind, status) in
        KINDS.iter().zip(["creating", "creating", "creating", "created", "running", "stopped"])
    {
        let text = std::fs::read_to_string(folder.join(kind)).unwrap_or_default();
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{kind} got {text:?}"));
        assert_eq!(state["id"], json!(case.id), "{kind}");
        // crun names `/` to a hook in the container's root.
        if *kind != "startContainer" || case.runtime.kind != Kind::Crun {
            assert_eq!(state["bundle"], json!(case.bundle.path()), "{kind}");
        }
        assert_eq!(state["annotations"]["com.example.key"], "a value", "{kind}");
        assert!(
            state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")),
            "{kind}: {state}"
        );
        if *kind != "poststop" && *kind != "startContainer" && *kind != "createContainer" {
            assert_eq!(state["pid"], json!(process.pid), "{kind}: {state}");
        }
        let words = "runtime.md, State: status is \"creating: the container is being created (step 2 in the lifecycle)\", \
            \"created\", \"running\" or \"stopped\"";
        let peers: &[Kind] = match *kind {
            "startContainer" => &[Kind::Runc, Kind::Crun],
            "poststart" => &[Kind::Runc],
            "prestart" | "createRuntime" | "createContainer" => &[Kind::Crun],
            _ => &[],
        };
        let peers: Vec<Kind> = peers.iter().copied().filter(|_| state["status"] != status).collect();
        differs(&peers, words, || assert_eq!(state["status"], status, "{kind}: {state}"));
    }
}

#[test]
fn a_hook_has_its_own_arguments_and_environment_and_nothing_of_the_callers() {
    let Some(case) = Case::new("hook-env") else { return };
    let file = case.bundle.aside().join("told");
    let script =
        format!("{{ echo \"$0|$1|$2\"; tr '\\0' '\\n' < /proc/self/environ; }} > {}", file.display());
    case.edit(|config| {
        config["hooks"]["createRuntime"] = json!([{
            "path": "/bin/sh",
            "args": ["other-name", "-c", script, "zero", "one", "two"],
            "env": ["PATH=/bin:/usr/bin", "ONE=1"],
        }]);
    });
    let _ = case.run().good();
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.remove(0), "zero|one|two");
    lines.sort_unstable();
    // tr's own environment is what the hook's shell exports.
    lines.retain(|line| !line.starts_with("PWD=") && !line.starts_with("OLDPWD=") && !line.starts_with("_="));
    assert_eq!(lines, ["ONE=1", "PATH=/bin:/usr/bin"]);
}

#[test]
fn a_hook_need_not_read_its_state() {
    let Some(case) = Case::new("hook-deaf") else { return };
    if lacks(&[Kind::Crun], "how to live through a hook that closes its standard input") {
        return;
    }
    case.edit(|config| config["annotations"] = json!({ "large": "x".repeat(200_000) }));
    for kind in KINDS {
        case.edit(|config| config["hooks"][kind] = json!([{ "path": "/bin/true", "timeout": 10 }]));
    }
    let _ = case.run().good();
    case.assert_nothing_left();
}

#[test]
fn a_hook_without_args_gets_its_path_as_the_only_one() {
    let Some(case) = Case::new("hook-noargs") else { return };
    let program = case.bundle.aside().join("hook");
    let file = case.bundle.aside().join("told");
    std::fs::write(&program, format!("#!/bin/sh\necho $# > {}\n", file.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    case.edit(|config| config["hooks"]["createRuntime"] = json!([{ "path": program }]));
    let _ = case.run().good();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "0\n");
}

#[test]
fn hooks_run_in_the_namespace_of_the_specification() {
    let Some(case) = Case::new("hook-namespace") else { return };
    let file = told(&case);
    for kind in KINDS {
        case.hook(
            kind,
            &format!("echo {kind} $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts) >> {file}"),
        );
    }
    case.sleeps();
    let process = case.create();
    case.start();
    let container = format!("{} {}", process.namespace("mnt"), process.namespace("uts"));
    case.delete_force();
    let own = Process::own();
    let told = lines(&file);
    assert_eq!(told.len(), 6, "{told:?}");
    for line in told {
        let (kind, seen) = line.split_once(' ').unwrap();
        if matches!(kind, "createContainer" | "startContainer") {
            assert_eq!(seen, container, "{kind} runs in the container namespace");
            continue;
        }
        // crun has a mount namespace of its own here.
        let peer = case.runtime.kind == Kind::Crun;
        let host = if peer {
            own.namespace("uts")
        } else {
            format!("{} {}", own.namespace("mnt"), own.namespace("uts"))
        };
        assert!(seen.ends_with(&host), "{kind} runs in the runtime namespace: {seen}");
    }
}

#[test]
fn the_program_of_create_container_is_the_hosts_and_of_start_container_the_containers() {
    let Some(case) = Case::new("hook-path") else { return };
    let file = told(&case);
    let host = case.bundle.aside().join("only-host");
    std::fs::write(&host, format!("#!/bin/sh\necho host >> {file}\n")).unwrap();
    std::fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    case.bundle.program("only-container", format!("#!/bin/sh\necho container >> {file}\n").as_bytes());
    case.edit(|config| {
        config["hooks"]["createContainer"] = json!([{ "path": host }]);
        config["hooks"]["startContainer"] = json!([{ "path": "/bin/only-container" }]);
    });
    let _ = case.run().good();
    assert_eq!(lines(&file), ["host", "container"]);
}

#[test]
fn create_container_runs_before_the_root_is_changed() {
    let Some(case) = Case::new("hook-pivot") else { return };
    let file = told(&case);
    let root = case.bundle.root();
    // The host's tree is still there, and the container's mounts are already below the root.
    case.hook(
        "createContainer",
        &format!(
            "test -d {0}/bin && grep -q ' {0}/proc ' /proc/self/mountinfo && echo both > {file}",
            root.display()
        ),
    );
    let _ = case.run().good();
    assert_eq!(lines(&file), ["both"]);
}

/// config.md, "createRuntime Hooks": "called after the runtime environment has been created (according to the configuration in
/// config.json) but before pivot_root"; what belongs to it is mounted, and a namespace that is joined by path is joined.
#[test]
fn hooks_of_the_runtime_see_mounts_and_namespaces_of_the_container() {
    let Some(case) = Case::new("hook-view") else { return };
    let file = told(&case);
    // A network namespace of somebody else's, as every pod has it.
    let mut holder = std::process::Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    output::until("the namespace", || (std::fs::read_link(&path).ok()? != own).then_some(()));
    case.namespace("network", Some(&path));
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net >> {file}; grep -c ' {}/dev/pts ' /proc/$pid/mountinfo >> {file}",
        case.bundle.root().display()
    );
    for kind in ["prestart", "createRuntime"] {
        case.hook(kind, &script);
    }
    let _ = case.sleeps().create();
    let wanted = std::fs::read_link(&path).unwrap().display().to_string();
    let told = lines(&file);
    case.delete_force();
    let _ = holder.kill();
    let _ = holder.wait();
    assert_eq!(told.len(), 4, "{told:?}");
    for pair in told.chunks(2) {
        assert_eq!(pair[0], wanted, "{told:?}");
        assert_eq!(pair[1], "1", "{told:?}");
    }
    case.assert_nothing_left();
}
