//! From create to delete.

use super::Place;
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn a_container_goes_through_its_states_and_leaves_nothing() {
    let Some(place) = Place::running("life", &["sh", "-c", "echo started > /tmp/mark; sleep 100"]) else {
        return;
    };
    place.edit(|config| {
        config["root"]["readonly"] = json!(false);
        config["annotations"] = json!({ "a": "b" });
    });
    let pid_file = place.dir.path().join("pid");
    place.good(&["create", "--pid-file", pid_file.to_str().unwrap(), &place.id]);
    let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], place.id);
    assert_eq!(state["annotations"]["a"], "b");
    assert_eq!(state["owner"], "root");
    assert_eq!(state["bundle"], place.bundle().to_str().unwrap());
    assert_eq!(state["rootfs"], place.bundle().join("rootfs").to_str().unwrap());
    assert_eq!(state["pid"].to_string(), std::fs::read_to_string(&pid_file).unwrap());
    assert!(!place.groups().is_empty());
    let mark = place.bundle().join("rootfs/tmp/mark");
    assert!(!mark.exists(), "the program ran before start");

    place.good(&["start", &place.id]);
    place.await_status("running");
    let start = std::time::Instant::now();
    while !mark.exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "the program does not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(place.bad(1, &["start", &place.id]).contains("runs already"));
    assert!(place.bad(1, &["delete", &place.id]).contains("not stopped"));
    let pids: Vec<i32> = serde_json::from_str(&place.good(&["ps", "--format", "json", &place.id])).unwrap();
    assert!(pids.iter().any(|pid| *pid == state["pid"]), "{pids:?} {state}");
    assert_eq!(place.good(&["list", "-q"]), format!("{}\n", place.id));
    assert!(place.good(&["list"]).contains(" running "));
    let list: Value = serde_json::from_str(&place.good(&["list", "-f", "json"])).unwrap();
    assert_eq!(list[0]["status"], "running");

    place.good(&["kill", &place.id, "KILL"]);
    place.await_status("stopped");
    assert!(place.bad(1, &["kill", &place.id, "KILL"]).contains("container not running"));
    assert!(place.bad(255, &["exec", &place.id, "true"]).contains("stopped container"));
    let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    assert_eq!(state["pid"], 0);
    place.good(&["delete", &place.id]);
    assert!(place.bad(1, &["delete", &place.id]).contains("container does not exist"));
    place.good(&["delete", "--force", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn run_answers_the_programs_exit_code() {
    let Some(place) = Place::new("run") else { return };
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 0)] {
        // The first process of a PID namespace is not killed by itself (pid_namespaces(7)).
        place.edit(|config| config["process"]["args"] = json!(["sh", "-c", script]));
        assert_eq!(place.run(&["run", &place.id]).status.code(), Some(code), "{script}");
        place.assert_nothing_left();
    }
    place.edit(|config| config["process"]["args"] = json!(["sh", "-c", "echo out; echo err >&2; hostname"]));
    let output = place.run(&["run", &place.id]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\ncorten\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
}

#[test]
fn a_signal_to_run_reaches_the_container() {
    let Some(place) =
        Place::running("signal", &["sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"])
    else {
        return;
    };
    let mut child = place.command(&["run", &place.id]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line, "up\n");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    place.assert_nothing_left();
}

#[test]
fn a_detached_container_outlives_the_program_and_keep_keeps_it() {
    let Some(place) = Place::running("detached", &["sleep", "100"]) else { return };
    place.good(&["run", "--detach", &place.id]);
    assert_eq!(place.status(), "running");
    place.good(&["delete", "--force", &place.id]);
    place.assert_nothing_left();
    place.edit(|config| config["process"]["args"] = json!(["true"]));
    place.good(&["run", "--keep", &place.id]);
    assert_eq!(place.status(), "stopped");
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn kill_all_ends_every_process_without_a_pid_namespace() {
    let Some(place) = Place::running("kill-all", &["sh", "-c", "sleep 100 & sleep 100 & wait"]) else {
        return;
    };
    place.edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    place.good(&["run", "-d", &place.id]);
    let count = || {
        let text = place.run(&["ps", "-f", "json", &place.id]).stdout;
        serde_json::from_slice::<Vec<i32>>(&text).map(|pids| pids.len()).unwrap_or(0)
    };
    let start = std::time::Instant::now();
    while count() < 3 {
        assert!(start.elapsed() < Duration::from_secs(10), "{} processes", count());
        std::thread::sleep(Duration::from_millis(5));
    }
    place.good(&["kill", "--all", &place.id, "TERM"]);
    place.await_status("stopped");
    place.good(&["kill", "--all", &place.id, "KILL"]);
    assert_eq!(count(), 0);
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn a_created_container_that_never_starts_is_deleted() {
    let Some(place) = Place::running("never", &["true"]) else { return };
    place.good(&["create", &place.id]);
    assert!(place.bad(1, &["create", &place.id]).contains("already exists"));
    assert_eq!(place.status(), "created");
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
    // Killed while it waits.
    place.good(&["create", &place.id]);
    place.good(&["kill", &place.id, "9"]);
    place.await_status("stopped");
    assert!(place.bad(1, &["start", &place.id]).contains("has stopped"));
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn limits_reach_the_cgroup() {
    let Some(place) = Place::running("limits", &["sleep", "100"]) else { return };
    place.edit(|config| {
        config["linux"]["resources"]["pids"] = json!({ "limit": 32 });
        config["linux"]["resources"]["memory"] = json!({ "limit": 33_554_432 });
    });
    place.good(&["run", "-d", &place.id]);
    let read = |names: &[&str]| {
        let files = place.groups().into_iter().flat_map(|group| names.iter().map(move |n| group.join(n)));
        files.filter_map(|file| std::fs::read_to_string(file).ok()).collect::<Vec<_>>()
    };
    assert_eq!(read(&["pids.max"]), ["32\n"]);
    let memory = read(&["memory.max", "memory.limit_in_bytes"]);
    assert!(memory.is_empty() || memory == ["33554432\n"], "{memory:?}");
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn hooks_get_the_state_and_a_failing_one_takes_everything_back() {
    let Some(place) = Place::running("hooks", &["true"]) else { return };
    let told = place.dir.path().join("told");
    let hook = |moment: &str| {
        let script = format!("echo {moment} $(cat) >> {}; env >> {0}.env", told.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 10 }])
    };
    place.edit(|config| {
        config["hooks"] = json!({
            "prestart": hook("prestart"),
            "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"),
            "poststop": hook("poststop"),
        });
    });
    place.good(&["run", &place.id]);
    let text = std::fs::read_to_string(&told).unwrap();
    let moments: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(moments, ["prestart", "createRuntime", "poststart", "poststop"]);
    let first: Value = serde_json::from_str(text.lines().next().unwrap().split_once(' ').unwrap().1).unwrap();
    assert_eq!((&first["status"], &first["id"]), (&json!("creating"), &json!(place.id)));
    assert!(first["pid"].as_i64().unwrap() > 0);
    let env = std::fs::read_to_string(place.dir.path().join("told.env")).unwrap();
    assert!(!env.contains("CARGO"), "{env}");
    for (hook, words) in [
        (json!([{ "path": "/bin/false" }]), "createRuntime hook"),
        (json!([{ "path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1 }]), "timeout of 1 s"),
        (json!([{ "path": "sleep" }]), "not absolute"),
    ] {
        place.edit(|config| config["hooks"] = json!({ "createRuntime": hook }));
        assert!(place.bad(1, &["run", &place.id]).contains(words), "{words}");
        place.assert_nothing_left();
    }
}

#[test]
fn a_creation_that_was_killed_can_be_deleted() {
    let Some(place) = Place::running("killed", &["true"]) else { return };
    place.edit(|config| {
        config["hooks"] = json!({ "prestart": [{ "path": "/bin/sleep", "args": ["sleep", "2"] }] });
    });
    let mut child = place.command(&["create", &place.id]).spawn().unwrap();
    let start = std::time::Instant::now();
    while place.groups().is_empty() || !place.root().join(&place.id).join("exec.fifo").exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "nothing is made");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.bad(1, &["start", &place.id]).contains("cannot start"));
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn an_empty_folder_of_a_killed_creation_does_not_block_the_name() {
    let Some(place) = Place::running("torn", &["true"]) else { return };
    std::fs::create_dir_all(place.root().join(&place.id)).unwrap();
    assert!(place.bad(1, &["state", &place.id]).contains("delete --force"));
    assert!(place.bad(1, &["run", &place.id]).contains("already exists"));
    place.good(&["delete", "--force", &place.id]);
    place.good(&["run", &place.id]);
    std::fs::create_dir_all(place.root().join(&place.id)).unwrap();
    std::fs::write(place.root().join(&place.id).join("state.json"), "{\"format\":99}").unwrap();
    assert!(place.bad(1, &["delete", &place.id]).contains("another version"));
    place.good(&["delete", "--force", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn namespaces_are_joined_by_path() {
    let Some(place) = Place::running("join", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    let pid = state["pid"].as_i64().unwrap();
    let second = format!("{}-b", place.id);
    place.edit(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap().to_owned();
            let file = if kind == "network" { "net" } else { &kind };
            if ["network", "ipc", "uts", "pid"].contains(&kind.as_str()) {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
            }
        }
        config["process"]["args"] = json!([
            "sh",
            "-c",
            "readlink /proc/1/ns/net /proc/self/ns/net || ls -l /proc/1/ns/net /proc/self/ns/net; ps"
        ]);
        config["hostname"] = json!("");
    });
    let output = place.run(&["run", &second]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("sleep 100"), "the other container's process is not seen: {text}");
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(text.matches(theirs.to_str().unwrap()).count(), 2, "{text}");
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn what_another_version_recorded_is_ended_by_delete_force() {
    let Some(place) = Place::running("versions", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    let path = place.root().join(&place.id).join("state.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let pid = record["process"]["pid"].as_i64().unwrap();
    record["format"] = json!(1);
    record.as_object_mut().unwrap().remove("manager");
    std::fs::write(&path, record.to_string()).unwrap();
    assert!(place.bad(1, &["delete", &place.id]).contains("another version"));
    place.good(&["delete", "--force", &place.id]);
    place.assert_nothing_left();
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}
