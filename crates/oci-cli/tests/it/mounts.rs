//! Mounts, devices and protected paths as a container sees them.

use super::Place;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

/// What the shell of the container says; it must succeed.
fn says(place: &Place, script: &str) -> String {
    place.edit(|config| config["process"]["args"] = json!(["sh", "-c", script]));
    let output = place.run(&["run", &place.id]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// With one space between words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why a container cannot be run.
fn refusal(place: &Place) -> String {
    let error = place.bad(1, &["run", &place.id]);
    place.assert_nothing_left();
    error
}

fn add_mount(place: &Place, mount: Value) {
    place.edit(|config| config["mounts"].as_array_mut().unwrap().push(mount));
}

/// In a user namespace in which root is the node's 100000.
fn in_user_namespace(place: &Place) {
    place.edit(|config| {
        let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    });
}

/// The options of the mount at `path`, those of the file system after a space.
fn options_of(mountinfo: &str, path: &str) -> Option<String> {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(path))?;
    let (mount, system) = line.split_once(" - ")?;
    Some(format!("{} {system}", mount.split(' ').nth(5)?))
}

fn without_namespace(place: &Place, kind: &str) {
    place.edit(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
    });
}

#[test]
fn sources_may_be_relative_to_the_bundle_and_missing_targets_are_made_in_the_root() {
    let Some(place) = Place::new("relative mounts") else { return };
    std::fs::create_dir(place.bundle().join("data")).unwrap();
    std::fs::write(place.bundle().join("data/file"), "text").unwrap();
    place.edit(|config| config["root"]["readonly"] = json!(true));
    add_mount(&place, json!({ "destination": "/new/data", "source": "data", "options": ["rbind", "ro"] }));
    add_mount(&place, json!({ "destination": "/new/file", "source": "data/file", "options": ["bind"] }));
    let said = says(&place, "cat /new/data/file /new/file; echo x > /new/data/x || echo refused");
    assert_eq!(said, "texttextrefused\n");
    assert!(place.bundle().join("rootfs/new/file").exists());
    place.assert_nothing_left();
}

#[test]
fn every_value_of_rootfs_propagation_is_what_the_root_has() {
    let Some(place) = Place::new("root propagation") else { return };
    for (value, shown) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", ""),
        ("rslave", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        place.edit(|config| config["linux"]["rootfsPropagation"] = json!(value));
        let text = says(&place, "cat /proc/self/mountinfo");
        let root = text.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        let fields = root.split_once(" - ").unwrap().0.split(' ').skip(6).collect::<Vec<_>>().join(" ");
        assert_eq!(fields.contains("shared:"), shown == "shared:", "{value}: {fields}");
        assert_eq!(fields.contains("unbindable"), shown == "unbindable", "{value}: {fields}");
    }
    place.assert_nothing_left();
}

