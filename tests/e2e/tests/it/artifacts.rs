//! Artifacts as volumes of real pods: mounted, read by folders, held, and never run.

use crate::node::Node;
use rustix::process::Signal;
use serde_json::json;
use test_support::image::{Blob, Image};

/// An artifact of text files under a tag of the node's registry, as `oras push` makes it; answers its reference.
fn artifact(node: &Node, name: &str, files: &[(&str, &str)]) -> String {
    let config = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let blobs: Vec<Blob> =
        files.iter().map(|(_, text)| Blob::new("text/plain", text.as_bytes().to_vec())).collect();
    let titled = |(blob, (title, _)): (&Blob, &(&str, &str))| {
        let mut layer = blob.descriptor();
        layer["annotations"] = json!({ "org.opencontainers.image.title": title });
        layer
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.model",
        "config": config.descriptor(),
        "layers": blobs.iter().zip(files).map(titled).collect::<Vec<_>>(),
    });
    let top = Blob::new("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into_bytes());
    let image = Image { top, manifests: Vec::new(), blobs: [vec![config], blobs].concat(), id: None };
    node.registry.push(name, "1", &image).expect("pushed")
}

fn model(node: &Node) -> String {
    artifact(
        node,
        "model",
        &[
            ("models/llm/config.json", "{\"layers\":7}\n"),
            ("models/llm/run", "#!/bin/sh\necho ran\n"),
            ("README", "read me\n"),
        ],
    )
}

/// The files of a pod and of a container of it, from an image and with mounts.
fn files(node: &Node, name: &str, image: &str, mounts: &str, script: &str) -> (String, String) {
    let logs = node.temp.path().join("logs");
    let pod = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"test","uid":"uid-{name}"}},"log_directory":{logs:?},"linux":{{}}}}"#
    );
    let container = format!(
        r#"{{"metadata":{{"name":"{name}"}},"image":{{"image":"{image}"}},"command":["sh","-c",{script:?}],"log_path":"{name}.log","mounts":{mounts},"linux":{{"security_context":{{"namespace_options":{{"pid":1}}}}}}}}"#
    );
    (node.file(&format!("{name}-pod.json"), &pod), node.file(&format!("{name}.json"), &container))
}

fn mount(image: &str, path: &str, folder: &str) -> String {
    format!(
        r#"{{"container_path":"{path}","image":{{"image":"{image}"}},"image_sub_path":"{folder}","readonly":true}}"#
    )
}

#[test]
fn an_artifact_is_a_volume_of_files_and_is_held_while_its_container_lives() {
    let Some(mut node) = Node::serving() else { return };
    let (busybox, model) = (node.busybox(), model(&node));
    node.ok(&["pull", &busybox]);
    node.ok(&["pull", &model]);
    assert!(node.ok(&["images", "-q", "--no-trunc", &model]).contains("sha256:"));
    let facts: serde_json::Value = serde_json::from_str(&node.ok(&["inspecti", &model])).expect("JSON");
    assert_eq!(facts["info"]["artifactType"], "application/vnd.example.model", "{facts}");
    assert_eq!(facts["info"]["layers"].as_array().map(Vec::len), Some(3), "{facts}");
    let mounts = format!("[{},{}]", mount(&model, "/all", ""), mount(&model, "/llm", "models/llm"));
    let script = "cat /all/README /llm/config.json; stat -c '%a %u:%g %Y %n' /llm/run /all/models; \
        chmod 755 /llm/run 2>/dev/null && echo writable; /llm/run 2>/dev/null && echo executable; \
        grep -E ' /(all|llm) ' /proc/self/mountinfo | cut -d' ' -f5,6; echo end; sleep 1000";
    let (pod, container) = files(&node, "vol", &busybox, &mounts, script);
    let pod_id = node.ok(&["runp", &pod]);
    let id = node.ok(&["create", &pod_id, &container, &pod]);
    node.ok(&["start", &id]);
    node.wait_for("the log", |n| n.log("vol").contains("end"));
    let log = node.log("vol");
    for line in ["read me", r#"{"layers":7}"#, "644 0:0 0 /llm/run", "755 0:0 0 /all/models"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("writable") && !log.contains("executable"), "{log}");
    assert_eq!(log.matches("ro,nosuid,nodev,noexec").count(), 2, "{log}");
    // Its layers stay while the container lives, also over a new daemon.
    node.ok(&["rmi", &model]);
    node.end_daemon(Signal::KILL);
    node.start();
    assert_eq!(node.ok(&["exec", "-s", &id, "cat", "/llm/config.json"]), r#"{"layers":7}"#);
    node.ok(&["stop", "-t", "0", &id]);
    let layers =
        || std::fs::read_dir(node.temp.root().join("snapshots/overlayfs/layers")).expect("list").count();
    let before = layers();
    node.ok(&["rmp", "-f", "-a"]);
    node.wait_for("the artifact's layers to go", |_| layers() + 3 == before);
    node.assert_nothing_left();
}

#[test]
fn an_artifact_is_refused_as_a_container_and_by_a_path_that_is_no_folder() {
    let Some(node) = Node::serving() else { return };
    let (busybox, model) = (node.busybox(), model(&node));
    node.ok(&["pull", &busybox]);
    node.ok(&["pull", &model]);
    let (pod, container) = files(&node, "run", &model, "[]", "true");
    let pod_id = node.ok(&["runp", &pod]);
    let said = node.fails(&["create", &pod_id, &container, &pod]);
    assert!(said.contains("is an artifact, not a container image") && said.contains(&model), "{said}");
    for (name, folder) in [("file", "README"), ("missing", "models/other")] {
        let (_, container) =
            files(&node, name, &busybox, &format!("[{}]", mount(&model, "/vol", folder)), "true");
        let id = node.ok(&["create", &pod_id, &container, &pod]);
        let said = node.fails(&["start", &id]);
        assert!(said.contains("has no folder") && said.contains(folder), "{said}");
    }
    let hostile = artifact(&node, "hostile", &[("fine", "1"), ("../../etc/passwd", "2")]);
    let said = node.fails(&["pull", &hostile]);
    assert!(said.contains("../../etc/passwd") && said.contains("it is refused"), "{said}");
    assert!(node.ok(&["images", "check"]).contains("model"), "and all that is here is whole");
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}

#[test]
fn corten_run_fetches_and_mounts_an_artifact() {
    let Some(node) = Node::serving() else { return };
    let (busybox, model) = (node.busybox(), model(&node));
    let pod = node.file(
        "run.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: run}}\nspec:\n  restartPolicy: Never\n  volumes:\n  - name: v\n    \
             image: {{reference: {model:?}}}\n  containers:\n  - name: c\n    image: {busybox}\n    command: [cat, /all/README, /part/config.json]\n    \
             volumeMounts:\n    - {{name: v, mountPath: /all}}\n    - {{name: v, mountPath: /part, subPath: models/llm}}\n"
        ),
    );
    let said = node.ok(&["run", &pod]);
    assert!(said.contains("read me") && said.contains(r#"{"layers":7}"#), "{said}");
    node.assert_nothing_left();
}
