//! A policy that becomes stricter after a pull: what runs goes on, and nothing new is made from what it refuses.

use crate::node::Node;

/// A node whose images are judged by a file, and the file.
fn node() -> Option<(Node, std::path::PathBuf)> {
    let mut node = Node::new()?;
    let policy = node.temp.path().join("policy.json");
    let config = std::fs::read_to_string(node.config()).expect("configuration");
    std::fs::write(node.config(), format!("{config}[images]\npolicy = {policy:?}\n")).expect("write");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("policy");
    node.start();
    Some((node, policy))
}

#[test]
fn no_container_is_made_from_an_image_that_the_policy_refuses_since_its_pull() {
    let Some((node, policy)) = node() else { return };
    let busybox = node.busybox();
    node.ok(&["pull", &busybox]);
    let (pod, first) = node.container("first", "sleep 1000");
    let make = |name: &str, image: &str, more: &str| {
        let file = node.file(
            &format!("{name}.json"),
            &format!(
                r#"{{"metadata":{{"name":"{name}"}},"image":{{"image":"{image}"{more}}},"command":["true"],"linux":{{}}}}"#
            ),
        );
        (file, node.temp.path().join("first-pod.json").display().to_string())
    };
    let id = node.ok(&["images", "-q", &busybox]);
    let written = format!(r#","user_specified_image":"{busybox}""#);
    let host = node.registry.host();
    std::fs::write(
        &policy,
        format!(r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{"{host}":[{{"type":"reject"}}]}}}}}}"#),
    )
    .expect("policy");
    // By its name, by its id, and by its id with the name that the pod's author wrote, as the kubelet asks.
    for (name, image, more) in [("name", &busybox, ""), ("id", &id, ""), ("both", &id, written.as_str())] {
        let (file, config) = make(name, image, more);
        let said = node.fails(&["create", &pod, &file, &config]);
        let rule = format!(r#"transports.docker["{host}"], requirement 1 (reject)"#);
        assert!(said.contains(&rule) && said.contains("policy.json"), "{name}: {said}");
    }
    // Nor is it mounted.
    let mounts = format!(r#"[{{"container_path":"/v","image":{{"image":"{busybox}"}},"readonly":true}}]"#);
    let other =
        node.registry.push("other", "1", &test_support::image::busybox().expect("busybox")).expect("push");
    assert_eq!(node.status(&first, "state"), "CONTAINER_RUNNING", "what runs goes on");
    assert!(node.fails(&["pull", &other]).contains("requirement 1 (reject)"));
    let list = node.ok(&["ps", "-a", "-q"]);
    assert_eq!(list.lines().count(), 1, "nothing of a refused container stays: {list}");
    std::fs::write(&policy, "{").expect("policy");
    let (file, config) = make("broken", &busybox, "");
    assert!(
        node.fails(&["create", &pod, &file, &config]).contains("policy.json"),
        "a broken policy lets nothing in"
    );
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("policy");
    let (file, config) = make("again", &id, &written);
    node.ok(&["create", &pod, &file, &config]);
    // The image of a volume is judged as the container's own.
    node.ok(&["pull", &other]);
    std::fs::write(
        &policy,
        format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"{host}/other":[{{"type":"insecureAcceptAnything"}}]}}}}}}"#),
    )
    .expect("policy");
    let file = node.file(
        "mounting.json",
        &format!(
            r#"{{"metadata":{{"name":"mounting"}},"image":{{"image":"{other}"}},"command":["true"],"mounts":{mounts},"linux":{{}}}}"#
        ),
    );
    let said = node.fails(&["create", &pod, &file, &config]);
    assert!(said.contains("default, requirement 1 (reject)") && said.contains(&busybox), "{said}");
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}
