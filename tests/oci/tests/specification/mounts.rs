//! config.md, "Mounts": the kinds of file systems that containers get.

use oci_suite::{Case, Groups, Kind, differs};
use serde_json::json;

#[test]
fn the_file_systems_of_the_specification_are_there() {
    // config-linux.md, Default Filesystems.
    let Some(case) = Case::new("defaults") else { return };
    let process = case.sleeps().run_detached();
    for (target, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
    ] {
        assert_eq!(process.mount_at(target).kind, kind, "{target}");
    }
    assert!(process.mount_at("/sys").has(&["ro", "nosuid", "nodev", "noexec"]));
    assert!(process.mount_at("/dev/shm").has(&["rw", "nosuid", "nodev", "noexec"]));
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn mounts_are_made_in_the_listed_order() {
    let Some(case) = Case::new("order") else { return };
    let aside = case.bundle.aside();
    for name in ["first", "second"] {
        std::fs::create_dir_all(aside.join(name).join("sub")).unwrap();
        std::fs::write(aside.join(name).join("name"), name).unwrap();
    }
    let path = |name: &str| aside.join(name).display().to_string();
    case.mount("/mnt", "bind", &path("first"), &["bind"]);
    case.mount("/mnt/sub", "bind", &path("second"), &["bind"]);
    case.mount("/over", "bind", &path("first"), &["bind"]);
    case.mount("/over", "bind", &path("second"), &["bind"]);
    assert_eq!(
        case.shell("cat /mnt/name; echo; cat /mnt/sub/name; echo; cat /over/name").good().out,
        "first\nsecond\nsecond"
    );
}

#[test]
fn a_tmpfs_takes_size_mode_owner_and_number_of_inodes() {
    let Some(case) = Case::new("tmpfs") else { return };
    case.mount("/mnt", "tmpfs", "tmpfs", &["size=1m", "uid=7", "gid=8", "nr_inodes=20"]);
    let script = "stat -c '%u %g' /mnt; dd if=/dev/zero of=/mnt/f bs=64k count=100 2>/dev/null; stat -c %s /mnt/f; \
        for n in $(seq 30); do touch /mnt/$n 2>/dev/null || { echo full; break; }; done";
    // Root without CAP_DAC_OVERRIDE needs to own what it writes to.
    case.capabilities(&["CAP_DAC_OVERRIDE"]);
    assert_eq!(case.shell(script).good().out, "7 8\n1048576\nfull\n");
}

#[test]
fn a_tmpfs_has_the_configured_mode_over_an_existing_folder_too() {
    let Some(case) = Case::new("tmpfs-mode") else { return };
    case.mount("/new", "tmpfs", "tmpfs", &["mode=0711"]);
    case.mount("/mnt", "tmpfs", "tmpfs", &["mode=0711"]);
    let words = "config.md, Mounts, options: \"Mount options of the filesystem to be used\", as mode= of tmpfs(5); \
        runc gives the mount the mode of the folder below";
    differs(&[Kind::Runc], words, || assert_eq!(case.shell("stat -c %a /new /mnt").good().out, "711\n711\n"));
}

#[test]
fn a_tmpfs_with_tmpcopyup_holds_what_was_there_and_the_root_stays_as_it_was() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let Some(case) = Case::new("tmpcopyup") else { return };
    let seed = case.bundle.root().join("seed");
    std::fs::create_dir_all(seed.join("sub")).unwrap();
    std::fs::write(seed.join("sub/file"), "content").unwrap();
    std::fs::set_permissions(seed.join("sub/file"), PermissionsExt::from_mode(0o640)).unwrap();
    chown(seed.join("sub/file"), Some(3), Some(4)).unwrap();
    symlink("sub/file", seed.join("link")).unwrap();
    case.mount("/seed", "tmpfs", "tmpfs", &["tmpcopyup"]);
    case.capabilities(&["CAP_DAC_OVERRIDE"]);
    let script = "stat -c '%a %u %g' /seed/sub/file; cat /seed/link; echo; readlink /seed/link; echo new > /seed/sub/file; touch /seed/x";
    assert_eq!(case.shell(script).good().out, "640 3 4\ncontent\nsub/file\n");
    assert_eq!(std::fs::read_to_string(seed.join("sub/file")).unwrap(), "content");
    assert!(!seed.join("x").exists());
}

#[test]
fn devpts_is_an_instance_of_its_own_and_ptmx_belongs_to_it() {
    let Some(case) = Case::new("devpts") else { return };
    let script = "ls /dev/pts; readlink /dev/ptmx; stat -c '%a %g' /dev/pts/ptmx; grep ' /dev/pts ' /proc/self/mountinfo";
    let said = case.shell(script).good();
    assert!(said.out.starts_with("ptmx\npts/ptmx\n666 0\n"), "{}", said.out);
    assert!(said.out.contains("gid=5,mode=620,ptmxmode=666"), "{}", said.out);
}

