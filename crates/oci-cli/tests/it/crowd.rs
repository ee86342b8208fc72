//! Many containers at once: what is made for them is gone when they are.

use super::Place;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// How many; `CORTEN_CROWD` sets another number for slow machines.
fn crowd() -> usize {
    std::env::var("CORTEN_CROWD").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

/// Starts them all before it waits for the first. `bundle` is the bundle of one of them.
fn run_all(place: &Place, options: &[&str], bundle: impl Fn(&str) -> PathBuf) {
    let children: Vec<(String, Child)> = (0..crowd())
        .map(|number| {
            let id = format!("{}-{number}", place.id);
            let error = place.dir.path().join(format!("err-{number}"));
            let error = std::fs::File::create(error).unwrap();
            let mut command = place.command(options);
            command.args(["run", "--bundle"]).arg(bundle(&id)).arg(&id).stdout(Stdio::null()).stderr(error);
            (id, command.spawn().unwrap())
        })
        .collect();
    for (number, (id, mut child)) in children.into_iter().enumerate() {
        let status = child.wait().unwrap();
        let words = std::fs::read_to_string(place.dir.path().join(format!("err-{number}"))).unwrap();
        assert_eq!(status.code(), Some(7), "{id}: {words}");
        assert_eq!(words, "", "{id}");
    }
}

/// Groups with the place's name anywhere in the tree.
fn groups_of(place: &Place) -> Vec<PathBuf> {
    fn walk(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path());
                }
                walk(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &place.id, &mut found);
    found
}

#[test]
fn a_crowd_that_starts_at_once_leaves_no_cgroup() {
    let Some(place) = Place::running("crowd", &["sh", "-c", "exit 7"]) else { return };
    run_all(&place, &[], |_| place.bundle());
    assert_eq!(groups_of(&place), Vec::<PathBuf>::new());
    place.assert_nothing_left();
}

#[test]
fn a_crowd_in_systemds_scopes_leaves_no_scope_and_no_cgroup() {
    if !Path::new("/run/systemd/system").is_dir() {
        eprintln!("SKIPPED crowd: systemd does not run here");
        return;
    }
    let Some(place) = Place::running("crowd", &["sh", "-c", "exit 7"]) else { return };
    let rootfs = place.bundle().join("rootfs");
    // The scope's name is in the bundle, so each has its own.
    run_all(&place, &["--systemd-cgroup"], |id| {
        place.edit(|config| {
            config["root"]["path"] = json!(rootfs);
            config["linux"]["cgroupsPath"] = json!(format!("system.slice:corten-test:{id}"));
        });
        let bundle = place.dir.path().join(format!("bundle-{id}"));
        std::fs::create_dir(&bundle).unwrap();
        std::fs::copy(place.bundle().join("config.json"), bundle.join("config.json")).unwrap();
        bundle
    });
    assert_eq!(groups_of(&place), Vec::<PathBuf>::new());
    let units = std::process::Command::new("systemctl")
        .args(["list-units", "--all", "--no-legend", "--plain", &format!("*{}*", place.id)])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&units.stdout), "");
    place.assert_nothing_left();
}
