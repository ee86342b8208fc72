//! User, time and mount namespaces, new and by path; who owns what was joined.

use super::Place;
use serde_json::{Value, json};

/// Ids of the node that a container of these tests has.
const FIRST: u32 = 231_072;

pub fn with_users(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    for map in ["uidMappings", "gidMappings"] {
        config["linux"][map] = json!([{ "containerID": 0, "hostID": FIRST, "size": 65536 }]);
    }
}

/// The output of a container that ends well.
fn output(place: &Place, args: &[&str]) -> String {
    place.edit(|config| config["process"]["args"] = json!(args));
    let output = place.run(&["run", &place.id]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_new_user_namespace_has_its_mapping_and_all_capabilities_asked_for() {
    let Some(place) = Place::new("userns") else { return };
    place.edit(|config| {
        with_users(config);
        config["process"]["oomScoreAdj"] = json!(100);
        config["process"]["capabilities"]["bounding"] = json!(["CAP_NET_ADMIN", "CAP_CHOWN"]);
        config["process"]["capabilities"]["permitted"] = json!(["CAP_NET_ADMIN", "CAP_CHOWN"]);
        config["process"]["capabilities"]["effective"] = json!(["CAP_NET_ADMIN", "CAP_CHOWN"]);
        config["root"]["readonly"] = json!(false);
    });
    let rootfs = place.bundle().join("rootfs");
    std::os::unix::fs::chown(rootfs.join("tmp"), Some(FIRST), Some(FIRST)).unwrap();
    let text = output(
        &place,
        &[
            "sh",
            "-c",
            "cat /proc/self/uid_map /proc/self/setgroups; id -u; grep CapEff /proc/self/status; cat /proc/self/oom_score_adj; echo > /tmp/made; hostname",
        ],
    );
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "231072", "65536", "allow", "0", "CapEff:", "0000000000001001", "100", "corten"]);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(rootfs.join("tmp/made")).unwrap().uid(), FIRST);
    place.assert_nothing_left();
}

#[test]
fn a_user_namespace_and_what_belongs_to_it_are_joined_by_path_and_exec_follows() {
    let Some(place) = Place::running("userns-path", &["sleep", "100"]) else { return };
    place.edit(with_users);
    place.good(&["run", "-d", &place.id]);
    let state: Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    let pid = state["pid"].as_i64().unwrap();
    let in_first = |file: &str| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();

    let inside = place.run(&[
        "exec",
        "--user",
        "7:8",
        &place.id,
        "sh",
        "-c",
        "id; cat /proc/self/uid_map; ls -l /proc/self/ns/user",
    ]);
    let text = String::from_utf8_lossy(&inside.stdout).into_owned();
    assert!(text.contains("uid=7 gid=8") && text.contains("231072"), "{text} {inside:?}");
    assert!(text.contains(in_first("user").to_str().unwrap()), "{text}");

    let second = format!("{}-b", place.id);
    // As containerd writes it for a container of a pod: some by path, some new, and the mapping beside the path.
    place.edit(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap().to_owned();
            let file = if kind == "network" { "net" } else { &kind };
            if ["network", "ipc", "uts", "user"].contains(&kind.as_str()) {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
            }
        }
        config["hostname"] = json!("");
        config["process"]["args"] = json!([
            "sh",
            "-c",
            "for n in user net ipc uts pid mnt; do busybox readlink /proc/self/ns/$n; done; id -u"
        ]);
    });
    let output = place.run(&["run", &second]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<&str> = text.lines().collect();
    for (at, file) in ["user", "net", "ipc", "uts"].iter().enumerate() {
        assert_eq!(lines[at], in_first(file).to_str().unwrap(), "{text}");
    }
    assert_ne!(lines[4], in_first("pid").to_str().unwrap());
    assert_eq!(lines[6], "0");
    place.good(&["delete", "-f", &place.id]);
    place.assert_nothing_left();
}

#[test]
fn namespaces_of_the_nodes_user_are_joined_before_a_new_user_namespace() {
    let Some(holder) = Place::running("held", &["sleep", "100"]) else { return };
    holder.good(&["run", "-d", &holder.id]);
    let state: Value = serde_json::from_str(&holder.good(&["state", &holder.id])).unwrap();
    let pid = state["pid"].as_i64().unwrap();
    let Some(place) = Place::new("joined-first") else { return };
    place.edit(|config| {
        with_users(config);
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap().to_owned();
            let file = if kind == "network" { "net" } else { &kind };
            if ["network", "ipc", "pid"].contains(&kind.as_str()) {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
            }
        }
        // A sysfs shows the network's; only who owns it may mount one (kernfs, `sysfs_init_fs_context`).
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "mqueue" && mount["type"] != "proc");
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }));
        for paths in ["maskedPaths", "readonlyPaths"] {
            config["linux"][paths] = json!([]);
        }
    });
    let text = output(&place, &["sh", "-c", "for n in net ipc; do busybox readlink /proc/self/ns/$n; done"]);
    for file in ["net", "ipc"] {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        assert!(text.contains(theirs.to_str().unwrap()), "{text}");
    }
    holder.good(&["delete", "-f", &holder.id]);
    place.assert_nothing_left();
}

