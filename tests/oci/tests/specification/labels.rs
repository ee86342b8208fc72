//! config.md and config-linux.md: `apparmorProfile`, `selinuxLabel`, `mountLabel`; refused where the kernel has none.

use oci_suite::{Case, Kind, differs, needs};
use serde_json::json;
use std::path::Path;
use std::process::Command;

fn apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y")
}

fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// A profile that refuses one folder, loaded for the life of this value.
struct Profile(std::path::PathBuf);

impl Profile {
    fn load(case: &Case, name: &str) -> Option<Self> {
        let path = case.bundle.aside().join("profile");
        let text = format!(
            "profile {name} flags=(attach_disconnected) {{\n  file,\n  capability,\n  signal,\n  deny /tmp/** rw,\n}}\n"
        );
        std::fs::write(&path, text).unwrap();
        let loaded = Command::new("apparmor_parser").arg("-Kr").arg(&path).status();
        if !loaded.is_ok_and(|status| status.success()) {
            eprintln!("skipped: this machine has no apparmor_parser");
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = Command::new("apparmor_parser").arg("-R").arg(&self.0).status();
    }
}

#[test]
fn the_apparmor_profile_is_that_of_the_program() {
    let Some(case) = Case::new("apparmor") else { return };
    if needs(apparmor(), "AppArmor") {
        return;
    }
    let name = format!("corten-test-{}", std::process::id());
    let Some(_profile) = Profile::load(&case, &name) else { return };
    case.edit(|config| config["process"]["apparmorProfile"] = json!(name));
    let said = case.shell("cat /proc/self/attr/current; touch /tmp/x 2>/dev/null || echo refused").good();
    assert_eq!(said.out, format!("{name} (enforce)\nrefused\n"));
    // exec has the container's, unless it names another.
    let _ = case.sleeps().run_detached();
    assert_eq!(case.exec("cat /proc/self/attr/current").good().out, format!("{name} (enforce)\n"));
    let said = case.call(&["exec", "--apparmor", "unconfined", &case.id, "cat", "/proc/self/attr/current"]);
    assert_eq!(said.good().out, "unconfined\n");
}

#[test]
fn an_apparmor_profile_that_is_not_loaded_is_an_error() {
    let Some(case) = Case::new("apparmor-missing") else { return };
    if needs(apparmor(), "AppArmor") {
        return;
    }
    case.edit(|config| config["process"]["apparmorProfile"] = json!("corten-test-no-such-profile"));
    let _ = case.run().bad();
    case.assert_nothing_left();
}

#[test]
fn an_apparmor_profile_is_refused_without_apparmor() {
    let Some(case) = Case::new("no-apparmor") else { return };
    if apparmor() {
        eprintln!("skipped: this machine has AppArmor");
        return;
    }
    case.edit(|config| config["process"]["apparmorProfile"] = json!("some-profile"));
    let said = case.run().bad();
    assert!(said.to_lowercase().contains("apparmor"), "{said}");
    case.assert_nothing_left();
}

#[test]
fn a_selinux_label_is_refused_without_selinux() {
    let Some(case) = Case::new("no-selinux") else { return };
    if selinux() {
        eprintln!("skipped: this machine has SELinux");
        return;
    }
    case.edit(|config| config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2"));
    let words = "config.md, Linux Process, selinuxLabel: the label confines the process; starting without it would \
        drop the confinement silently";
    differs(&[Kind::Crun], words, || {
        let said = case.run().bad();
        assert!(said.to_lowercase().contains("selinux"), "{said}");
    });
    case.assert_nothing_left();
}

#[test]
fn a_mount_label_is_refused_without_selinux() {
    let Some(case) = Case::new("no-mountlabel") else { return };
    if selinux() {
        eprintln!("skipped: this machine has SELinux");
        return;
    }
    case.edit(|config| config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2"));
    let words = "config-linux.md, Mount Label: \"mountLabel will set the Selinux context for the mounts\"; without one it cannot";
    differs(&[Kind::Crun], words, || drop(case.run().bad()));
    case.assert_nothing_left();
}
