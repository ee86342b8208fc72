//! What a privileged container can do to the images of the node: nothing.

use crate::node::Node;
use test_support::image::{Image, Layer};

/// With all rights and all mounts at its command, in a pod of the same kind.
fn privileged(node: &Node, name: &str, volume: &str, script: &str) -> String {
    let logs = node.temp.path().join("logs");
    let pod = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"test","uid":"uid-{name}"}},"log_directory":{logs:?},"linux":{{"security_context":{{"privileged":true}}}}}}"#
    );
    let image = node.busybox();
    let mount = format!(r#"{{"container_path":"/vol","image":{{"image":"{volume}"}},"readonly":true}}"#);
    let container = format!(
        r#"{{"metadata":{{"name":"{name}"}},"image":{{"image":"{image}"}},"command":["sh","-c",{script:?}],"log_path":"{name}.log","mounts":[{mount}],"linux":{{"security_context":{{"privileged":true,"namespace_options":{{"pid":1}}}}}}}}"#
    );
    let pod = node.file(&format!("{name}-pod.json"), &pod);
    let container = node.file(&format!("{name}.json"), &container);
    let pod_id = node.ok(&["runp", &pod]);
    let id = node.ok(&["create", &pod_id, &container, &pod]);
    node.ok(&["start", &id]);
    id
}

/// Takes away what of the mount is read-only, and writes.
const ATTACK: &str = "mkdir /again; mount --bind /vol /again; \
    for at in /vol /again; do mount -o remount,rw none $at; mount -o remount,bind,rw none $at; \
    echo changed > $at/data/a; echo new > $at/data/new; rm -f $at/data/c; chmod 700 $at/data; done; \
    cut -d' ' -f5,6 /proc/self/mountinfo | grep /vol; cat /vol/data/a /vol/data/c; ls /vol/data; echo end; sleep 1000";

fn attacked(snapshotter: &str) {
    let Some(mut node) = Node::new() else { return };
    let config = std::fs::read_to_string(node.config()).expect("configuration");
    std::fs::write(node.config(), format!("{config}[snapshots]\nsnapshotter = {snapshotter:?}\n"))
        .expect("configuration");
    node.start();
    let layer = Layer::new().dir("data", 0o755).file("data/a", 0o644, "from the image\n");
    let above = Layer::new().file("data/c", 0o644, "from above\n");
    let image = Image::builder().layer(layer).layer(above).build().expect("image");
    let volume = node.registry.push("files", "1", &image).expect("pushed");
    node.ok(&["pull", &node.busybox()]);
    node.ok(&["pull", &volume]);
    privileged(&node, "attack", &volume, ATTACK);
    node.wait_for("the attack", |n| n.log("attack").contains("F end"));
    let log = node.log("attack");
    assert!(log.contains("/vol rw"), "the flag of the mount is the container's to take away: {log}");
    assert!(log.contains("F from the image") && log.contains("F from above"), "{log}");
    assert!(!log.contains("changed") && !log.contains("F new"), "{log}");
    // Nor is there a trace in the layers, for whoever comes next.
    assert!(node.ok(&["images", "check"]).contains("whole"));
    privileged(&node, "next", &volume, "cat /vol/data/*; ls -ld /vol/data; echo end; sleep 1000");
    node.wait_for("the next", |n| n.log("next").contains("F end"));
    let log = node.log("next");
    assert!(log.contains("F from the image") && log.contains("F from above"), "{log}");
    assert!(log.contains("drwxr-xr-x") && !log.contains("F new"), "{log}");
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}

#[test]
fn a_privileged_container_cannot_write_to_the_image_of_a_volume_on_overlayfs() {
    attacked("overlayfs");
}

#[test]
fn a_privileged_container_cannot_write_to_the_image_of_a_volume_on_native() {
    attacked("native");
}

#[test]
fn a_privileged_container_cannot_write_to_the_image_of_a_volume_on_erofs() {
    attacked("erofs");
}
