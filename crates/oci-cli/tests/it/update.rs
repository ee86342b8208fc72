//! Limits of a container that is there are changed.

use super::Place;
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

/// The first of these files that one of the container's groups has.
fn limit(place: &Place, names: &[&str]) -> Option<String> {
    let groups = place.groups();
    let mut files = groups.iter().flat_map(|group| names.iter().map(move |name| group.join(name)));
    files.find_map(|file| std::fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
}

fn memory(place: &Place) -> Option<String> {
    limit(place, &["memory.max", "memory.limit_in_bytes"])
}

fn pids(place: &Place) -> Option<String> {
    limit(place, &["pids.max"])
}

/// What is kept for `exec` and the next `update`.
fn kept(place: &Place) -> Value {
    let file = place.root().join(&place.id).join("config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    config["linux"]["resources"].clone()
}

fn limited(name: &str) -> Option<Place> {
    let place = Place::running(name, &["sleep", "100"])?;
    place.edit(|config| {
        config["linux"]["resources"]["pids"] = json!({ "limit": 32 });
        config["linux"]["resources"]["memory"] = json!({ "limit": 67_108_864 });
    });
    place.good(&["run", "-d", &place.id]);
    if memory(&place).is_none() || pids(&place).is_none() {
        eprintln!("SKIPPED {name}: this machine has no memory or no pids controller");
        return None;
    }
    Some(place)
}

#[test]
fn flags_change_the_limits_and_leave_the_others() {
    let Some(place) = limited("update-flags") else { return };
    place.good(&["update", "--memory", "48m", "--cpu-share", "512", &place.id]);
    assert_eq!(memory(&place).unwrap(), "50331648");
    assert_eq!(pids(&place).unwrap(), "32");
    if let Some(shares) = limit(&place, &["cpu.shares"]) {
        assert_eq!(shares, "512");
    }
    let kept = kept(&place);
    assert_eq!((&kept["memory"]["limit"], &kept["pids"]["limit"]), (&json!(50_331_648), &json!(32)));
    place.good(&["update", "--pids-limit=-1", "--memory=-1", &place.id]);
    assert_eq!(pids(&place).unwrap(), "max");
    assert!(["max", "9223372036854771712"].contains(&memory(&place).unwrap().as_str()));
    assert!(place.run(&["exec", &place.id, "true"]).status.success());
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn a_file_and_standard_input_change_the_limits() {
    let Some(place) = limited("update-file") else { return };
    let file = place.dir.path().join("resources.json");
    std::fs::write(&file, json!({ "memory": { "limit": 33_554_432 }, "pids": null }).to_string()).unwrap();
    place.good(&["update", "--resources", file.to_str().unwrap(), &place.id]);
    assert_eq!((memory(&place).unwrap().as_str(), pids(&place).unwrap().as_str()), ("33554432", "32"));
    // As containerd's client does it.
    let mut child =
        place.command(&["update", "--resources=-", &place.id]).stdin(Stdio::piped()).spawn().unwrap();
    let resources =
        json!({ "pids": { "limit": 20 }, "memory": { "limit": 0 }, "devices": [{ "allow": true }] });
    child.stdin.take().unwrap().write_all(resources.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((memory(&place).unwrap().as_str(), pids(&place).unwrap().as_str()), ("33554432", "20"));
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn a_refused_update_changes_nothing() {
    let Some(place) = limited("update-refused") else { return };
    let before = (kept(&place), memory(&place), pids(&place));
    let deep = place.dir.path().join("bad.json");
    std::fs::write(&deep, "{\"memory\": 5}").unwrap();
    for (args, words) in [
        (vec!["--memory", "much"], "invalid value for memory"),
        (vec!["--cpu-share", "-5"], "invalid value for cpu-share"),
        (vec!["--pids-limit", "x"], "invalid value for pids-limit"),
        (vec!["--resources", "/missing"], "does not exist"),
        (vec!["--resources", deep.to_str().unwrap()], "linux.resources"),
        (vec!["--l3-cache-schema", "L3:0=1"], "is not enabled"),
        // The memory is set first, and the kernel has no such CPU.
        (vec!["--memory", "40m", "--pids-limit", "9", "--cpuset-cpus", "4000"], "are as they were"),
    ] {
        let all = [vec!["update"], args, vec![place.id.as_str()]].concat();
        let said = place.bad(1, &all);
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!((kept(&place), memory(&place), pids(&place)), before, "{all:?}");
    }
    place.good(&["kill", &place.id, "KILL"]);
    place.await_status("stopped");
    assert!(place.bad(1, &["update", "--memory", "9m", &place.id]).contains("container not running"));
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}