#[test]
fn tmpcopyup_fills_a_tmpfs_with_what_the_image_has() {
    let Some(place) = Place::new("tmpcopyup") else { return };
    let etc = place.bundle().join("rootfs/etc");
    std::fs::write(etc.join("file"), "text").unwrap();
    symlink("/etc/file", etc.join("link")).unwrap();
    add_mount(
        &place,
        json!({ "destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
    );
    assert_eq!(says(&place, "cat /etc/link; echo new > /etc/file; cat /etc/file"), "textnew\n");
    assert_eq!(std::fs::read_to_string(etc.join("file")).unwrap(), "text");
}

#[test]
fn a_container_in_a_user_namespace_has_all_its_file_systems_and_devices() {
    let Some(place) = Place::new("user namespace") else { return };
    in_user_namespace(&place);
    let script = "cat /proc/self/mountinfo; echo x > /dev/null; busybox head -c 0 /dev/urandom; ls -l /dev/ptmx; \
        cat /proc/kcore | busybox wc -c; echo x > /proc/sys/kernel/hostname || echo frozen; ls /sys/class/net";
    place.edit(|config| {
        config["linux"]["devices"] = json!([{ "path": "/dev/pipe", "type": "p", "fileMode": 0o640 }]);
    });
    let text = says(&place, script);
    for (path, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        let options = options_of(&text, path).unwrap_or_else(|| panic!("{path}: {text}"));
        assert!(options.contains(&format!(" {kind} ")), "{path}: {options}");
    }
    // The node's own devices, bound.
    assert!(options_of(&text, "/dev/null").is_some(), "{text}");
    assert!(text.contains("frozen"), "{text}");
    assert!(text.contains("\n0\n"), "/proc/kcore is masked: {text}");
    assert!(text.trim_end().ends_with("lo"), "{text}");
    place.assert_nothing_left();
}

#[test]
fn what_a_user_namespace_may_not_mount_is_the_nodes_and_read_only() {
    let Some(place) = Place::new("fallbacks") else { return };
    in_user_namespace(&place);
    without_namespace(&place, "network");
    let there =
        options_of(&std::fs::read_to_string("/proc/self/mountinfo").unwrap(), "/dev/mqueue").is_some();
    if there {
        without_namespace(&place, "ipc");
    }
    let text = says(&place, "cat /proc/self/mountinfo; busybox mkdir /sys/x || echo no");
    let sys = options_of(&text, "/sys").unwrap();
    assert!(sys.starts_with("ro,") && sys.contains(" sysfs "), "{sys}");
    assert!(options_of(&text, "/dev/mqueue").unwrap().contains(" mqueue "), "{text}");
    assert!(text.ends_with("no\n"), "{text}");
    without_namespace(&place, "pid");
    let text = says(&place, "cat /proc/self/mountinfo");
    assert!(options_of(&text, "/proc").unwrap().contains(" proc "), "{text}");
    place.assert_nothing_left();
}

#[test]
fn a_volume_that_only_the_nodes_root_can_reach_is_mounted_in_a_user_namespace() {
    let Some(place) = Place::new("closed volume") else { return };
    in_user_namespace(&place);
    // Neither the container's root nor the node's without its privileges may pass.
    let closed = place.dir.path().join("closed");
    std::fs::create_dir_all(closed.join("volume")).unwrap();
    std::fs::write(closed.join("volume/file"), "text").unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(&closed, Some(5), Some(5)).unwrap();
    let source = closed.join("volume");
    add_mount(
        &place,
        json!({ "destination": "/tmp", "source": source, "options": ["rbind", "ro", "nosuid"] }),
    );
    let text = says(&place, "cat /tmp/file; echo; cat /proc/self/mountinfo");
    assert!(text.starts_with("text\n"), "{text}");
    let options = options_of(&text, "/tmp").unwrap();
    assert!(options.starts_with("ro,nosuid,"), "{options}");
    place.assert_nothing_left();
}

#[test]
fn a_bind_without_what_is_below_works_in_a_user_namespace() {
    let Some(place) = Place::new("bind without submounts") else { return };
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if options_of(&text, "/dev/pts").is_none() || options_of(&text, "/dev").is_none() {
        eprintln!("SKIPPED bind without submounts: /dev/pts is no mount of this machine");
        return;
    }
    in_user_namespace(&place);
    add_mount(
        &place,
        json!({ "destination": "/tmp", "source": "/dev", "options": ["bind", "ro", "private"] }),
    );
    let text = says(&place, "ls -d /tmp/pts; ls /tmp/pts; cat /proc/self/mountinfo");
    assert!(text.starts_with("/tmp/pts\n"), "{text}");
    assert!(options_of(&text, "/tmp/pts").is_none() && options_of(&text, "/tmp").unwrap().starts_with("ro,"));
    place.assert_nothing_left();
}

#[test]
fn a_root_that_only_the_nodes_root_can_reach_is_entered_in_a_user_namespace() {
    let Some(place) = Place::new("closed root") else { return };
    in_user_namespace(&place);
    std::fs::set_permissions(place.bundle(), std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(place.bundle(), Some(5), Some(5)).unwrap();
    for (propagation, readonly) in [("rprivate", true), ("rshared", false), ("rslave", false)] {
        place.edit(|config| {
            config["root"]["readonly"] = json!(readonly);
            config["linux"]["rootfsPropagation"] = json!(propagation);
            config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
        });
        let text = says(&place, "id -u; pwd; cat /proc/sys/net/ipv4/ip_forward; cat /proc/self/mountinfo");
        assert!(text.starts_with("0\n/\n1\n"), "{text}");
        let top = text.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count();
        assert_eq!(top, 1, "the node's root is still below: {text}");
    }
    place.assert_nothing_left();
}

#[test]
fn an_idmapped_volume_belongs_to_the_containers_users() {
    let Some(place) = Place::new("idmapped volume") else { return };
    let volume = place.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "x").unwrap();
    chown(volume.join("file"), Some(7), Some(8)).unwrap();
    let maps = json!([{ "containerID": 0, "hostID": 5000, "size": 100 }]);
    add_mount(
        &place,
        json!({ "destination": "/tmp", "source": volume, "options": ["rbind", "ridmap"],
            "uidMappings": maps, "gidMappings": maps }),
    );
    let output = place.run(&["run", &place.id]);
    if String::from_utf8_lossy(&output.stderr).contains("does not support it") {
        eprintln!("SKIPPED idmapped volume: the file system of /var/tmp takes no idmapped mounts");
        return;
    }
    assert!(words(&says(&place, "ls -ln /tmp/file")).contains(" 5007 5008 "));
    // Without mappings they are those of the container: 7 there is 7 here.
    in_user_namespace(&place);
    place.edit(|config| {
        let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        *mount = json!({ "destination": "/tmp", "source": volume, "options": ["bind", "idmap"] });
    });
    assert!(words(&says(&place, "ls -ln /tmp/file")).contains(" 7 8 "));
    place.assert_nothing_left();
}

#[test]
fn a_user_namespace_takes_no_flag_of_the_node_back() {
    let Some(place) = Place::new("locked flags") else { return };
    // Of the whole machine's mounts only /proc is sure to be nosuid.
    let nosuid = ["/dev/shm", "/run", "/sys/fs/cgroup", "/dev/mqueue"].into_iter().find(|path| {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        options_of(&text, path).is_some_and(|options| options.contains("nosuid"))
    });
    let Some(nosuid) = nosuid else {
        eprintln!("SKIPPED locked flags: no mount of this machine is nosuid");
        return;
    };
    in_user_namespace(&place);
    add_mount(&place, json!({ "destination": "/tmp", "source": nosuid, "options": ["bind", "ro"] }));
    let text = says(&place, "cat /proc/self/mountinfo");
    let options = options_of(&text, "/tmp").unwrap();
    assert!(options.contains("nosuid") && options.starts_with("ro,"), "{options}");
    place.edit(|config| {
        let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        mount["options"] = json!(["bind", "suid"]);
    });
    let error = refusal(&place);
    assert!(error.contains("nosuid") && error.contains("take back"), "{error}");
}

#[test]
fn cgroups_are_the_containers_own_with_and_without_a_namespace() {
    let Some(place) = Place::new("cgroups") else { return };
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "ro"] });
    place.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
        mounts.push(mount);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "cgroup");
    });
    let old = Path::new("/sys/fs/cgroup/memory").exists();
    let script = if old {
        "cat /sys/fs/cgroup/memory/cgroup.procs; busybox mkdir /sys/fs/cgroup/memory/x || echo no"
    } else {
        "cat /sys/fs/cgroup$(busybox cut -d: -f3 /proc/self/cgroup)/cgroup.procs; busybox mkdir /sys/fs/cgroup/x || echo no"
    };
    for namespace in [false, true] {
        for user in [false, true] {
            if user {
                in_user_namespace(&place);
            }
            if namespace {
                place.edit(|config| {
                    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
                    list.push(json!({ "type": "cgroup" }));
                });
            }
            let text = says(&place, script);
            assert!(text.starts_with("1\n") && text.ends_with("no\n"), "{namespace} {user}: {text}");
            place.edit(|config| {
                let list = config["linux"]["namespaces"].as_array_mut().unwrap();
                list.retain(|n| n["type"] != "cgroup" && n["type"] != "user");
                config["linux"].as_object_mut().unwrap().remove("uidMappings");
                config["linux"].as_object_mut().unwrap().remove("gidMappings");
            });
        }
    }
    place.assert_nothing_left();
}

