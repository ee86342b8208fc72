//! Writes to proc that lead somewhere else (CVE-2025-52881).

use crate::links::fake_proc;
use oci_suite::{Case, Process};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The prey: host and domain name of the container's UTS namespace, as a process in it sees them. Their files are of proc, take any
/// text, and harm nobody else.
fn names(process: Process) -> (String, String) {
    let mut command = Command::new("nsenter");
    command.args([
        "-u",
        "-t",
        &process.pid.to_string(),
        "cat",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
    ]);
    let said = command.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
}

#[track_caller]
pub(crate) fn assert_not_astray(process: Process, what: &str) {
    let (host, domain) = names(process);
    assert!(
        host == "corten-test" && !domain.contains("label") && !domain.starts_with(['6', '7']),
        "{what}: a write was led astray: {host} {domain}"
    );
}

/// What the runtime writes for this process: two labels and the OOM score.
fn labels(case: &Case) {
    case.edit(|config| {
        config["process"]["apparmorProfile"] = "label".into();
        config["process"]["oomScoreAdj"] = 600.into();
    });
}

/// All files of a fake proc become links to one file.
pub(crate) fn lead_to(folder: &Path, target: &str) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            lead_to(&entry.path(), target);
        } else {
            std::fs::remove_file(entry.path()).unwrap();
            symlink(target, entry.path()).unwrap();
        }
    }
}

/// Sysctls: a mount whose target is a link of a volume puts another file over a file of `/proc/sys`, or a whole folder.
#[test]
fn cve_2025_52881_a_sysctl_goes_to_its_own_file_or_nowhere() {
    let Some(case) = Case::new("52881-sysctl") else { return };
    let (prey, volume) = ("/proc/sys/kernel/hostname", case.bundle.aside().join("volume"));
    std::fs::create_dir(&volume).unwrap();
    let fake = case.bundle.aside().join("fake");
    fake_proc(&fake);
    lead_to(&fake, "/other-name");
    std::fs::write(case.bundle.root().join("other-name"), "").unwrap();
    symlink("/proc/sys/kernel/domainname", volume.join("file")).unwrap();
    symlink("/proc/sys/kernel", volume.join("folder")).unwrap();
    symlink("/proc/sys", volume.join("sys")).unwrap();
    symlink("/proc", volume.join("proc")).unwrap();
    symlink("../proc/./sys/../sys/kernel/domainname", volume.join("crooked")).unwrap();
    let plain = case.bundle.config()["mounts"].clone();
    let bind = |target: &str, source: &str| json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind"] });
    let inside = |path: &str| fake.join(path).to_str().unwrap().to_owned();
    case.sleeps().edit(|config| config["linux"]["sysctl"] = json!({ "kernel.domainname": "astray" }));
    for (target, source) in [
        ("/vol/file", prey.to_owned()),
        ("/vol/crooked", prey.to_owned()),
        ("/vol/folder", inside("sys/kernel")),
        ("/vol/sys", inside("sys")),
        ("/vol/proc", inside("")),
        ("/proc/sys/kernel/domainname", prey.to_owned()),
        ("/tmp/../proc/sys/kernel/domainname", prey.to_owned()),
        ("/proc/self/root/proc/sys/kernel/domainname", prey.to_owned()),
    ] {
        let mut mounts = plain.clone();
        let list = mounts.as_array_mut().unwrap();
        list.extend([
            bind("/other-name", prey),
            bind("/vol", volume.to_str().unwrap()),
            bind(target, &source),
        ]);
        case.edit(|config| config["mounts"] = mounts);
        let said = case.call(&["create", &case.id]);
        if said.code == 0 {
            assert_not_astray(case.process(), target);
            case.delete_force();
        }
    }
    // Names that climb.
    case.edit(|config| config["mounts"] = plain);
    for name in [
        "kernel.domainname/../../../../../../tmp/x",
        "kernel.shm_../../../etc",
        "net/../kernel/core_pattern",
        "net...kernel.domainname",
    ] {
        let mut values = serde_json::Map::new();
        values.insert(name.to_owned(), "astray".into());
        case.edit(|config| config["linux"]["sysctl"] = values.into());
        let _ = case.call(&["create", &case.id]).bad();
    }
    case.assert_nothing_left();
}

/// Labels and the OOM score: `/proc` is a volume whose files are links to a file of a true proc file system, which is mounted
/// elsewhere. What only asks whether the file is one of proc writes to it.
#[test]
fn cve_2025_52881_labels_and_the_oom_score_of_a_first_process_are_not_led_astray() {
    let Some(case) = Case::new("52881-label") else { return };
    let fake = case.bundle.aside().join("fake");
    fake_proc(&fake);
    lead_to(&fake, "/true-proc/sys/kernel/domainname");
    std::fs::create_dir(case.bundle.root().join("true-proc")).unwrap();
    labels(&case);
    case.without_namespace("pid").sleeps().edit(|config| {
        let list = config["mounts"].as_array_mut().unwrap();
        list[0] = json!({ "destination": "/true-proc", "type": "proc", "source": "proc" });
        list.push(json!({ "destination": "/proc", "type": "bind", "source": fake, "options": ["bind"] }));
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let said = case.call(&["run", "--detach", &case.id]);
    if said.code == 0 {
        assert_not_astray(case.process(), "the first process");
        case.delete_force();
    }
    case.assert_nothing_left();
}

/// As before for an exec, into a container that put the volume over `/proc` by itself, which takes `CAP_SYS_ADMIN`.
#[test]
fn cve_2025_52881_labels_and_the_oom_score_of_an_exec_are_not_led_astray() {
    let Some(case) = Case::new("52881-exec") else { return };
    let fake = case.bundle.aside().join("fake");
    fake_proc(&fake);
    lead_to(&fake, "/true-proc/sys/kernel/domainname");
    std::fs::create_dir(case.bundle.root().join("true-proc")).unwrap();
    case.capabilities(&["CAP_SYS_ADMIN"]).without_namespace("pid");
    case.mount("/fake", "bind", fake.to_str().unwrap(), &["bind"]);
    case.edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    case.script(
        "mount --bind /proc /true-proc && mount --bind /fake /proc && touch /tmp/ready; exec sleep 100",
    );
    let process_of_container = case.run_detached();
    oci_suite::output::until("the attacker", || case.bundle.root().join("tmp/ready").exists().then_some(()));
    let file = case.bundle.aside().join("process.json");
    for (uid, label) in [(0, "apparmorProfile"), (1000, "apparmorProfile"), (0, "selinuxLabel"), (0, "none")]
    {
        let mut process = json!({
            "user": { "uid": uid, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": ["true"], "oomScoreAdj": 700,
        });
        process[label] = "label".into();
        std::fs::write(&file, process.to_string()).unwrap();
        let said = case.call(&["exec", "--process", file.to_str().unwrap(), &case.id]);
        assert_not_astray(process_of_container, &format!("{label} of an exec: {}", said.err));
    }
    case.delete_force();
    case.assert_nothing_left();
}