#[test]
fn mqueue_is_that_of_the_ipc_namespace() {
    let Some(case) = Case::new("mqueue") else { return };
    assert_eq!(
        case.shell("ls /dev/mqueue | wc -l; touch /dev/mqueue/own; ls /dev/mqueue").good().out,
        "0\nown\n"
    );
    assert!(!std::path::Path::new("/dev/mqueue/own").exists());
}

#[test]
fn sysfs_shows_the_network_namespace() {
    let Some(case) = Case::new("sysfs") else { return };
    assert_eq!(case.shell("ls /sys/class/net").good().out.trim(), "lo");
}

/// The kernel lets a user namespace mount these only if what it would see is no more than before (user_namespaces(7)).
#[test]
fn proc_sysfs_mqueue_and_devpts_are_mounted_in_a_user_namespace() {
    let Some(case) = Case::new("userns-mounts") else { return };
    case.user_namespace(100_000, 65536);
    let said = case.shell("awk '{print $5}' /proc/self/mountinfo | grep -cxE '/proc|/sys|/dev/mqueue|/dev/pts'; ls /sys/class/net; ls /proc/self/fd >/dev/null && echo ok");
    assert_eq!(said.good().out, "4\nlo\nok\n");
    case.assert_nothing_left();
}

#[test]
fn a_cgroup_mount_shows_the_containers_groups() {
    let Some(case) = Case::new("cgroup-mount") else { return };
    case.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
    case.edit(|config| config["linux"]["resources"]["pids"] = json!({ "limit": 33 }));
    // Without a cgroup namespace version 1 shows the group as the root of each mount, version 2 the whole tree.
    case.namespace("cgroup", None);
    let file = if Groups::unified() { "/sys/fs/cgroup/pids.max" } else { "/sys/fs/cgroup/pids/pids.max" };
    let said = case.shell(&format!("cat {file}; echo 1 2>/dev/null > {file} || echo read-only")).good();
    assert_eq!(said.out, "33\nread-only\n");
    let peers: &[Kind] = if Groups::unified() { &[] } else { &[Kind::Crun] };
    differs(peers, "config.md, Mounts, options: \"ro\" is for the mount itself", || {
        assert_eq!(case.shell("touch /sys/fs/cgroup/x 2>/dev/null || echo refused").good().out, "refused\n");
    });
    case.assert_nothing_left();
}

#[test]
fn a_cgroup_mount_without_a_namespace_shows_no_more_than_the_containers_group_on_version_1() {
    let Some(case) = Case::new("cgroup-bound") else { return };
    if Groups::unified() {
        eprintln!("skipped: this machine has no cgroups of version 1");
        return;
    }
    case.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
    case.edit(|config| config["linux"]["resources"]["pids"] = json!({ "limit": 33 }));
    let said = case.shell("cat /sys/fs/cgroup/pids/pids.max; ls -d /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/freezer/freezer.state").good();
    assert_eq!(
        said.out,
        "33\n/sys/fs/cgroup/freezer/freezer.state\n/sys/fs/cgroup/memory/memory.limit_in_bytes\n"
    );
}

#[test]
fn a_writable_cgroup_mount_can_make_groups_below() {
    let Some(case) = Case::new("cgroup-rw") else { return };
    case.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
        .namespace("cgroup", None);
    let dir = if Groups::unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    assert_eq!(
        case.shell(&format!(
            "mkdir {dir}/below && cat {dir}/below/cgroup.procs && rmdir {dir}/below && echo ok"
        ))
        .good()
        .out,
        "ok\n"
    );
    case.assert_nothing_left();
}

#[test]
fn groups_that_the_container_made_are_removed_with_it() {
    let Some(case) = Case::new("cgroup-nested") else { return };
    case.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
        .namespace("cgroup", None);
    let dir = if Groups::unified() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let _ = case.shell(&format!("mkdir -p {dir}/a/b {dir}/c")).good();
    case.assert_nothing_left();
}

#[test]
fn an_unknown_file_system_is_an_error_that_names_it() {
    let Some(case) = Case::new("unknown-fs") else { return };
    case.mount("/mnt", "no-such-fs", "none", &[]);
    let said = case.run().bad();
    assert!(said.contains("no-such-fs") || said.contains("/mnt") || said.contains("mnt"), "{said}");
    case.assert_nothing_left();
}
