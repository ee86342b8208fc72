//! `events`: statistics and notifications as lines of JSON.

use oci_suite::{Case, Kind, lacks, output};
use serde_json::{Value, json};

#[test]
fn stats_are_one_line_with_the_use_of_the_container() {
    let Some(case) = Case::new("events-stats") else { return };
    if lacks(&[Kind::Crun], "events") {
        return;
    }
    case.edit(|config| config["linux"]["resources"]["pids"] = json!({ "limit": 20 }));
    let _ = case.sleeps().run_detached();
    let said = case.call(&["events", "--stats", &case.id]).good();
    let event: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.out));
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(case.id)));
    // As runc's types/events.go names them.
    let data = &event["data"];
    assert_eq!(data["pids"]["current"], 1, "{event}");
    assert_eq!(data["pids"]["limit"], 20, "{event}");
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0), "{event}");
    assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0), "{event}");
    assert!(data["blkio"].is_object() && data["hugetlb"].is_object(), "{event}");
}

/// In runc's form (`types/events.go`, `PSIStats`): under `psi` of each of the three, shares of the time in percent and a total in
/// microseconds.
#[test]
fn stats_tell_how_long_the_container_waited_for_cpu_memory_and_disk() {
    let Some(case) = Case::new("events-psi") else { return };
    if lacks(&[Kind::Crun], "events") {
        return;
    }
    if lacks(&[Kind::Runc], "pressure in its statistics until 1.2") {
        return;
    }
    // Two that want all of a tenth of a CPU wait for most of the time.
    case.edit(|config| {
        config["linux"]["resources"]["cpu"] = json!({ "quota": 10_000, "period": 100_000 });
    });
    let process = case.script("while :; do :; done & while :; do :; done").run_detached();
    let file = process.groups().dir("").map(|group| group.join("cpu.pressure")).unwrap_or_default();
    // It is there and answers EOPNOTSUPP, or is not there, where the kernel was started without.
    let total = || -> Option<u64> {
        let text = std::fs::read_to_string(&file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("some ")?.split_once("total=")?.1.trim().parse().ok())
    };
    if total().is_none() {
        eprintln!("skipped: this machine tells no pressure of a cgroup (that takes cgroup v2 and psi=1)");
        return;
    }
    let stats = || -> Value {
        let said = case.call(&["events", "--stats", &case.id]).good();
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.out))
    };
    let waited = |stats: &Value| stats["data"]["cpu"]["psi"]["some"]["total"].as_u64().unwrap_or_default();
    let first = stats();
    for section in ["cpu", "memory", "blkio"] {
        let psi = &first["data"][section]["psi"];
        for kind in ["some", "full"] {
            let line = psi[kind].as_object().unwrap_or_else(|| panic!("{section}, {kind}: {first}"));
            for average in ["avg10", "avg60", "avg300"] {
                let percent = line[average].as_f64();
                assert!(percent.is_some_and(|percent| (0.0..=100.0).contains(&percent)), "{section}: {psi}");
            }
            assert!(line["total"].is_u64() && line.len() == 4, "{section}: {psi}");
        }
    }
    // What the kernel counts, and it goes on.
    let second =
        output::until("more of the wait", || Some(stats()).filter(|now| waited(now) > waited(&first)));
    assert!(total().is_some_and(|total| total >= waited(&second)), "{second}");
}

#[test]
fn statistics_come_again_and_again_at_the_interval_until_the_container_ends() {
    let Some(case) = Case::new("events-interval") else { return };
    if lacks(&[Kind::Crun], "events") {
        return;
    }
    let _ = case.sleeps().run_detached();
    let file = case.bundle.aside().join("events");
    let mut child = case
        .command(&["events", "--interval", "100ms", &case.id])
        .stdout(std::fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    output::until("three events", || (text().lines().count() >= 3).then_some(()));
    case.kill("KILL");
    case.await_status("stopped");
    // It ends with the container, or soon after it was deleted.
    case.delete_force();
    let ended = output::wait(&mut child, std::time::Duration::from_secs(4));
    assert!(text().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}", text());
    if case.runtime.kind != Kind::Runc {
        assert!(ended.is_some(), "it does not end");
    }
}

#[test]
fn an_out_of_memory_kill_is_an_event() {
    let Some(case) = Case::new("events-oom") else { return };
    if lacks(&[Kind::Crun], "events") {
        return;
    }
    case.edit(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 12 << 20, "swap": 12 << 20 })
    });
    case.script("while ! test -e /go; do sleep 0.02; done; a=x; while :; do a=$a$a; done");
    let _ = case.run_detached();
    let file = case.bundle.aside().join("events");
    let mut child = case
        .command(&["events", "--interval", "1s", &case.id])
        .stdout(std::fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    output::until("it to listen", || text().contains("stats").then_some(()));
    std::fs::write(case.bundle.root().join("go"), "").unwrap();
    let seen = std::time::Instant::now();
    while !text().contains("\"oom\"") && seen.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(
        text().lines().any(|line| line.contains("\"type\":\"oom\"") && line.contains(&case.id)),
        "{}",
        text()
    );
}