#[test]
fn a_writable_cgroup_mount_without_a_namespace_has_the_own_group() {
    let Some(place) = Place::new("writable cgroups") else { return };
    without_namespace(&place, "cgroup");
    place.edit(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }));
    });
    let folder = if Path::new("/sys/fs/cgroup/memory").exists() {
        "/sys/fs/cgroup/memory"
    } else {
        "/sys/fs/cgroup$(busybox cut -d: -f3 /proc/self/cgroup)"
    };
    let text = says(
        &place,
        &format!("cat {folder}/cgroup.procs; busybox mkdir {folder}/x && busybox rmdir {folder}/x"),
    );
    assert!(text.starts_with("1\n"), "{text}");
    place.assert_nothing_left();
}

#[test]
fn devices_have_the_mode_and_owner_asked_for_and_fifos_are_made() {
    let Some(place) = Place::new("devices") else { return };
    place.edit(|config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4 },
            { "path": "/dev/deep/pipe", "type": "p", "fileMode": 0o622, "uid": 1, "gid": 2 }
        ]);
    });
    let text = words(&says(&place, "ls -ln /dev/mine /dev/deep/pipe /dev/null"));
    assert!(text.contains("crw-r----- 1 3 4 1, 5"), "{text}");
    assert!(text.contains("prw--w--w- 1 1 2 0"), "{text}");
    assert!(text.contains("crw-rw-rw- 1 0 0 1, 3"), "{text}");
    in_user_namespace(&place);
    // A number for experiments, which no node has.
    place.edit(|config| config["linux"]["devices"][0]["major"] = json!(240));
    let error = refusal(&place);
    assert!(error.contains("/dev/mine") && error.contains("user namespace"), "{error}");
}