#[test]
fn a_time_namespace_has_its_offsets_before_anything_runs_in_it() {
    let Some(place) = Place::new("time") else { return };
    let uptime = |text: &str| -> f64 { text.split_whitespace().next().unwrap().parse().unwrap() };
    let node = || uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    place.edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    });
    let inside = uptime(&output(&place, &["cat", "/proc/uptime"]));
    assert!((inside - node()).abs() < 100.0, "{inside}");
    place.edit(|config| {
        config["linux"]["timeOffsets"] =
            json!({ "boottime": { "secs": 1_000_000 }, "monotonic": { "secs": 5, "nanosecs": 7 } });
    });
    for users in [false, true] {
        if users {
            place.edit(with_users);
        }
        let text = output(&place, &["sh", "-c", "cat /proc/uptime /proc/self/timens_offsets"]);
        assert!(uptime(&text) > node() + 900_000.0, "{text}");
        let words: Vec<&str> = text.split_whitespace().skip(2).collect();
        assert_eq!(words, ["monotonic", "5", "7", "boottime", "1000000", "0"]);
    }
    place.edit(|config| config["linux"]["timeOffsets"]["boottime"]["secs"] = json!(-900_000_000));
    place.edit(|config| config["process"]["args"] = json!(["true"]));
    assert!(place.bad(1, &["run", &place.id]).contains("out of its range"));
    place.assert_nothing_left();
}

#[test]
fn without_a_pid_namespace_the_nodes_processes_are_seen_also_from_a_user_namespace() {
    let Some(place) = Place::new("no-pid") else { return };
    place.edit(|config| {
        with_users(config);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
        // A proc of the node's PID namespace belongs to the node's user.
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "proc");
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }));
        for paths in ["maskedPaths", "readonlyPaths"] {
            config["linux"][paths] = json!([]);
        }
    });
    let text = output(&place, &["sh", "-c", "busybox readlink /proc/self/ns/pid"]);
    assert_eq!(text.trim(), std::fs::read_link("/proc/self/ns/pid").unwrap().to_str().unwrap());
    place.assert_nothing_left();
}

#[test]
fn a_mount_namespace_is_joined_by_path_but_never_the_callers_own() {
    let Some(place) = Place::new("mount-path") else { return };
    let by_path = |path: String| {
        place.edit(|config| {
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == "mount" {
                    namespace["path"] = json!(path);
                }
            }
        });
    };
    by_path("/proc/self/ns/mnt".into());
    place.edit(|config| config["process"]["args"] = json!(["true"]));
    assert!(place.bad(1, &["run", &place.id]).contains("own mount namespace"));
    place.assert_nothing_left();
    let mut holder = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", "echo; exec sleep 100"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let link = format!("/proc/{}/ns/mnt", holder.id());
    by_path(link.clone());
    let text = output(&place, &["busybox", "readlink", "/proc/self/ns/mnt"]);
    assert_eq!(text.trim(), std::fs::read_link(link).unwrap().to_str().unwrap());
    holder.kill().unwrap();
    holder.wait().unwrap();
    place.assert_nothing_left();
}

#[test]
fn a_user_namespace_that_cannot_be_joined_takes_everything_back() {
    let Some(place) = Place::running("bad-user", &["true"]) else { return };
    place.edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user", "path": "/x" }));
    });
    for (path, words) in [
        ("/nonexistent/user", "/nonexistent/user"),
        ("/proc/self/ns/net", "cannot join"),
        ("/dev/null", "cannot join"),
    ] {
        place.edit(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.last_mut().unwrap()["path"] = json!(path);
        });
        for verb in ["create", "run"] {
            let error = place.bad(1, &[verb, &place.id]);
            assert!(error.contains(words), "{words}: {error}");
            place.assert_nothing_left();
        }
    }
}

#[test]
fn mappings_that_the_kernel_refuses_take_everything_back() {
    let Some(place) = Place::running("bad-map", &["true"]) else { return };
    place.edit(|config| {
        with_users(config);
        config["linux"]["uidMappings"] = json!([
            { "containerID": 0, "hostID": FIRST, "size": 10 },
            { "containerID": 5, "hostID": FIRST, "size": 10 },
        ]);
    });
    let error = place.bad(1, &["create", &place.id]);
    assert!(error.contains("overlap") || error.contains("uidMappings"), "{error}");
    place.assert_nothing_left();
    // Nobody is root in there.
    place.edit(|config| {
        config["linux"]["uidMappings"] = json!([{ "containerID": 5, "hostID": FIRST, "size": 10 }])
    });
    let error = place.bad(1, &["create", &place.id]);
    assert!(error.contains("mapped"), "{error}");
    place.assert_nothing_left();
}
