//! Hooks inside the container, and what a failing one ends.

use super::Place;
use serde_json::{Value, json};

fn shell(script: &str) -> Value {
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin", "A=b"], "timeout": 10 }])
}

#[test]
fn create_container_runs_in_the_namespaces_with_the_nodes_programs_and_start_container_in_the_root() {
    let Some(place) = Place::running("inside", &["sh", "-c", "cat /tmp/told"]) else { return };
    let mark = place.dir.path().join("mark");
    std::fs::write(&mark, "").unwrap();
    let told = place.bundle().join("rootfs/tmp/told");
    std::fs::write(&told, "").unwrap();
    place.edit(|config| {
        config["root"]["readonly"] = json!(false);
        config["annotations"] = json!({ "k": "v" });
        config["process"]["user"] = json!({ "uid": 7, "gid": 8 });
        config["hooks"] = json!({
            "createContainer": shell(&format!(
                "test -e {} && echo createContainer $(readlink /proc/self/ns/uts) $A $(ls /proc/self/fd | wc -l) $(cat) >> {}",
                mark.display(), told.display()
            )),
            "startContainer": shell("echo startContainer $(busybox readlink /proc/self/ns/uts) $A $(ls /proc/self/fd | busybox wc -l) $(id -u) $(cat) >> /tmp/told"),
        });
    });
    std::os::unix::fs::chown(&told, Some(7), Some(8)).unwrap();
    place.good(&["create", &place.id]);
    let first = std::fs::read_to_string(&told).unwrap();
    let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    let uts = std::fs::read_link(format!("/proc/{}/ns/uts", state["pid"])).unwrap();
    assert!(first.starts_with(&format!("createContainer {} b 4 {{", uts.display())), "{first}");
    let told_state: Value = serde_json::from_str(&first[first.find('{').unwrap()..]).unwrap();
    assert_eq!(told_state["status"], "creating");
    assert_eq!(told_state["pid"], 1, "as it counts itself");
    assert_eq!(told_state["annotations"]["k"], "v");
    assert_eq!(told_state["bundle"], place.bundle().to_str().unwrap());
    place.good(&["start", &place.id]);
    place.await_status("stopped");
    let text = std::fs::read_to_string(&told).unwrap();
    let second = text.lines().nth(1).unwrap();
    // With the rights of the container's user, and no descriptor but 0, 1, 2 and that of `ls` itself.
    assert!(second.starts_with(&format!("startContainer {} b 4 7 {{", uts.display())), "{second}");
    assert!(second.contains("\"created\""), "{second}");
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn a_hook_that_fails_stops_and_destroys_the_container() {
    let Some(place) = Place::running("failing", &["sleep", "100"]) else { return };
    let after = place.dir.path().join("after");
    for (name, at_create) in [
        ("prestart", true),
        ("createRuntime", true),
        ("createContainer", true),
        ("startContainer", false),
        ("poststart", false),
    ] {
        let _ = std::fs::remove_file(&after);
        place.edit(|config| {
            config["hooks"] = json!({ "poststop": shell(&format!("cat > {}", after.display())) });
            config["hooks"][name] = shell("exit 3");
        });
        let verb = if at_create {
            "create"
        } else {
            place.good(&["create", &place.id]);
            "start"
        };
        let out = if at_create { vec!["create", &place.id] } else { vec!["start", &place.id] };
        let error = place.bad(1, &out);
        assert!(error.contains(name) && error.contains("status") && error.contains('3'), "{verb}: {error}");
        place.assert_nothing_left();
        assert!(after.exists(), "{name}: poststop was not run");
        assert!(place.bad(1, &["run", &place.id]).contains(name));
        place.assert_nothing_left();
    }
}

#[test]
fn poststop_hooks_that_fail_are_warned_of_and_the_others_run() {
    let Some(place) = Place::running("poststop", &["true"]) else { return };
    let after = place.dir.path().join("after");
    place.edit(|config| {
        config["hooks"] = json!({ "poststop": [
            { "path": "/bin/false" }, { "path": "/nonexistent" },
            { "path": "/bin/sh", "args": ["sh", "-c", format!("echo > {}", after.display())] },
        ] });
    });
    let output = place.run(&["run", &place.id]);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("/bin/false") && told.contains("/nonexistent"), "{told}");
    assert!(after.exists());
    place.assert_nothing_left();
}

#[test]
fn a_hook_is_killed_at_its_timeout() {
    let Some(place) = Place::running("timeout", &["true"]) else { return };
    for name in ["createRuntime", "createContainer"] {
        place.edit(|config| {
            config["hooks"] =
                json!({ name: [{ "path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1 }] });
        });
        let start = std::time::Instant::now();
        assert!(place.bad(1, &["run", &place.id]).contains("timeout of 1 s"));
        assert!(start.elapsed() < std::time::Duration::from_secs(10));
        place.assert_nothing_left();
    }
}

#[test]
fn start_says_why_the_program_does_not_run() {
    let Some(place) = Place::running("late", &["/bin/late"]) else { return };
    let late = place.bundle().join("rootfs/bin/late");
    std::fs::copy("/usr/bin/busybox", &late).unwrap();
    place.good(&["create", &place.id]);
    std::fs::remove_file(&late).unwrap();
    assert!(place.bad(1, &["start", &place.id]).contains("/bin/late"));
    place.assert_nothing_left();
}
