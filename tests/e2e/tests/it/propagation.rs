//! Mounts that propagate both ways, on a node whose root is shared, as systemd makes it.

use crate::node::Node;

#[test]
fn a_volume_shares_its_mounts_with_the_node_and_nothing_else_is_touched() {
    let Some(mut node) = Node::new() else { return };
    // The daemon gets a mount namespace of its own in which everything is shared.
    node.start_under(&[
        "unshare",
        "--mount",
        "--propagation",
        "unchanged",
        "sh",
        "-c",
        "mount --make-rshared / && exec \"$@\"",
        "sh",
    ]);
    node.ok(&["pull", &node.busybox()]);
    let volume = node.temp.path().join("volume");
    std::fs::create_dir(&volume).expect("made");
    let before = mounts(node.pid());
    let pod = node.file("pod.json", r#"{"metadata":{"name":"p","namespace":"test","uid":"u"},"linux":{"security_context":{"privileged":true}}}"#);
    let image = node.busybox();
    let script = "mkdir /v/inner && mount -t tmpfs made-inside /v/inner && sleep 1000";
    let container = node.file(
        "container.json",
        &format!(
            r#"{{"metadata":{{"name":"c"}},"image":{{"image":"{image}"}},"command":["sh","-c",{script:?}],
                "mounts":[{{"container_path":"/v","host_path":{volume:?},"propagation":2}}],
                "linux":{{"security_context":{{"privileged":true,"namespace_options":{{"pid":1}}}}}}}}"#
        ),
    );
    let pod_id = node.ok(&["runp", &pod]);
    let id = node.ok(&["create", &pod_id, &container, &pod]);
    node.ok(&["start", &id]);
    node.wait_for("the container's mount", |n| mounts(n.pid()).iter().any(|m| m.ends_with("/volume/inner")));
    node.ok(&["stop", "-t", "0", &id]);
    let after = mounts(node.pid());
    let lost: Vec<_> = before.iter().filter(|m| !after.contains(m)).collect();
    assert!(lost.is_empty(), "the node lost {lost:?}");
    let more: Vec<_> = after
        .iter()
        .filter(|m| !before.contains(m) && !m.contains("/pods/") && !m.ends_with("/volume/inner"))
        .collect();
    assert!(more.is_empty(), "the node got {more:?}");
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}

/// Mount points in the mount namespace of a process.
fn mounts(pid: i32) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
    table.lines().filter_map(|l| l.split(' ').nth(4)).map(str::to_owned).collect()
}
