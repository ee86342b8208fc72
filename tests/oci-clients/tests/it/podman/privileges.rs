//! What a container may do: user, capabilities, seccomp, devices, paths.

use super::Podman;

#[test]
fn users_and_groups_are_as_asked() {
    let Some(podman) = Podman::new() else { return };
    assert_eq!(podman.sh(&["--user", "12:34", "--group-add", "56"], "id -u; id -g; id -G"), "12\n34\n34 56");
    assert_eq!(podman.sh(&["--umask", "0077"], "umask"), "0077");
    podman.end();
}

#[test]
fn capabilities_and_no_new_privileges_hold() {
    let Some(podman) = Podman::new() else { return };
    let show =
        "grep -E '^(CapEff|CapPrm|CapBnd|CapInh|CapAmb|NoNewPrivs)' /proc/self/status | tr -s '\\t' ' '";
    let none = "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n\
                CapBnd: 0000000000000000\nCapAmb: 0000000000000000\nNoNewPrivs: 1";
    let options = ["--cap-drop", "all", "--security-opt", "no-new-privileges"];
    assert_eq!(podman.sh(&options, show), none);
    let shown = podman.sh(&["--cap-drop", "all", "--cap-add", "net_bind_service"], show);
    assert!(shown.contains("CapEff: 0000000000000400") && shown.contains("NoNewPrivs: 0"), "{shown}");
    // Inheritable ones never come in (CVE-2022-29162), by a command neither.
    podman.start("stays", &[], &["sleep", "1000"]);
    let shown = podman.ok(&["exec", "stays", "sh", "-c", show]);
    assert!(
        shown.contains("CapInh: 0000000000000000") && shown.contains("CapAmb: 0000000000000000"),
        "{shown}"
    );
    podman.end();
}

#[test]
fn podmans_seccomp_profile_and_ones_own_are_loaded() {
    let Some(podman) = Podman::new() else { return };
    let mode = "grep -E '^Seccomp:' /proc/self/status | tr -s '\\t' ' '";
    assert_eq!(podman.sh(&[], mode), "Seccomp: 2");
    assert_eq!(podman.sh(&["--security-opt", "seccomp=unconfined"], mode), "Seccomp: 0");
    let profile = podman.path("profile.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":122},
        {"names":["chmod","fchmodat"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
    std::fs::write(&profile, text).unwrap();
    let option = format!("seccomp={}", profile.display());
    let script = "mkdir /new 2>&1; chmod 700 /etc; echo $?";
    let shown = podman.sh(&["--security-opt", &option], script);
    assert!(shown.contains("quota exceeded") && shown.ends_with("159"), "{shown}");
    podman.end();
}

#[test]
fn the_root_and_the_kernels_paths_are_shut() {
    let Some(podman) = Podman::new() else { return };
    let shown = podman.sh(&["--read-only"], "touch /new 2>&1; touch /tmp/new && echo fine");
    assert!(shown.contains("Read-only file system") && shown.contains("fine"), "{shown}");
    // Podman masks these by the runtime's `maskedPaths`; a kernel need not have them all.
    let masked = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do \
                  if test -e $f && test -n \"$(head -c 1 $f)\"; then echo $f is open; fi; done; ls /sys/firmware | wc -l";
    assert_eq!(podman.sh(&[], masked), "0");
    let script = "echo 1 > /proc/sys/kernel/panic; mount -t tmpfs none /tmp; touch /sys/new; true";
    let output = podman.podman(&podman.making("run", &["--rm"], &["sh", "-c", script]));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("panic: Read-only") && errors.contains("/sys/new: Read-only"), "{errors}");
    assert!(errors.contains("denied") || errors.contains("not permitted"), "{errors}");
    podman.end();
}

#[test]
fn devices_are_there_and_others_are_shut() {
    let Some(podman) = Podman::new() else { return };
    let script = "test -c /dev/other && echo made; echo x > /dev/other && echo open; \
                  mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg";
    let options = ["--device", "/dev/null:/dev/other:rwm"];
    let output =
        podman.podman(&podman.making("run", &[&["--rm"], &options[..]].concat(), &["sh", "-c", script]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "made\nopen\n");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("not permitted"), "{errors}");
    podman.end();
}

#[test]
fn a_privileged_container_has_everything() {
    let Some(podman) = Podman::new() else { return };
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = all.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap().to_owned();
    let script = "grep CapEff /proc/self/status | cut -f 2; grep Seccomp: /proc/self/status | cut -f 2; \
                  mount -t tmpfs none /tmp && echo mounted; echo 1 > /proc/sys/vm/drop_caches && echo sysctl";
    assert_eq!(podman.sh(&["--privileged"], script), format!("{bounding}\n0\nmounted\nsysctl"));
    podman.end();
}
