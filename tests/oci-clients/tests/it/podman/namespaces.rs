//! Namespaces, names, mounts.

use super::Podman;

fn own(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

const SHOW: &str = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done";

#[test]
fn namespaces_are_own_the_hosts_or_another_containers() {
    let Some(podman) = Podman::new() else { return };
    let apart = podman.sh(&[], SHOW);
    let kinds = ["net", "ipc", "uts", "pid", "mnt"];
    for (kind, shown) in kinds.iter().zip(apart.lines()) {
        assert_ne!(shown, own(kind), "{kind}");
    }
    let shared = podman.sh(&["--network", "host", "--ipc", "host", "--uts", "host", "--pid", "host"], SHOW);
    for (kind, shown) in kinds.iter().zip(shared.lines()).take(4) {
        assert_eq!(shown, own(kind), "{kind}");
    }
    podman.start("first", &[], &["sleep", "1000"]);
    let pid = podman.field("first", "{{.State.Pid}}");
    let joined = podman.sh(
        &["--network", "container:first", "--ipc", "container:first", "--pid", "container:first"],
        &format!("{SHOW}; ps"),
    );
    for (at, kind) in [(0, "net"), (1, "ipc"), (3, "pid")] {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
        assert_eq!(joined.lines().nth(at).unwrap(), theirs, "{kind}");
    }
    assert!(joined.contains("sleep 1000"), "{joined}");
    podman.end();
}

#[test]
fn ids_are_mapped_in_a_user_namespace() {
    let Some(podman) = Podman::new() else { return };
    let options = ["--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000"];
    let script = "id -u; id -g; tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; echo x > /dev/null && echo open; \
                  touch /new && stat -c %u /new; ls -ld /proc/1 | wc -l";
    let shown = podman.sh(&options, script);
    assert_eq!(shown, "0\n0\n 0 100000 1000\n 0 200000 1000\nopen\n0\n1");
    // And a command enters it.
    podman.start("mapped", &options, &["sleep", "1000"]);
    assert_eq!(
        podman.ok(&["exec", "mapped", "sh", "-c", "id -u; tr -s ' ' < /proc/self/uid_map"]),
        "0\n 0 100000 1000"
    );
    let pid = podman.field("mapped", "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t100000"), "{status}");
    podman.end();
}

#[test]
fn names_sysctls_environment_and_the_first_folder_are_set() {
    let Some(podman) = Podman::new() else { return };
    let options = [
        "--hostname",
        "box",
        "--env",
        "A=b c",
        "--workdir",
        "/var",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.msgmax=4321",
    ];
    let script = "hostname; echo $A; pwd; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax";
    assert_eq!(podman.sh(&options, script), "box\nb c\n/var\n1\n4321");
    podman.end();
}

#[test]
fn volumes_and_tmpfs_are_mounted_as_asked() {
    let Some(podman) = Podman::new() else { return };
    let folder = podman.path("shared");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "from outside").unwrap();
    let volume = |options: &str| format!("{}:/mnt/v{options}", folder.display());
    let script = "cat /mnt/v/file; touch /mnt/v/new 2>&1 && echo written; df /mnt/t -k | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2";
    let tmpfs = ["--tmpfs", "/mnt/t:size=2m"];
    let shown = podman.sh(&[&tmpfs[..], &["--volume", &volume(":ro")]].concat(), script);
    assert!(
        shown.starts_with("from outside") && shown.contains("Read-only") && shown.ends_with("2048"),
        "{shown}"
    );
    let shown = podman.sh(&[&tmpfs[..], &["--volume", &volume(":rw,rslave,noexec")]].concat(), script);
    assert_eq!(shown, "from outsidewritten\n2048");
    assert!(folder.join("new").exists());
    // A named volume takes over what the image has at its place; and stays until it is removed.
    podman.sh(&["--volume", "data:/etc"], "echo kept > /etc/kept");
    assert_eq!(
        podman.sh(&["--volume", "data:/mnt"], "cat /mnt/kept; test -e /mnt/passwd && echo taken"),
        "kept\ntaken"
    );
    podman.ok(&["volume", "rm", "data"]);
    podman.end();
}

#[test]
fn a_container_sees_its_own_cgroups_only() {
    let Some(podman) = Podman::new() else { return };
    let script =
        "cut -d : -f 3 /proc/self/cgroup | sort -u; mount | grep -c 'type cgroup'; touch /sys/fs/cgroup/new";
    let output =
        podman.podman(&podman.making("run", &["--rm", "--cgroupns", "private"], &["sh", "-c", script]));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.starts_with("/\n") && !shown.contains("libpod"), "{shown}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("Read-only") || error.contains("denied"), "{error}");
    podman.end();
}

#[test]
fn a_system_manager_finds_what_it_needs() {
    let Some(podman) = Podman::new() else { return };
    // Podman mounts for systemd inside: a writable name=systemd hierarchy on v1, all of it on v2.
    let script = "for d in /run /run/lock /tmp; do grep -q \" $d tmpfs\" /proc/mounts || echo $d; done; d=/sys/fs/cgroup/systemd; \
                  test -d $d || d=/sys/fs/cgroup; mkdir $d/inner && rmdir $d/inner && echo writable";
    assert_eq!(podman.sh(&["--systemd", "always"], script), "writable");
    podman.end();
}

#[test]
fn bind_mounts_take_options_and_tmpfs_copies_what_it_covers() {
    let Some(podman) = Podman::new() else { return };
    let folder = podman.path("shared");
    std::fs::create_dir(&folder).unwrap();
    let bind = format!("type=bind,src={},dst=/mnt/b,ro=true,bind-propagation=rshared", folder.display());
    let script = "grep ' /mnt/b ' /proc/self/mountinfo; touch /mnt/b/new; test -s /etc/passwd && touch /etc/new && echo copied";
    let options = ["--mount", &bind, "--mount", "type=tmpfs,destination=/etc,tmpcopyup"];
    let shown = podman.sh(&options, script);
    assert!(shown.contains("/mnt/b ro,relatime shared:") && shown.ends_with("copied"), "{shown}");
    assert_eq!(podman.sh(&["--security-opt", "mask=/etc/passwd"], "wc -c < /etc/passwd"), "0");
    podman.end();
}