#[test]
fn mounts_that_would_take_the_container_apart_are_refused() {
    let Some(place) = Place::new("refused mounts") else { return };
    for (mount, names) in [
        (json!({ "destination": "/", "type": "tmpfs", "source": "tmpfs" }), "whole root"),
        (json!({ "destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs" }), "/proc/sys"),
        (json!({ "destination": "/proc", "source": "/tmp", "options": ["bind"] }), "/proc"),
        (json!({ "destination": "/x", "source": "/nothing/here", "options": ["bind"] }), "does not exist"),
    ] {
        place.edit(|config| config["mounts"].as_array_mut().unwrap().push(mount));
        let error = refusal(&place);
        assert!(error.contains(names), "{error}");
        place.edit(|config| drop(config["mounts"].as_array_mut().unwrap().pop()));
    }
    if !Path::new("/sys/fs/selinux/status").exists() {
        place.edit(|config| config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0"));
        let error = refusal(&place);
        assert!(error.contains("SELinux"), "{error}");
    }
}

#[test]
fn a_readonly_dev_still_has_its_devices_and_console() {
    let Some(place) = Place::new("read-only dev") else { return };
    place.edit(|config| {
        config["root"]["readonly"] = json!(true);
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev" {
                mount["options"].as_array_mut().unwrap().push(json!("ro"));
            }
        }
    });
    let text = says(&place, "ls -d /dev/null /dev/fd; echo x > /dev/null; echo x > /dev/x || echo no");
    assert_eq!(text, "/dev/fd\n/dev/null\nno\n");
    place.assert_nothing_left();
}

#[test]
fn without_pivot_root_the_nodes_proc_and_sys_are_not_left_below() {
    let Some(place) = Place::new("no pivot") else { return };
    place.edit(|config| config["process"]["args"] = json!(["sh", "-c", "cat /proc/self/mountinfo; echo $$"]));
    let output = place.run(&["run", "--no-pivot", &place.id]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.ends_with("\n1\n") && options_of(&text, "/proc").is_some(), "{text}");
    // The machine's own are where they were.
    assert!(Path::new("/proc/self/status").exists() && Path::new("/sys/kernel").exists());
    place.assert_nothing_left();
}
