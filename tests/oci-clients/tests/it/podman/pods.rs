//! Pods: a first container holds the namespaces, others join them by path.

use super::{IMAGE, Podman};

#[test]
fn containers_of_a_pod_share_namespaces_and_end_together() {
    let Some(podman) = Podman::new() else { return };
    let parent = podman.cgroups().name.clone();
    podman.ok(&[
        "pod",
        "create",
        "--name",
        "pod",
        "--network",
        "none",
        "--share",
        "net,ipc,uts,pid",
        "--cgroup-parent",
        &parent,
        "--infra-image",
        IMAGE,
        "--infra-command",
        "sleep 100000",
    ]);
    podman.start("member", &["--pod", "pod"], &["sleep", "1000"]);
    let shown = podman.ok(&["run", "--rm", "--pod", "pod", IMAGE, "ps"]);
    assert!(shown.contains("sleep 100000") && shown.contains("sleep 1000\n"), "{shown}");
    assert_eq!(podman.ok(&["pod", "ps", "--format", "{{.Status}} {{.NumberOfContainers}}"]), "Running 2");
    podman.ok(&["pod", "pause", "pod"]);
    assert_eq!(podman.field("member", "{{.State.Status}}"), "paused");
    podman.ok(&["pod", "unpause", "pod"]);
    podman.ok(&["pod", "stop", "-t", "0", "pod"]);
    // "stopped" until Podman's own clean-up process has run.
    let state = podman.field("member", "{{.State.Status}}");
    assert!(matches!(state.as_str(), "stopped" | "exited"), "{state}");
    podman.ok(&["pod", "rm", "-f", "pod"]);
    assert_eq!(podman.ok(&["ps", "-a", "-q"]), "");
    podman.end();
}
