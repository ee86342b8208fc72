//! Containers with very little memory. What the kernel reads for a process is charged to its cgroup, with all that it reads
//! ahead; so a program that is not in memory when it starts could be the end of its container.

use crate::node::Node;
use std::path::{Path, PathBuf};
use test_support::image::{Image, Layer};

/// Bytes; the program alone has two MiB.
const LIMIT: u64 = 1 << 20;

/// A pod with a container of so little memory, not started; answers its id.
fn container(node: &Node, name: &str, image: &str, command: &str) -> String {
    let logs = node.temp.path().join("logs");
    let pod = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"test","uid":"uid-{name}"}},"log_directory":{logs:?},"linux":{{}}}}"#
    );
    let container = format!(
        r#"{{"metadata":{{"name":"{name}"}},"image":{{"image":"{image}"}},"command":{command},"log_path":"{name}.log","linux":{{"resources":{{"memory_limit_in_bytes":{LIMIT}}},"security_context":{{"namespace_options":{{"pid":1}}}}}}}}"#
    );
    let pod = node.file(&format!("{name}-pod.json"), &pod);
    let container = node.file(&format!("{name}.json"), &container);
    let pod_id = node.ok(&["runp", &pod]);
    node.ok(&["create", &pod_id, &container, &pod])
}

/// Files of this name in the node's layers.
fn in_layers(node: &Node, file: &str) -> Vec<PathBuf> {
    let layers = node.temp.root().join("snapshots/overlayfs/layers");
    let layers = std::fs::read_dir(layers).expect("layers");
    let found: Vec<_> = layers
        .map(|layer| layer.expect("entry").path().join("fs").join(file))
        .filter(|path| path.is_file())
        .collect();
    assert!(!found.is_empty(), "{file}");
    found
}

/// Takes a file out of memory, as load does in time.
fn forget(path: &Path) {
    let file = std::fs::File::open(path).expect("open");
    // What is not on the disk yet stays.
    rustix::fs::fsync(&file).expect("sync");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("forget");
}

#[test]
fn a_container_with_little_memory_lives_when_its_program_has_to_be_read_first() {
    let Some(node) = Node::serving() else { return };
    let program = std::fs::read("/bin/busybox").expect("busybox");
    let layer = Layer::new()
        .dir("bin", 0o755)
        .file("bin/busybox", 0o755, program.clone())
        .symlink("bin/sh", "busybox")
        .symlink("bin/echo", "busybox")
        .symlink("bin/sleep", "busybox")
        .file("bin/script", 0o755, "#!/bin/sh\necho ran\n")
        .dir("copy", 0o755)
        .file("copy/busybox", 0o755, program);
    let image = Image::builder().layer(layer).env(&["PATH=/bin"]).build().expect("an image");
    let image = node.registry.push("little", "1", &image).expect("pushed");
    node.ok(&["pull", &image]);
    for round in 0..8 {
        let name = format!("cold-{round}");
        let command = if round % 4 == 0 { r#"["script"]"# } else { r#"["echo","ran"]"# };
        let id = container(&node, &name, &image, command);
        in_layers(&node, "bin/busybox").iter().for_each(|path| forget(path));
        node.ok(&["start", &id]);
        node.wait_for("its end", |n| n.status(&id, "state") == "CONTAINER_EXITED");
        let status = (node.status(&id, "exitCode"), node.status(&id, "reason"));
        assert_eq!(status, (0.into(), "Completed".into()), "round {round}");
        assert!(node.log(&name).contains("ran"), "round {round}");
    }
    // What runs stays in memory, and this copy of it does not.
    let id = container(&node, "warm", &image, r#"["sleep","1000"]"#);
    node.ok(&["start", &id]);
    for round in 0..8 {
        in_layers(&node, "copy/busybox").iter().for_each(|path| forget(path));
        assert_eq!(node.ok(&["exec", "-s", &id, "/copy/busybox", "echo", "ran"]), "ran", "exec {round}");
    }
    assert_eq!(node.status(&id, "state"), "CONTAINER_RUNNING");
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}
