//! config.md, "Mounts": the propagation of a mount (mount_namespaces(7)), each kind as mountinfo shows it.

use oci_suite::{Case, Kind, Process, Runtime, output};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use std::path::PathBuf;

/// A shared mount of the host with a shared mount at `sub` below.
fn shared(case: &Case) -> PathBuf {
    let top = case.bundle.aside().join("shared");
    std::fs::create_dir(&top).unwrap();
    mount_bind(&top, &top).unwrap();
    mount_change(&top, MountPropagationFlags::SHARED).unwrap();
    std::fs::create_dir(top.join("sub")).unwrap();
    std::fs::create_dir(top.join("later")).unwrap();
    mount("tmpfs", top.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    top
}

fn container(name: &str, options: &[&str]) -> Option<(Case, PathBuf, Process)> {
    let case = Case::new(name)?;
    let top = shared(&case);
    case.mount("/mnt", "bind", top.to_str().unwrap(), options).capabilities(&["CAP_SYS_ADMIN"]);
    // What the root cuts off (config-linux.md, Rootfs Mount Propagation) does not come back for one mount.
    let wanted = if options.iter().any(|option| option.contains("shared")) { "shared" } else { "slave" };
    case.edit(|config| config["linux"]["rootfsPropagation"] = wanted.into());
    let process = case.sleeps().run_detached();
    Some((case, top, process))
}

fn propagation(process: Process, target: &str) -> String {
    let kinds = process.mount_at(target).propagation;
    let kinds: Vec<_> = kinds.iter().map(|kind| kind.split(':').next().unwrap_or_default()).collect();
    kinds.join(" ")
}

#[test]
fn private_mounts_have_no_peer() {
    let Some((_case, _, process)) = container("prop-private", &["rbind", "private"]) else { return };
    assert_eq!(propagation(process, "/mnt"), "");
}

#[test]
fn rprivate_is_for_the_mounts_below_too() {
    let Some((case, top, process)) = container("prop-rprivate", &["rbind", "rprivate"]) else { return };
    assert_eq!(
        (propagation(process, "/mnt"), propagation(process, "/mnt/sub")),
        (String::new(), String::new())
    );
    mount("tmpfs", top.join("later"), "tmpfs", MountFlags::empty(), None).unwrap();
    assert!(process.mounts().iter().all(|mount| mount.target != "/mnt/later"));
    drop(case);
}

#[test]
fn slave_mounts_get_the_hosts_and_give_none() {
    let Some((case, top, process)) = container("prop-slave", &["rbind", "slave"]) else { return };
    assert_eq!(propagation(process, "/mnt"), "master");
    mount("tmpfs", top.join("later"), "tmpfs", MountFlags::empty(), None).unwrap();
    output::until("the host's mount", || {
        process.mounts().iter().any(|mount| mount.target == "/mnt/later").then_some(())
    });
    std::fs::create_dir(top.join("inside")).unwrap();
    let _ = case.exec("mount -t tmpfs tmpfs /mnt/inside").good();
    assert!(Process::own().mounts().iter().all(|mount| mount.target != top.join("inside").to_str().unwrap()));
}

#[test]
fn rslave_is_for_the_mounts_below_too() {
    let Some((_case, _, process)) = container("prop-rslave", &["rbind", "rslave"]) else { return };
    assert_eq!(
        (propagation(process, "/mnt"), propagation(process, "/mnt/sub")),
        ("master".into(), "master".into())
    );
}

#[test]
fn shared_mounts_give_to_the_host() {
    let Some((case, top, process)) = container("prop-shared", &["rbind", "shared"]) else { return };
    assert!(propagation(process, "/mnt").starts_with("shared"));
    if Runtime::under_test().kind == Kind::Crun {
        eprintln!("skipped: crun has a mount namespace of its own here, which gives nothing to the host's");
        return;
    }
    std::fs::create_dir(top.join("inside")).unwrap();
    let _ = case.exec("mount -t tmpfs tmpfs /mnt/inside").good();
    assert!(Process::own().mounts().iter().any(|mount| mount.target == top.join("inside").to_str().unwrap()));
}

#[test]
fn rshared_is_for_the_mounts_below_too() {
    let Some((_case, _, process)) = container("prop-rshared", &["rbind", "rshared"]) else { return };
    assert!(propagation(process, "/mnt").starts_with("shared"));
    assert!(propagation(process, "/mnt/sub").starts_with("shared"));
}

#[test]
fn unbindable_mounts_are_so() {
    let Some((case, _, process)) = container("prop-unbindable", &["rbind", "unbindable"]) else { return };
    assert_eq!(propagation(process, "/mnt"), "unbindable");
    let said = case.exec("mkdir -p /tmp/x && mount -o bind /mnt /tmp/x");
    assert_ne!(said.code, 0);
}

#[test]
fn runbindable_is_for_the_mounts_below_too() {
    let Some((_case, _, process)) = container("prop-runbindable", &["rbind", "runbindable"]) else { return };
    assert_eq!(
        (propagation(process, "/mnt"), propagation(process, "/mnt/sub")),
        ("unbindable".into(), "unbindable".into())
    );
}

#[test]
fn a_container_gives_no_mount_to_the_host_unless_asked() {
    let Some((case, _, process)) = container("prop-default", &["rbind"]) else { return };
    assert!(!propagation(process, "/").contains("shared"));
    let _ = case.exec("mount -t tmpfs tmpfs /mnt/later; mount -t tmpfs tmpfs /tmp");
    let own = Process::own().mounts();
    assert!(own.iter().all(|mount| mount.target != case.bundle.root().join("tmp").to_str().unwrap()));
}
