//! Pausing and resuming.

use super::Place;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A container that adds a line to a file again and again.
fn ticking(name: &str) -> Option<Place> {
    let place = Place::running(name, &["sh", "-c", "while :; do echo >> /tmp/ticks; sleep 0.01; done"])?;
    place.edit(|config| config["root"]["readonly"] = json!(false));
    place.good(&["run", "-d", &place.id]);
    ticks(&place, 1);
    Some(place)
}

/// Waits for that many more lines.
fn ticks(place: &Place, more: u64) {
    let size =
        || std::fs::metadata(place.bundle().join("rootfs/tmp/ticks")).map(|file| file.len()).unwrap_or(0);
    let (start, before) = (Instant::now(), size());
    while size() < before + more {
        assert!(start.elapsed() < Duration::from_secs(10), "it stands still at {before}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stands_still(place: &Place) -> bool {
    let size = || std::fs::metadata(place.bundle().join("rootfs/tmp/ticks")).unwrap().len();
    let before = size();
    std::thread::sleep(Duration::from_millis(100));
    before == size()
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    let Some(place) = ticking("pause") else { return };
    assert!(place.bad(1, &["resume", &place.id]).contains("container not paused"));
    place.good(&["pause", &place.id]);
    assert!(stands_still(&place));
    assert_eq!(place.status(), "paused");
    let list: Value = serde_json::from_str(&place.good(&["list", "-f", "json"])).unwrap();
    assert_eq!(list[0]["status"], "paused");
    assert!(list[0]["pid"].as_i64().unwrap() > 0);
    assert!(place.bad(1, &["pause", &place.id]).contains("container not running"));
    assert!(place.bad(1, &["start", &place.id]).contains("paused"));
    assert!(place.bad(1, &["delete", &place.id]).contains("not stopped: paused"));
    assert!(place.bad(255, &["exec", &place.id, "true"]).contains("--ignore-paused"));
    place.good(&["resume", &place.id]);
    assert_eq!(place.status(), "running");
    ticks(&place, 2);
    assert!(place.run(&["exec", &place.id, "true"]).status.success());
    place.good(&["delete", "--force", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn a_paused_container_dies_of_a_kill_and_of_a_forced_delete() {
    for verb in [["kill", "KILL"].as_slice(), &["kill", "9"], &["delete", "--force"]] {
        let Some(place) = ticking("pause-kill") else { return };
        place.good(&["pause", &place.id]);
        let start = Instant::now();
        match verb {
            ["delete", force] => drop(place.good(&["delete", force, &place.id])),
            _ => {
                place.good(&["kill", &place.id, verb[1]]);
                place.await_status("stopped");
                place.good(&["delete", &place.id]);
            }
        }
        assert!(start.elapsed() < Duration::from_secs(8), "{verb:?} took {:?}", start.elapsed());
        place.assert_nothing_left();
    }
}

#[test]
fn a_signal_to_a_paused_container_is_kept_until_it_is_resumed() {
    let script = "trap 'exit 4' TERM; echo > /tmp/ready; while :; do sleep 0.01; done";
    let Some(place) = Place::running("pause-term", &["sh", "-c", script]) else { return };
    place.edit(|config| config["root"]["readonly"] = json!(false));
    place.good(&["run", "-d", &place.id]);
    let start = Instant::now();
    while !place.bundle().join("rootfs/tmp/ready").exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    place.good(&["pause", &place.id]);
    place.good(&["kill", &place.id, "TERM"]);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(place.status(), "paused");
    place.good(&["resume", &place.id]);
    place.await_status("stopped");
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn a_created_container_can_be_paused_and_a_stopped_one_cannot() {
    let Some(place) = Place::running("pause-created", &["true"]) else { return };
    place.good(&["create", &place.id]);
    place.good(&["pause", &place.id]);
    assert_eq!(place.status(), "paused");
    place.good(&["resume", &place.id]);
    assert_eq!(place.status(), "created");
    place.good(&["start", &place.id]);
    place.await_status("stopped");
    for verb in ["pause", "resume"] {
        let said = place.bad(1, &[verb, &place.id]);
        assert!(said.contains("container not running") || said.contains("container not paused"), "{said}");
    }
    assert!(place.bad(1, &["pause", "corten-test-missing"]).contains("container does not exist"));
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}
