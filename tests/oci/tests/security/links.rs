//! `/proc` and `/sys` that are something else: links of the image and volumes (CVE-2019-16884, -2019-19921, -2023-27561).

use oci_suite::attack::Witness;
use oci_suite::{Case, Process};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What bundles mask, less their `/proc/`.
const MASKED: [&str; 3] = ["kcore", "keys", "timer_list"];

/// A tree that looks like the part of a proc file system that a runtime writes to.
pub(crate) fn fake_proc(folder: &Path) {
    for path in ["self/attr/apparmor", "self/fd", "thread-self/attr/apparmor", "sys/kernel", "sys/net/ipv4"] {
        std::fs::create_dir_all(folder.join(path)).unwrap();
    }
    for path in [
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "thread-self/attr/exec",
        "thread-self/attr/apparmor/exec",
        "self/oom_score_adj",
        "sys/kernel/domainname",
        "sys/net/ipv4/ip_forward",
    ] {
        std::fs::write(folder.join(path), "fake\n").unwrap();
    }
}

/// The image has a volume at `/proc` (or a link there that leads to one), full of plain files. A runtime that writes the label
/// there has set none, and the program runs without confinement (runc until 1.0-rc8). The same with the OOM score.
#[test]
fn cve_2019_16884_a_label_is_never_written_to_a_proc_that_is_none() {
    let Some(case) = Case::new("16884") else { return };
    let volume = case.bundle.aside().join("volume");
    fake_proc(&volume);
    std::fs::create_dir(case.bundle.root().join("vol")).unwrap();
    let source = volume.to_str().unwrap().to_owned();
    let before = Witness::of(&volume);
    let real = case.bundle.config()["mounts"].clone();
    let without_proc = || {
        let mut mounts = real.clone();
        mounts.as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
        mounts
    };
    let bind = |target: &str| json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind"] });
    let marker = case.bundle.root().join("tmp/ran");
    case.script("touch /tmp/ran; sleep 0").edit(|config| {
        config["process"]["apparmorProfile"] = "corten-test-no-such-profile".into();
        config["process"]["oomScoreAdj"] = 500.into();
    });
    for (what, linked) in [
        ("over proc", false),
        ("in place of proc", false),
        ("by a link", true),
        ("by a link, and proc", true),
    ] {
        let mut mounts =
            if what == "over proc" || what == "by a link, and proc" { real.clone() } else { without_proc() };
        mounts.as_array_mut().unwrap().push(bind(if linked { "/vol" } else { "/proc" }));
        case.edit(|config| config["mounts"] = mounts);
        let place = case.bundle.root().join("proc");
        let _ = std::fs::remove_dir(&place);
        let _ = std::fs::remove_file(&place);
        if linked {
            symlink("/vol", &place).unwrap();
        } else {
            std::fs::create_dir(&place).unwrap();
        }
        let _ = case.run().bad();
        assert!(!marker.exists(), "{what}: the program ran without its label");
        before.assert_untouched(what);
    }
    case.assert_nothing_left();
}

/// Wherever a proc file system can be seen in the container, it must have its masks and read-only paths.
fn assert_confined(process: Process, what: &str) {
    let mounts = process.mounts();
    let at = |target: &str| mounts.iter().rfind(|mount| mount.target == target);
    for place in mounts.iter().filter(|mount| mount.kind == "proc" && mount.root == "/") {
        if at(&place.target).is_none_or(|top| top.kind != "proc") {
            // Something lies over the whole of it.
            continue;
        }
        for (path, there) in MASKED.iter().map(|path| (path, Path::new("/proc").join(path).exists())) {
            let found = at(&format!("{}/{path}", place.target));
            assert!(
                !there || found.is_some_and(|mount| mount.root == "/null"),
                "{what}: {}/{path} is there",
                place.target
            );
        }
        for path in ["sys", "irq"] {
            let found = at(&format!("{}/{path}", place.target));
            assert!(
                found.is_some_and(|mount| mount.has(&["ro"])),
                "{what}: {}/{path} is writable",
                place.target
            );
        }
    }
}

/// The image has a link at `name`; with and without a volume behind it. Refused, or all of it confined.
fn confined_behind_links(case: &Case, name: &str) {
    let volume = case.bundle.aside().join("volume");
    std::fs::create_dir_all(volume.join("proc")).unwrap();
    std::fs::create_dir_all(volume.join("evil/keys")).unwrap();
    std::fs::create_dir(case.bundle.root().join("vol")).unwrap();
    let place = case.bundle.root().join(name);
    let outside = case.bundle.aside().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let before = Witness::of(&outside);
    let mount = json!({ "destination": "/vol", "type": "bind", "source": volume, "options": ["bind"] });
    case.edit(|config| config["mounts"].as_array_mut().unwrap().insert(0, mount)).sleeps();
    let mut up = 0;
    for target in [
        "/vol/proc",
        "vol/proc",
        "../../vol/evil",
        "/tmp",
        "/sys",
        "/proc",
        "/dev",
        "/missing",
        ".",
        outside.to_str().unwrap(),
    ] {
        let _ = std::fs::remove_dir(&place);
        let _ = std::fs::remove_file(&place);
        symlink(target, &place).unwrap();
        let what = format!("/{name} is a link to {target}");
        let said = case.call(&["create", &case.id]);
        if said.code == 0 {
            up += 1;
            assert_confined(case.process(), &what);
            case.delete_force();
        }
        before.assert_untouched(&what);
    }
    // A link is refused or confined; without one it is a container as any other.
    let _ = std::fs::remove_file(&place);
    let _ = case.call(&["create", &case.id]).good();
    case.delete_force();
    println!("{up} links were followed inside of the root, the others refused");
    case.assert_nothing_left();
}

/// runc until 1.0-rc9 mounted proc wherever a link of the image led, such as into a volume that another container can change
/// meanwhile: the masks then lay elsewhere.
#[test]
fn cve_2019_19921_proc_behind_a_link_into_a_volume_is_refused_or_masked() {
    let Some(case) = Case::new("19921") else { return };
    confined_behind_links(&case, "proc");
}

/// The same hole came back in runc 1.0-rc95 to 1.1.4, for `/sys` as for `/proc`. Here the volume lies at the very place: the
/// image's volume is `/proc`, or a folder in it.
#[test]
fn cve_2023_27561_neither_links_nor_volumes_unmask_proc_or_sys() {
    let Some(case) = Case::new("27561") else { return };
    confined_behind_links(&case, "sys");
    drop(case);
    let Some(case) = Case::new("27561-volume") else { return };
    let volume = case.bundle.aside().join("volume");
    fake_proc(&volume);
    std::fs::write(volume.join("keys"), "").unwrap();
    case.sleeps();
    let plain = case.bundle.config()["mounts"].clone();
    let promise = || {
        for (target, first) in [
            ("/proc", true),
            ("/proc", false),
            ("/proc/sys", false),
            ("/proc/self", false),
            ("/proc/keys", false),
        ] {
            let mut mounts = plain.clone();
            let source = if target == "/proc/keys" { volume.join("keys") } else { volume.clone() };
            let bind =
                json!({ "destination": target, "type": "bind", "source": source, "options": ["bind"] });
            let list = mounts.as_array_mut().unwrap();
            list.insert(if first { 0 } else { list.len() }, bind);
            case.edit(|config| config["mounts"] = mounts);
            let said = case.call(&["create", &case.id]);
            if said.code == 0 {
                assert_confined(case.process(), &format!("a volume at {target}"));
                case.delete_force();
            }
        }
    };
    promise();
    case.assert_nothing_left();
}
