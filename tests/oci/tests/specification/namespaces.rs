//! config-linux.md, "Namespaces" and "Namespace of time offsets".

use oci_suite::{Case, Kind, Process, differs, lacks};
use serde_json::json;

const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

#[test]
fn every_namespace_of_the_list_is_new() {
    let Some(case) = Case::new("ns-new") else { return };
    case.namespace("cgroup", None);
    let process = case.sleeps().run_detached();
    for (_, file) in KINDS {
        assert_ne!(process.namespace(file), Process::own().namespace(file), "{file}");
    }
    assert_eq!(process.namespace("user"), Process::own().namespace("user"));
    assert_eq!(case.exec("readlink /proc/self/cwd; cat /proc/1/comm").good().out, "/\nsleep\n");
}

#[test]
fn a_namespace_that_is_not_listed_is_the_hosts() {
    let Some(case) = Case::new("ns-host") else { return };
    for kind in ["pid", "network", "ipc", "uts"] {
        case.without_namespace(kind);
    }
    case.edit(|config| {
        config.as_object_mut().unwrap().remove("hostname");
        // What belongs to the host's namespaces is not mounted here.
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "mqueue");
    });
    let process = case.sleeps().run_detached();
    for file in ["pid", "net", "ipc", "uts", "cgroup", "user"] {
        assert_eq!(process.namespace(file), Process::own().namespace(file), "{file}");
    }
    case.delete_force();
    case.assert_nothing_left();
}

/// Two containers; the second joins the namespaces of the first by path.
fn joined(name: &str, kinds: &[(&str, &str)]) {
    let (Some(first), Some(second)) = (Case::new(name), Case::new(name)) else { return };
    first.namespace("cgroup", None);
    let process = first.sleeps().run_detached();
    for (kind, file) in kinds {
        second.namespace(kind, Some(process.path("ns").join(file).to_str().unwrap()));
    }
    second.edit(|config| drop(config.as_object_mut().unwrap().remove("hostname")));
    let other = second.sleeps().run_detached();
    for (kind, file) in kinds {
        assert_eq!(other.namespace(file), process.namespace(file), "{kind}");
    }
    second.delete_force();
    assert!(process.lives(), "the first container is not touched");
    second.assert_nothing_left();
}

#[test]
fn a_network_namespace_is_joined_by_its_path() {
    joined("ns-net", &[("network", "net")]);
}

#[test]
fn an_ipc_namespace_is_joined_by_its_path() {
    joined("ns-ipc", &[("ipc", "ipc")]);
}

#[test]
fn a_uts_namespace_is_joined_by_its_path() {
    joined("ns-uts", &[("uts", "uts")]);
}

#[test]
fn a_pid_namespace_is_joined_by_its_path() {
    joined("ns-pid", &[("pid", "pid")]);
}

#[test]
fn a_cgroup_namespace_is_joined_by_its_path() {
    joined("ns-cgroup", &[("cgroup", "cgroup")]);
}

#[test]
fn a_time_namespace_is_joined_by_its_path() {
    let Some(case) = Case::new("ns-time-path") else { return };
    if lacks(&[Kind::Runc], "time namespaces") || lacks(&[Kind::Crun], "joining a time namespace") {
        return;
    }
    let mut other = std::process::Command::new("unshare")
        .args(["--time", "--fork", "sleep", "1000"])
        .spawn()
        .expect("unshare");
    let children = format!("/proc/{0}/task/{0}/children", other.id());
    let pid = oci_suite::output::until("the other process", || {
        std::fs::read_to_string(&children).ok()?.trim().parse::<i32>().ok().filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
        })
    });
    let theirs = Process::new(pid);
    case.namespace("time", Some(theirs.path("ns/time").to_str().unwrap()));
    let result = case.sleeps().call(&["run", "--detach", &case.id]);
    let seen = (result.code == 0).then(|| case.process().namespace("time"));
    let wanted = theirs.namespace("time");
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    );
    let _ = other.wait();
    assert_eq!(seen, Some(wanted), "{result:?}");
}

#[test]
fn a_new_time_namespace_has_the_configured_offsets() {
    let Some(case) = Case::new("ns-time") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "time namespaces (crun: not on this kernel)") {
        return;
    }
    case.namespace("time", None).edit(|config| {
        config["linux"]["timeOffsets"] =
            json!({ "monotonic": { "secs": 1000, "nanosecs": 5 }, "boottime": { "secs": 86400 * 30, "nanosecs": 0 } });
    });
    case.script("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets; exec sleep 1000");
    let said = case.call(&["run", "--detach", &case.id]).good();
    let text = oci_suite::output::until("the offsets", || {
        Some(said.text_now()).filter(|text| text.contains("boottime"))
    });
    let mut lines = text.lines();
    let uptime: i64 = lines.next().unwrap().parse().unwrap();
    let own: f64 = Process::own().read("../uptime").split(' ').next().unwrap().parse().unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let ahead = uptime - own as i64;
    assert!((86400 * 30 - 60..86400 * 30 + 60).contains(&ahead), "{uptime} {own}");
    let offsets: Vec<_> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(offsets, ["monotonic 1000 5", "boottime 2592000 0"]);
    assert_ne!(case.process().namespace("time"), Process::own().namespace("time"));
}

#[test]
fn time_offsets_need_a_new_time_namespace() {
    let Some(case) = Case::new("ns-time-none") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "that time offsets need a time namespace") {
        return;
    }
    case.edit(|config| config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 5, "nanosecs": 0 } }));
    let _ = case.run().bad();
    case.assert_nothing_left();
}

#[test]
fn a_path_of_the_wrong_kind_is_an_error() {
    let Some(case) = Case::new("ns-wrong-kind") else { return };
    case.namespace("network", Some("/proc/self/ns/uts"));
    let _ = case.run().bad();
    case.namespace("network", Some("/etc/passwd"));
    let _ = case.run().bad();
    case.namespace("network", Some("/no/such/namespace"));
    let said = case.run().bad();
    assert!(said.contains("/no/such/namespace"), "{said}");
    case.assert_nothing_left();
}

#[test]
fn a_namespace_given_twice_is_an_error() {
    let Some(case) = Case::new("ns-twice") else { return };
    case.edit(|config| config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "uts" })));
    let words = "config-linux.md, Namespaces: \"If a namespaces field contains duplicated namespaces with same type, the \
        runtime MUST generate an error.\"";
    differs(&[Kind::Crun], words, || drop(case.run().bad()));
    case.assert_nothing_left();
}

#[test]
fn a_namespace_of_an_unknown_kind_is_an_error() {
    let Some(case) = Case::new("ns-unknown") else { return };
    case.edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "colour" }))
    });
    let _ = case.run().bad();
    case.assert_nothing_left();
}
