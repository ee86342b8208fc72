//! What a container uses, and that it ran out of memory.

use super::Place;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn stats_have_runcs_form() {
    let Some(place) = Place::running("stats", &["sleep", "100"]) else { return };
    place.edit(|config| config["linux"]["resources"]["pids"] = json!({ "limit": 32 }));
    place.good(&["run", "-d", &place.id]);
    let text = place.good(&["events", "--stats", &place.id]);
    assert_eq!(text.lines().count(), 1);
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(place.id)));
    let data = &event["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    for field in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
        assert!(data[field].is_object(), "{field}: {data}");
    }
    assert!(data.get("network_interfaces").is_some_and(Value::is_null));
    if data["memory"].get("usage").is_some() {
        assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
        assert!(data["memory"]["usage"]["limit"].as_u64().unwrap() > 0, "{data}");
        assert!(data["memory"]["raw"].as_object().unwrap().len() > 5, "{data}");
        assert_eq!((&data["pids"]["current"], &data["pids"]["limit"]), (&json!(1), &json!(32)));
    }
    assert!(place.bad(1, &["events", "--interval", "0s", &place.id]).contains("greater than 0"));
    assert!(place.bad(1, &["events", "--interval", "soon", &place.id]).contains("5s"));
    place.good(&["kill", &place.id, "KILL"]);
    place.await_status("stopped");
    assert!(place.bad(1, &["events", "--stats", &place.id]).contains("not running"));
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn events_come_at_each_interval_and_end_with_the_container() {
    let Some(place) = Place::running("events", &["sleep", "100"]) else { return };
    place.good(&["run", "-d", &place.id]);
    let mut child =
        place.command(&["events", "--interval=50ms", &place.id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["type"], "stats");
    }
    place.good(&["kill", &place.id, "KILL"]);
    let start = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(5), "it goes on for {:?}", start.elapsed());
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn running_out_of_memory_is_an_event() {
    // It doubles a string until the kernel ends it.
    let script = "sleep 0.5; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let Some(place) = Place::running("oom", &["sh", "-c", script]) else { return };
    place.edit(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 8_388_608, "swap": 8_388_608 });
    });
    place.good(&["run", "-d", &place.id]);
    let has_limit = place
        .groups()
        .iter()
        .any(|group| group.join("memory.max").exists() || group.join("memory.limit_in_bytes").exists());
    if !has_limit {
        eprintln!("SKIPPED oom: this machine has no memory controller");
        return;
    }
    let output = place.command(&["events", "--interval=1h", &place.id]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let event: Value = serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_default();
    assert_eq!(event, json!({ "type": "oom", "id": place.id }), "{text}");
    place.await_status("stopped");
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}
