//! The cgroups of others, out of a container (CVE-2023-25809).

use oci_suite::{Case, Groups};
use serde_json::json;

/// Tries to make a group in, and to move itself to, every folder of `/sys/fs/cgroup` that is of a cgroup file system (and not the
/// tmpfs around them), and to write to files there. What worked is printed.
const TRY_ALL: &str =
    "for dir in /sys/fs/cgroup /sys/fs/cgroup/* $(find /sys/fs/cgroup -type d 2>/dev/null | head -300); do
        case $(stat -f -c %t $dir) in 27e0eb|63677270) ;; *) continue ;; esac
        echo LOOKED
        mkdir $dir/corten-test-escape 2>/dev/null && echo MADE $dir
        (echo 0 >$dir/cgroup.procs) 2>/dev/null && echo JOINED $dir
        for file in release_agent notify_on_release cpu.shares memory.limit_in_bytes pids.max; do
            [ -e $dir/$file ] && (echo 1 >$dir/$file) 2>/dev/null && echo WROTE $dir/$file
        done
    done; :";

/// All ways to show a cgroup file system read-only, without a cgroup namespace: as `runc spec --rootless` writes it (all of
/// `/sys` bound, `ro`), and by a cgroup mount.
fn readonly_views(case: &Case) -> Vec<serde_json::Value> {
    let base: Vec<_> = case.bundle.config()["mounts"].as_array().unwrap().clone();
    let others: Vec<_> = base.into_iter().filter(|mount| mount["destination"] != "/sys").collect();
    let sysfs = json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] });
    let bound = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] });
    let cgroup = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] });
    let with = |more: &[&serde_json::Value]| -> serde_json::Value {
        others.iter().chain(more.iter().copied()).cloned().collect::<Vec<_>>().into()
    };
    vec![with(&[&sysfs, &cgroup]), with(&[&bound, &cgroup])]
}

fn assert_nothing_worked(case: &Case, what: &str) {
    let said = case.shell(TRY_ALL);
    // Refused is fine, too.
    assert!(
        said.code != 0 || said.out.contains("LOOKED"),
        "{what}: there are no cgroups to try: {}{}",
        said.out,
        said.err
    );
    for worked in ["MADE", "JOINED", "WROTE"] {
        assert!(!said.out.contains(worked), "{what}: {}", said.out);
    }
    let escaped = Groups::named("corten-test-escape");
    assert!(escaped.is_empty(), "{what}: {escaped:?}");
    assert!(
        !std::path::Path::new("/sys/fs/cgroup/corten-test-escape").exists(),
        "{what}: the node's own folder"
    );
}

/// Rootless runc (until 1.1.4) without a cgroup namespace left `/sys/fs/cgroup` writable though the bundle said `ro`: the
/// container could change the groups of the user who started it. Here root of a user namespace that maps this very user to root,
/// who thus owns all groups, and plain root.
#[test]
fn cve_2023_25809_cgroups_that_are_read_only_cannot_be_changed() {
    let Some(case) = Case::new("25809") else { return };
    for (number, mounts) in readonly_views(&case).into_iter().enumerate() {
        case.edit(|config| config["mounts"] = mounts);
        assert_nothing_worked(&case, &format!("root, view {number}"));
        case.delete_force();
    }
    case.assert_nothing_left();
    drop(case);
    let Some(case) = Case::new("25809-user") else { return };
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
    case.namespace("user", None).edit(|config| {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
    for (number, mounts) in readonly_views(&case).into_iter().enumerate() {
        case.edit(|config| config["mounts"] = mounts);
        assert_nothing_worked(&case, &format!("root of a user namespace, view {number}"));
        case.delete_force();
    }
    case.assert_nothing_left();
}

/// With a cgroup namespace the container sees its own group as the root, and can write there if it was told so: never above.
#[test]
fn a_writable_cgroup_mount_ends_at_the_containers_own_group() {
    let Some(case) = Case::new("cgroup-own") else { return };
    case.namespace("cgroup", None).capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    case.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    let said = case.shell("cat /proc/self/cgroup; for dir in /sys/fs/cgroup/*; do mkdir $dir/../corten-test-escape $dir/inner; done 2>/dev/null; \
        cat /proc/self/mountinfo | grep cgroup");
    let escaped: Vec<_> = Groups::named("corten-test-escape")
        .into_iter()
        .filter(|path| !path.to_string_lossy().contains(&case.id))
        .collect();
    assert!(escaped.is_empty(), "{escaped:?} {}", said.out);
    for line in said.out.lines().filter(|line| line.contains(" - cgroup")) {
        assert!(line.split(' ').nth(3) == Some("/"), "a part of the node's tree is shown: {line}");
    }
    case.delete_force();
    case.assert_nothing_left();
}
