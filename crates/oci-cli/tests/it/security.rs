//! Known holes of other runtimes, tried on this one.

use super::{PROGRAM, Place};
use serde_json::json;

/// CVE-2019-5736: the container's program, and an exec of `/proc/self/exe`, must never be the file on the node.
#[test]
fn no_process_in_a_container_leads_to_this_programs_file() {
    let Some(place) = Place::running("exe", &["sleep", "100"]) else { return };
    place.good(&["create", &place.id]);
    let state: serde_json::Value = serde_json::from_str(&place.good(&["state", &place.id])).unwrap();
    // A read-only mount that nobody can change, or a sealed copy in memory.
    let waiting = std::fs::File::open(format!("/proc/{}/exe", state["pid"])).unwrap();
    let seals = rustix::fs::fcntl_get_seals(&waiting).unwrap_or(rustix::fs::SealFlags::empty());
    let mount = rustix::fs::fstatvfs(&waiting).unwrap().f_flag;
    assert!(
        mount.contains(rustix::fs::StatVfsMountFlags::RDONLY) || seals.contains(rustix::fs::SealFlags::WRITE),
        "{mount:?} {seals:?}"
    );
    place.good(&["start", &place.id]);
    place.await_status("running");
    let before = std::fs::read(PROGRAM).unwrap();
    // The exec turns into whatever /proc/self/exe is when the kernel follows the script's first line.
    std::fs::write(place.bundle().join("rootfs/tmp/trap"), "#!/proc/self/exe\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place.bundle().join("rootfs/tmp/trap"), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    let _ = place.run(&["exec", &place.id, "/tmp/trap"]);
    assert!(before == std::fs::read(PROGRAM).unwrap());
    place.good(&["delete", "-f", &place.id]);
}

/// CVE-2024-21626: neither our descriptors nor the caller's are in the container, and no working directory is
/// outside of it.
#[test]
fn no_descriptor_of_the_node_is_in_the_container() {
    let Some(place) = Place::running("fds", &["ls", "-l", "/proc/self/fd"]) else { return };
    let leaked = std::fs::File::open("/").unwrap();
    // Inherited by the program, as by a careless caller.
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let output = place.run(&["run", &place.id]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<&str> =
        text.lines().filter_map(|line| line.split(" -> ").next()?.split(' ').next_back()).collect();
    // 3 is the listing's own.
    assert!(numbers.iter().all(|n| ["0", "1", "2", "3"].contains(n)), "{text}");
    assert!(!text.contains("-> /\n"), "{text}");
    // Only what was passed in may be passed on: 4 is one of our own, if it is open at all.
    let command = format!(
        "exec {PROGRAM} --root {} run --preserve-fds \"$1\" {} 3</dev/zero 4<&-",
        place.root().display(),
        place.id
    );
    let shell = |count: &str| {
        std::process::Command::new("/bin/sh")
            .args(["-c", &command, "sh", count])
            .current_dir(place.bundle())
            .output()
            .unwrap()
    };
    let passed = shell("1");
    assert!(String::from_utf8_lossy(&passed.stdout).contains("3 -> /dev/zero"), "{passed:?}");
    let refused = shell("2");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("descriptor 4 was not passed in"),
        "{refused:?}"
    );
    for number in 3..12 {
        place.edit(|config| config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}")));
        let output = place.run(&["run", &place.id]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{number}: {error}");
    }
    place.assert_nothing_left();
    drop(leaked);
}

#[test]
fn devices_are_denied_but_for_the_default_ones() {
    let Some(place) = Place::running("devices", &["sh", "-c", "echo x > /dev/null && cat /dev/loop-control"])
    else {
        return;
    };
    if !std::path::Path::new("/sys/fs/cgroup/devices").exists() {
        eprintln!("SKIPPED devices: no v1 devices controller here; rules on v2 are not built yet");
        return;
    }
    place.edit(|config| {
        config["linux"]["devices"] =
            json!([{ "path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237, "fileMode": 0o666 }]);
    });
    let output = place.run(&["run", &place.id]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("Operation not permitted"), "{error}");
    place.assert_nothing_left();
}

#[test]
fn state_is_for_root_alone() {
    let Some(place) = Place::running("modes", &["true"]) else { return };
    use std::os::unix::fs::PermissionsExt;
    place.good(&["create", &place.id]);
    let folder = place.root().join(&place.id);
    let mode =
        |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&place.root()), mode(&folder)), (0o700, 0o700));
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    place.good(&["delete", &place.id]);
    place.assert_nothing_left();
}
