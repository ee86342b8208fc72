//! config.md, "Root", "Hostname", "Domainname"; config-linux.md, "Rootfs Mount Propagation".

use oci_suite::{Case, Kind, differs, lacks};
use serde_json::json;

#[test]
fn a_read_only_root_cannot_be_written() {
    let Some(case) = Case::new("root-ro") else { return };
    case.edit(|config| config["root"]["readonly"] = json!(true));
    let said =
        case.shell("touch /x 2>&1 || echo refused; touch /dev/shm/x && echo mounts stay writable").good();
    assert!(said.out.contains("Read-only file system\nrefused\nmounts stay writable\n"), "{}", said.out);
    assert!(!case.bundle.root().join("x").exists());
}

#[test]
fn a_root_is_writable_unless_said_otherwise() {
    let Some(case) = Case::new("root-rw") else { return };
    let _ = case.shell("echo written > /x").good();
    assert_eq!(std::fs::read_to_string(case.bundle.root().join("x")).unwrap(), "written\n");
}

#[test]
fn the_root_may_be_named_absolutely_or_relative_to_the_bundle() {
    let Some(case) = Case::new("root-path") else { return };
    let absolute = case.bundle.root();
    case.edit(|config| config["root"]["path"] = json!(absolute));
    assert_eq!(case.shell("ls /bin/busybox").good().out, "/bin/busybox\n");
    std::fs::create_dir(case.bundle.path().join("deeper")).unwrap();
    case.edit(|config| config["root"]["path"] = json!("deeper/../rootfs"));
    assert_eq!(case.shell("ls /bin/busybox").good().out, "/bin/busybox\n");
}

#[test]
fn a_root_that_is_not_there_is_an_error_that_names_it() {
    let Some(case) = Case::new("root-missing") else { return };
    case.edit(|config| config["root"]["path"] = json!("no-such-root"));
    let said = case.run().bad();
    assert!(said.contains("no-such-root"), "{said}");
    case.assert_nothing_left();
    case.edit(|config| drop(config.as_object_mut().unwrap().remove("root")));
    let _ = case.run().bad();
    case.assert_nothing_left();
}

#[test]
fn nothing_of_the_host_is_reachable_from_the_root() {
    let Some(case) = Case::new("root-alone") else { return };
    std::fs::write(case.bundle.aside().join("secret"), "secret").unwrap();
    let said = case.shell("ls -d /../../../../var/tmp 2>/dev/null; cat /proc/self/mountinfo").good();
    let targets: Vec<_> = said.lines().iter().filter_map(|line| line.split(' ').nth(4)).collect();
    // The old root was detached, not only left: there is one root, and all else belongs to the container.
    assert_eq!(targets.iter().filter(|target| **target == "/").count(), 1, "{}", said.out);
    let ours =
        |target: &&str| *target == "/" || ["/proc", "/dev", "/sys"].iter().any(|top| target.starts_with(top));
    assert!(targets.iter().all(ours), "{}", said.out);
}

#[test]
fn the_hostname_is_the_configured_one() {
    let Some(case) = Case::new("hostname") else { return };
    case.edit(|config| config["hostname"] = json!("a-box.example"));
    assert_eq!(case.shell("hostname").good().out, "a-box.example\n");
}

#[test]
fn a_hostname_needs_a_uts_namespace() {
    let Some(case) = Case::new("hostname-host") else { return };
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    case.without_namespace("uts").edit(|config| config["hostname"] = json!("corten-not-the-hosts"));
    let _ = case.run().bad();
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    case.assert_nothing_left();
}

#[test]
fn the_domainname_is_the_configured_one() {
    let Some(case) = Case::new("domainname") else { return };
    if lacks(&[Kind::Runc], "domainname") {
        return;
    }
    case.edit(|config| config["domainname"] = json!("a.domain"));
    assert_eq!(case.shell("cat /proc/sys/kernel/domainname").good().out, "a.domain\n");
}

/// The kinds that mountinfo shows of `/`, for one that is asked for.
fn propagation(asked: &str) -> Option<String> {
    let case = Case::new(&format!("root-{asked}"))?;
    case.edit(|config| config["linux"]["rootfsPropagation"] = json!(asked));
    let kinds = case.sleeps().run_detached().mount_at("/").propagation;
    let kinds: Vec<_> = kinds.iter().filter_map(|kind| kind.split(':').next()).collect();
    Some(kinds.join(" "))
}

#[test]
fn a_private_root_has_no_peer() {
    assert!(propagation("private").is_none_or(|seen| seen.is_empty()));
}

#[test]
fn a_slave_root_gives_nothing() {
    // The host's mount may have peers or none; then a slave of it is private.
    assert!(propagation("slave").is_none_or(|seen| seen.is_empty() || seen == "master"));
}

#[test]
fn a_shared_root_has_a_peer_group() {
    let words = "config-linux.md, Rootfs Mount Propagation: \"rootfsPropagation sets the rootfs's mount propagation. \
        Its value is either shared, slave, private or unbindable\"";
    differs(&[Kind::Runc], words, || {
        assert!(propagation("shared").is_none_or(|seen| seen.split(' ').any(|kind| kind == "shared")));
    });
}

#[test]
fn an_unbindable_root_is_so() {
    let words = "config-linux.md, Rootfs Mount Propagation: \"Its value is either shared, slave, private or \
        unbindable\"; runc binds the root after it made it unbindable";
    differs(&[Kind::Runc], words, || {
        assert!(propagation("unbindable").is_none_or(|seen| seen == "unbindable"))
    });
}

#[test]
fn a_propagation_that_is_none_is_an_error() {
    let Some(case) = Case::new("root-sideways") else { return };
    // crun 1.8.1 waits forever for its own child there.
    if lacks(&[Kind::Crun], "how to refuse a wrong rootfsPropagation") {
        return;
    }
    case.edit(|config| config["linux"]["rootfsPropagation"] = json!("sideways"));
    let _ = case.run().bad();
    case.assert_nothing_left();
}
