//! The words and forms that the callers of runc look for.

use super::Place;
use serde_json::{Value, json};

/// containerd's shim (`pkg/process/utils.go`, `checkKillError`; `go-runc`), Podman and conmon
/// (`libpod/oci_conmon_common.go`), CRI-O (`internal/oci/runtime_oci.go`) tell failures apart by these.
#[test]
fn failures_have_the_words_that_callers_look_for() {
    let Some(place) = Place::running("words", &["true"]) else { return };
    for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps", "update", "events"] {
        let said = place.bad(1, &[verb, &place.id]);
        assert!(said.contains("container does not exist"), "{verb}: {said}");
    }
    assert!(place.bad(255, &["exec", &place.id, "true"]).contains("does not exist"));
    place.good(&["delete", "--force", &place.id]);
    place.good(&["create", &place.id]);
    assert!(place.bad(1, &["create", &place.id]).contains("container with given ID already exists"));
    place.good(&["start", &place.id]);
    place.await_status("stopped");
    assert!(place.bad(1, &["kill", &place.id, "9"]).contains("container not running"));
    place.good(&["kill", "--all", &place.id, "9"]);
    assert!(place.bad(1, &["start", &place.id]).contains("cannot start a container that has stopped"));
    assert!(place.bad(255, &["exec", &place.id, "true"]).contains("cannot exec in a stopped container"));
    assert_eq!(place.good(&["ps", "-f", "json", &place.id]), "[]\n");
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn an_error_is_one_line_on_standard_error_and_one_record_in_the_log() {
    let Some(place) = Place::running("one-line", &["true"]) else { return };
    let log = place.dir.path().join("log.json");
    let options = ["--log", log.to_str().unwrap(), "--log-format=json"];
    std::fs::write(place.bundle().join("config.json"), "{\n\"ociVersion\":\n7}").unwrap();
    for args in [vec!["create", &place.id], vec!["state", "missing"], vec!["kill", "missing", "NO\nSUCH"]] {
        let before = std::fs::read_to_string(&log).unwrap_or_default().lines().count();
        let said = place.bad(1, &[&options[..], &args].concat());
        assert_eq!(said.lines().count(), 1, "{said}");
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), before + 1, "{text}");
        let record: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&record["level"], &record["msg"]), (&json!("error"), &json!(said.trim_end())));
    }
    for args in [vec!["state", "--nothing", "x"], vec!["nothing"], vec!["kill"]] {
        place.bad(1, &[&options[..], &args].concat());
        let text = std::fs::read_to_string(&log).unwrap();
        let record: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let said = record["msg"].as_str().unwrap();
        assert!(said.contains("argument") || said.contains("subcommand"), "{args:?}: {text}");
    }
    place.assert_nothing_left();
}

#[test]
fn the_version_is_three_lines_that_go_runc_splits() {
    let Some(place) = Place::new("version") else { return };
    for flag in ["--version", "-v", "-version"] {
        let text = String::from_utf8(place.run(&[flag]).stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0].split("version ").count(), 2, "{text}");
        assert_eq!((&lines[1][..8], lines[2]), ("commit: ", "spec: 1.3.0"));
    }
    let help = String::from_utf8(place.run(&["--help"]).stdout).unwrap();
    for word in ["create", "update", "--systemd-cgroup", "--rootless", "Exit status", "$XDG_RUNTIME_DIR"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn checkpoints_are_refused_by_name() {
    let Some(place) = Place::new("checkpoint") else { return };
    for args in [vec!["checkpoint", "--image-path", "/x", "id"], vec!["restore", "--detach", "id"]] {
        assert!(place.bad(1, &args).contains("checkpoint and restore are not offered"));
    }
}

#[test]
fn the_state_has_runcs_fields_in_runcs_order() {
    let Some(place) = Place::running("state-form", &["true"]) else { return };
    place.edit(|config| config["annotations"] = json!({ "k": "v" }));
    place.good(&["create", &place.id]);
    let fields = |text: &str| {
        let line = |line: &str| line.trim().strip_prefix('"')?.split('"').next().map(str::to_owned);
        text.lines().filter_map(line).collect::<Vec<_>>()
    };
    let state = place.good(&["state", &place.id]);
    assert_eq!(
        fields(&state),
        ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "k", "owner"]
    );
    let list = place.good(&["list"]);
    let heading: Vec<&str> = list.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}
