//! What is not done is said, by name, before anything is made.

use super::Place;
use serde_json::{Value, json};

/// Words of the refusal, and what is changed in the specification.
type Case = (&'static str, Box<dyn Fn(&mut Value)>);

#[test]
fn hostile_ids_never_become_paths() {
    let Some(place) = Place::running("ids", &["true"]) else { return };
    std::fs::create_dir(place.root()).unwrap();
    let long = "x".repeat(256);
    for id in ["", ".", "..", "../x", "a/b", "/etc", "a b", "a\nb", "ä", &long, &"x".repeat(2000)] {
        for verb in ["create", "run", "start", "state", "kill", "delete", "ps"] {
            assert!(place.bad(1, &[verb, id]).contains("container id"), "{verb} {id:?}");
        }
        assert!(place.bad(1, &["delete", "--force", id]).contains("container id"), "{id:?}");
    }
    place.assert_nothing_left();
    assert!(!place.dir.path().join("x").exists());
}

#[test]
fn errors_are_records_in_the_log() {
    let Some(place) = Place::new("log") else { return };
    let log = place.dir.path().join("log");
    let path = log.to_str().unwrap();
    let error = place.bad(1, &["--log", path, "--log-format", "json", "state", "missing"]);
    assert!(error.starts_with("container does not exist"), "{error}");
    let text = std::fs::read_to_string(&log).unwrap();
    let record: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(record["level"], "error");
    assert!(record["msg"].as_str().unwrap().starts_with("container does not exist"), "{text}");
    assert_eq!(record["time"].as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
    place.bad(1, &["--log", path, "state", "missing"]);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().nth(1).unwrap().contains(" level=error msg=\"container does not exist"), "{text}");
}

#[test]
fn parts_of_a_specification_that_are_not_built_are_refused_by_name() {
    let Some(place) = Place::running("unbuilt", &["true"]) else { return };
    let original = std::fs::read(place.bundle().join("config.json")).unwrap();
    let cases: Vec<Case> = vec![
        (
            "needs linux.uidMappings",
            Box::new(|c| c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }))),
        ),
        (
            "a new `time` namespace",
            Box::new(|c| c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1 } })),
        ),
        ("not absolute", Box::new(|c| c["hooks"] = json!({ "createContainer": [{ "path": "bin/true" }] }))),
        (
            "above 0",
            Box::new(|c| c["hooks"] = json!({ "startContainer": [{ "path": "/bin/true", "timeout": 0 }] })),
        ),
        ("process.terminal", Box::new(|c| c["process"]["terminal"] = json!(true))),
        ("cgroup", Box::new(|c| c["linux"]["cgroupsPath"] = json!("/../x"))),
        ("ociVersion", Box::new(|c| c["ociVersion"] = json!("2.0"))),
        ("process.args", Box::new(|c| c["process"]["args"] = json!([]))),
    ];
    for (words, change) in cases {
        std::fs::write(place.bundle().join("config.json"), &original).unwrap();
        place.edit(change);
        let error = place.bad(1, &["create", &place.id]);
        assert!(error.contains(words), "{words}: {error}");
        place.assert_nothing_left();
    }
    for broken in ["", "{", "[]", "{\"ociVersion\":\"1.0.0\"}"] {
        std::fs::write(place.bundle().join("config.json"), broken).unwrap();
        place.bad(1, &["create", &place.id]);
        place.assert_nothing_left();
    }
    assert!(place.bad(1, &["create", "--bundle", "/nonexistent", &place.id]).contains("/nonexistent"));
    std::fs::write(place.bundle().join("config.json"), &original).unwrap();
    if !std::path::Path::new("/run/systemd/system").exists() {
        assert!(
            place.bad(1, &["--systemd-cgroup", "create", &place.id]).contains("not started with systemd")
        );
    }
    place.assert_nothing_left();
}

#[test]
fn launches_that_fail_take_everything_back() {
    let Some(place) = Place::new("launch") else { return };
    let original = std::fs::read(place.bundle().join("config.json")).unwrap();
    let cases: Vec<Case> = vec![
        ("executable file not found in $PATH", Box::new(|c| c["process"]["args"] = json!(["nothing"]))),
        ("permission denied", Box::new(|c| c["process"]["args"] = json!(["/etc"]))),
        ("does not exist", Box::new(|c| c["root"]["path"] = json!("missing"))),
        (
            "does not exist on the node",
            Box::new(|c| {
                c["mounts"].as_array_mut().unwrap().push(
                json!({ "destination": "/x", "type": "bind", "source": "/nonexistent", "options": ["bind"] }),
            );
            }),
        ),
        (
            "namespace",
            Box::new(|c| {
                for namespace in c["linux"]["namespaces"].as_array_mut().unwrap() {
                    if namespace["type"] == "network" {
                        namespace["path"] = json!("/nonexistent/net");
                    }
                }
            }),
        ),
    ];
    for (words, change) in cases {
        std::fs::write(place.bundle().join("config.json"), &original).unwrap();
        place.edit(change);
        for verb in ["create", "run"] {
            let error = place.bad(1, &[verb, &place.id]);
            assert!(error.contains(words), "{words}: {error}");
            place.assert_nothing_left();
        }
    }
}

#[test]
fn a_group_with_other_processes_is_not_taken() {
    let Some(place) = Place::running("foreign", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    let group = format!("/{}", place.id);
    place.edit(|config| config["linux"]["cgroupsPath"] = json!(group));
    let second = format!("{}-b", place.id);
    assert!(place.bad(1, &["create", &second]).contains("is not empty"));
    assert_eq!(place.status(), "running");
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn spec_overwrites_nothing_and_features_are_json() {
    let Some(place) = Place::new("spec") else { return };
    assert!(place.bad(1, &["spec"]).contains("exists"));
    let features: Value = serde_json::from_str(&place.good(&["features"])).unwrap();
    assert_eq!(features["linux"]["cgroup"]["systemd"], true);
    assert!(
        place.good(&["--version"]).starts_with("corten-oci version ")
            || place.good(&["--version"]).starts_with("corten-oci ")
    );
    assert_eq!(place.run(&["checkpoint", "x"]).status.code(), Some(1));
}
