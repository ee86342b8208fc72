//! This program is killed at any moment, and two of it work at one container: what is left can be removed.

use super::Place;
use serde_json::json;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Kills of each verb. The delays are spread over the time that a verb takes.
const ROUNDS: u32 = 24;

/// Starts a verb and kills it after a part of a second.
fn killed_after(place: &Place, args: &[&str], delay: Duration) {
    let mut child = place.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    let _ = child.kill();
    child.wait().unwrap();
}

/// How long a verb takes when nobody kills it.
fn time_of(place: &Place, args: &[&str]) -> Duration {
    let start = Instant::now();
    place.good(args);
    start.elapsed()
}

/// No process of the container is left anywhere: it holds its bundle as root.
fn assert_no_process(place: &Place) {
    let start = Instant::now();
    loop {
        let rootfs = place.bundle().join("rootfs");
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let root = std::fs::read_link(format!("/proc/{pid}/root")).unwrap_or_default();
            if words.contains(&place.id) || root.starts_with(&rootfs) {
                left.push((pid, words));
            }
        }
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn clean(place: &Place, what: &str) {
    place.good(&["delete", "--force", &place.id]);
    let folders: Vec<_> = std::fs::read_dir(place.root()).map(Iterator::collect).unwrap_or_default();
    assert!(folders.is_empty(), "{what}: {folders:?}");
    place.assert_nothing_left();
    assert_no_process(place);
}

#[test]
fn a_creation_killed_at_any_moment_is_deleted() {
    let Some(place) = Place::running("killed-create", &["sleep", "100"]) else { return };
    let whole = time_of(&place, &["create", &place.id]);
    clean(&place, "whole");
    for round in 0..ROUNDS {
        let delay = whole * round / (ROUNDS - 2);
        killed_after(&place, &["create", &place.id], delay);
        clean(&place, &format!("create after {delay:?}"));
    }
}

#[test]
fn a_run_killed_at_any_moment_is_deleted() {
    let Some(place) = Place::running("killed-run", &["sleep", "100"]) else { return };
    let whole = time_of(&place, &["run", "-d", &place.id]);
    clean(&place, "whole");
    for round in 0..ROUNDS {
        let delay = whole * round / (ROUNDS - 2);
        killed_after(&place, &["run", &place.id], delay);
        clean(&place, &format!("run after {delay:?}"));
    }
}

#[test]
fn a_start_and_an_exec_killed_at_any_moment_leave_a_container_that_is_deleted() {
    let Some(place) = Place::running("killed-start", &["sleep", "100"]) else { return };
    place.good(&["create", &place.id]);
    let start = time_of(&place, &["start", &place.id]);
    let exec = time_of(&place, &["exec", &place.id, "true"]);
    clean(&place, "whole");
    for round in 0..ROUNDS {
        place.good(&["create", &place.id]);
        let delay = start * round / (ROUNDS - 2);
        killed_after(&place, &["start", &place.id], delay);
        let status = place.status();
        assert!(["created", "running"].contains(&status.as_str()), "{status}");
        clean(&place, &format!("start after {delay:?}"));
    }
    place.good(&["run", "-d", &place.id]);
    for round in 0..ROUNDS {
        killed_after(&place, &["exec", &place.id, "sleep", "100"], exec * round / (ROUNDS - 2));
    }
    // None of them hurt the container.
    assert!(place.run(&["exec", &place.id, "true"]).status.success());
    clean(&place, "exec");
}

#[test]
fn a_delete_killed_at_any_moment_is_ended_by_the_next() {
    let Some(place) = Place::running("killed-delete", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    let whole = time_of(&place, &["delete", "--force", &place.id]);
    for round in 0..ROUNDS {
        place.good(&["run", "-d", &place.id]);
        let delay = whole * round / (ROUNDS - 2);
        killed_after(&place, &["delete", "--force", &place.id], delay);
        clean(&place, &format!("delete after {delay:?}"));
    }
}

#[test]
fn two_commands_at_once_on_one_container_leave_it_whole() {
    let Some(place) = Place::running("at-once", &["sleep", "100"]) else { return };
    for _ in 0..8 {
        let create = || {
            place.command(&["create", &place.id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let both = [create(), create()];
        let mut codes = both.map(|mut child| child.wait().unwrap().code());
        codes.sort();
        assert_eq!(codes, [Some(0), Some(1)]);
        assert_eq!(place.status(), "created");
        let verbs: Vec<Vec<&str>> = vec![
            vec!["start", &place.id],
            vec!["start", &place.id],
            vec!["pause", &place.id],
            vec!["delete", "--force", &place.id],
            vec!["delete", "--force", &place.id],
        ];
        let children: Vec<_> = verbs
            .iter()
            .map(|args| place.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
        // Of the starts one can win; both deletions got what they want.
        assert!(codes[0] != Some(0) || codes[1] != Some(0), "{codes:?}");
        assert_eq!(codes[3..], [Some(0), Some(0)], "{codes:?}");
        clean(&place, "at once");
    }
}

#[test]
fn a_container_whose_creation_hangs_can_be_killed_and_deleted() {
    let Some(place) = Place::running("hangs", &["true"]) else { return };
    place.edit(|config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "60"] }] });
    });
    let mut child =
        place.command(&["create", &place.id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !place.run(&["state", &place.id]).stdout.windows(8).any(|word| word == b"creating") {
        assert!(start.elapsed() < Duration::from_secs(10), "it is not there");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The first process, which nobody let go on, ends with its maker.
    assert!(["creating", "stopped"].contains(&place.status().as_str()));
    clean(&place, "hangs");
}

#[test]
fn stragglers_of_a_stopped_container_go_with_it() {
    for paused in [false, true] {
        let Some(place) = Place::running("stragglers", &["sh", "-c", "sleep 100 & sleep 100 & exit 0"])
        else {
            return;
        };
        place.edit(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
        });
        place.good(&["run", "-d", &place.id]);
        place.await_status("stopped");
        let left: Vec<i32> = serde_json::from_str(&place.good(&["ps", "-f", "json", &place.id])).unwrap();
        assert_eq!(left.len(), 2);
        if paused {
            // Whoever froze the group: its processes go all the same.
            for group in place.groups() {
                for (file, word) in [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")] {
                    if group.join(file).exists() {
                        let _ = std::fs::write(group.join(file), word);
                    }
                }
            }
        }
        place.good(&["delete", &place.id]);
        place.assert_nothing_left();
        assert_no_process(&place);
    }
}

#[test]
fn what_stands_still_in_a_group_below_can_be_killed() {
    let Some(place) = Place::running("frozen-below", &["sleep", "100"]) else { return };
    for verb in ["kill", "delete"] {
        place.good(&["run", "-d", &place.id]);
        let state: serde_json::Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
        let group = place.groups().into_iter().find(|group| group.join("freezer.state").exists());
        let Some(group) = group else {
            eprintln!("SKIPPED frozen-below: the freezer of cgroup v1 is needed");
            return;
        };
        let below = group.join("below");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(below.join("cgroup.procs"), state["pid"].to_string()).unwrap();
        std::fs::write(below.join("freezer.state"), "FROZEN").unwrap();
        if verb == "kill" {
            place.good(&["kill", &place.id, "KILL"]);
            place.await_status("stopped");
        }
        place.good(&["delete", "--force", &place.id]);
        place.assert_nothing_left();
    }
}
