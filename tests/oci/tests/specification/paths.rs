//! config-linux.md, "Masked Paths", "Readonly Paths" and "Sysctl".

use oci_suite::{Case, Kind, Process, differs, lacks};
use serde_json::json;

#[test]
fn masked_files_are_empty_and_masked_folders_too() {
    let Some(case) = Case::new("masked") else { return };
    std::fs::create_dir(case.bundle.root().join("secret")).unwrap();
    std::fs::write(case.bundle.root().join("secret/inner"), "x").unwrap();
    std::fs::write(case.bundle.root().join("etc/hidden"), "x").unwrap();
    case.edit(|config| {
        config["linux"]["maskedPaths"] =
            json!(["/proc/version", "/secret", "/etc/hidden", "/no/such/path", "/proc/acpi"]);
    });
    let script = "cat /proc/version /etc/hidden; ls /secret; echo y 2>/dev/null > /etc/hidden; touch /secret/x 2>/dev/null || echo refused";
    assert_eq!(case.shell(script).good().out, "refused\n");
    assert_eq!(std::fs::read_to_string(case.bundle.root().join("etc/hidden")).unwrap(), "x");
    assert!(!case.bundle.root().join("no").exists(), "a path that is not there is not made");
    case.assert_nothing_left();
}

#[test]
fn masked_paths_must_be_absolute() {
    let Some(case) = Case::new("masked-relative") else { return };
    case.edit(|config| config["linux"]["maskedPaths"] = json!(["proc/version"]));
    let words =
        "config-linux.md, Masked Paths: \"The values MUST be absolute paths in the container namespace.\"";
    differs(&[Kind::Runc, Kind::Crun], words, || drop(case.run().bad()));
}

#[test]
fn readonly_paths_can_be_read_and_not_written() {
    let Some(case) = Case::new("readonly") else { return };
    std::fs::create_dir(case.bundle.root().join("fixed")).unwrap();
    std::fs::write(case.bundle.root().join("fixed/file"), "kept\n").unwrap();
    case.edit(|config| config["linux"]["readonlyPaths"] = json!(["/fixed", "/proc/sys", "/no/such/path"]));
    let script = "cat /fixed/file; touch /fixed/x 2>/dev/null || echo refused; \
        echo x 2>/dev/null > /proc/sys/kernel/domainname || echo refused";
    assert_eq!(case.shell(script).good().out, "kept\nrefused\nrefused\n");
    assert!(!case.bundle.root().join("fixed/x").exists() && !case.bundle.root().join("no").exists());
}

#[test]
fn a_readonly_path_keeps_the_flags_of_its_mount() {
    let Some(case) = Case::new("readonly-flags") else { return };
    case.mount("/m", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec"]);
    case.edit(|config| config["linux"]["readonlyPaths"] = json!(["/m"]));
    let mount = case.sleeps().run_detached().mount_at("/m");
    let words = "config-linux.md, Readonly Paths: it \"will set the provided paths as readonly inside the container\", and nothing else";
    differs(&[Kind::Crun], words, || assert!(mount.has(&["ro", "nosuid", "nodev", "noexec"]), "{mount:?}"));
}

#[test]
fn sysctls_are_set_in_the_containers_namespaces_and_not_on_the_host() {
    let Some(case) = Case::new("sysctl") else { return };
    let before = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    case.edit(|config| {
        config["linux"]["sysctl"] =
            json!({ "kernel.msgmax": "4321", "net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "17", "kernel.shm_rmid_forced": "1" });
    });
    let said = case.shell(
        "cd /proc/sys; cat kernel/msgmax net/ipv4/ip_forward fs/mqueue/msg_max kernel/shm_rmid_forced",
    );
    assert_eq!(said.good().out, "4321\n1\n17\n1\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
}

#[test]
fn a_sysctl_may_be_written_with_slashes() {
    let Some(case) = Case::new("sysctl-slash") else { return };
    if lacks(&[Kind::Runc, Kind::Crun], "sysctls with slashes") {
        return;
    }
    case.edit(|config| config["linux"]["sysctl"] = json!({ "net/ipv4/conf/lo/forwarding": "1" }));
    assert_eq!(case.shell("cat /proc/sys/net/ipv4/conf/lo/forwarding").good().out, "1\n");
}

#[test]
fn a_sysctl_of_the_whole_host_is_an_error() {
    let Some(case) = Case::new("sysctl-host") else { return };
    let before = Process::own().read("../sys/vm/max_map_count");
    case.edit(|config| config["linux"]["sysctl"] = json!({ "vm.max_map_count": "77777" }));
    let said = case.run().bad();
    assert!(said.contains("vm.max_map_count") || said.contains("vm/max_map_count"), "{said}");
    assert_eq!(Process::own().read("../sys/vm/max_map_count"), before);
    case.without_namespace("network");
    case.edit(|config| config["linux"]["sysctl"] = json!({ "net.ipv4.ip_default_ttl": "77" }));
    let _ = case.run().bad();
    assert_ne!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap(), "77\n");
    case.assert_nothing_left();
}
