//! crictl's verbs against our daemon.

use crate::node::Node;

#[test]
fn a_container_from_pull_to_removal() {
    let Some(node) = Node::serving() else { return };
    let image = node.busybox();
    node.ok(&["pull", &image]);
    let images = node.ok(&["images"]);
    assert!(images.contains("busybox") && images.contains("IMAGE ID"), "{images}");
    let (pod, id) = node.container("web", "echo hello from $HOSTNAME; sleep 1000");
    assert!(node.ok(&["pods"]).contains(&pod[..13]));
    assert!(node.ok(&["ps"]).contains(&id[..13]));
    assert_eq!(node.ok(&["exec", "-s", &id, "echo", "from", "exec"]), "from exec");
    node.wait_for("the log", |n| n.ok(&["logs", &id]).contains("hello from"));
    assert_eq!(node.status(&id, "state"), "CONTAINER_RUNNING");
    let ip = node.ok(&["inspectp", "-o", "json", &pod]);
    let json: serde_json::Value = serde_json::from_str(&ip).expect("JSON");
    assert!(json["status"]["network"]["ip"].as_str().is_some_and(|ip| ip.starts_with("10.")), "{ip}");
    node.ok(&["stop", "-t", "0", &id]);
    assert_eq!(node.status(&id, "state"), "CONTAINER_EXITED");
    assert_eq!(node.status(&id, "exitCode"), 137);
    node.ok(&["rm", &id]);
    node.ok(&["stopp", &pod]);
    node.ok(&["rmp", &pod]);
    node.ok(&["rmi", &image]);
    assert!(!node.ok(&["images"]).contains("busybox"));
    node.assert_nothing_left();
}

#[test]
fn what_cannot_be_is_told_in_a_sentence() {
    let Some(node) = Node::serving() else { return };
    let missing = node.registry.reference("nothing", "here");
    let said = node.fails(&["pull", &missing]);
    assert!(said.contains("nothing") && !said.contains("panicked"), "{said}");
    assert!(node.fails(&["inspect", "abcdef"]).contains("abcdef"));
    node.ok(&["stop", "abcdef"]);
    node.assert_nothing_left();
}
