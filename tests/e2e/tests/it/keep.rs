//! What the daemon keeps: checks and repairs beside a running container, prunes, pins, and figures of space.

use crate::node::Node;
use rustix::process::Signal;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

/// A file of the node's one layer, by its name.
fn in_layer(node: &Node, file: &str) -> PathBuf {
    let layers = node.temp.root().join("snapshots/overlayfs/layers");
    let mut all =
        std::fs::read_dir(layers).expect("layers").map(|layer| layer.expect("entry").path().join("fs"));
    all.find_map(|fs| Some(fs.join(file)).filter(|path| path.is_file())).expect(file)
}

#[test]
fn a_damaged_file_is_found_and_repaired_beside_the_container_that_runs_on_it() {
    let Some(mut node) = Node::serving() else { return };
    let image = node.busybox();
    node.ok(&["pull", &image]);
    let (pod, id) = node.container("web", "sleep 1000");
    let said = node.ok(&["images", "check"]);
    assert!(said.contains("whole") && said.contains("1 images"), "{said}");
    let program = in_layer(&node, "bin/busybox");
    let file = std::fs::File::options().read(true).write(true).open(&program).expect("open");
    let before = file.metadata().expect("metadata").modified().expect("time");
    let at = file.metadata().expect("metadata").len() - 1;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    // A program that runs cannot be written to; its blocks on the disk can turn all the same.
    let copy = program.with_file_name("copy");
    std::fs::copy(&program, &copy).expect("copy");
    let damaged = std::fs::File::options().write(true).open(&copy).expect("open");
    damaged.write_all_at(&[byte[0] ^ 1], at).expect("write");
    damaged.set_times(std::fs::FileTimes::new().set_modified(before)).expect("times");
    drop((file, damaged));
    let links = std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(&program).expect("metadata"));
    if links == 1 {
        std::fs::rename(&copy, &program).expect("rename");
    }
    let said = node.verb(&["images", "check"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("/bin/") && text.contains("damaged"), "{text}");
    let text = node.ok(&["images", "check", "--repair", &image]);
    assert!(text.contains("repaired") && text.contains(&id[..13]), "{text}");
    assert!(node.ok(&["images", "check"]).contains("whole"));
    // It runs on, over a restart of the daemon too, and what it ran on goes with it.
    node.end_daemon(Signal::KILL);
    node.start();
    assert_eq!(node.ok(&["exec", "-s", &id, "echo", "alive"]), "alive");
    let replaced = node.temp.root().join("snapshots/overlayfs/replaced");
    let left = || std::fs::read_dir(&replaced).expect("replaced").count();
    assert!(left() > 0);
    node.ok(&["rmp", "-f", &pod]);
    node.wait_for("the replaced layer to go", |_| left() == 0);
    node.ok(&["rmi", &image]);
    node.assert_nothing_left();
}

#[test]
fn a_prune_keeps_what_containers_use_and_what_is_pinned() {
    let Some(mut node) = Node::new() else { return };
    let config = std::fs::read_to_string(node.config()).expect("configuration");
    std::fs::write(node.config(), format!("{config}[images]\npinned = [\"*/pinned:*\"]\n"))
        .expect("configuration");
    node.start();
    let used = node.busybox();
    let other = |node: &Node, name: &str| {
        let layer = test_support::image::Layer::new().file("name", 0o644, name);
        let image = test_support::image::Image::builder().layer(layer).build().expect("image");
        let reference = node.registry.push(name, "1", &image).expect("pushed");
        node.ok(&["pull", &reference]);
        reference
    };
    node.ok(&["pull", &used]);
    let (pinned, idle) = (other(&node, "pinned"), other(&node, "idle"));
    let (pod, _) = node.container("web", "sleep 1000");
    assert!(node.ok(&["images", "--pinned"]).contains("true"));
    let said = node.ok(&["rmi", "--prune"]);
    assert!(said.contains(&format!("Deleted: {idle}")) && said.contains("Freed: "), "{said}");
    assert!(!said.contains(&pinned) && !said.contains(&used), "{said}");
    node.ok(&["rmp", "-f", &pod]);
    assert!(node.ok(&["rmi", "--prune"]).contains(&used));
    // Whoever names it means it.
    node.ok(&["rmi", &pinned]);
    assert!(node.ok(&["images", "-q"]).is_empty());
    let blobs = node.temp.root().join("content/blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).expect("blobs").count(), 0);
    node.assert_nothing_left();
}

#[test]
fn image_fs_info_is_what_du_counts() {
    let Some(node) = Node::serving() else { return };
    node.ok(&["pull", &node.busybox()]);
    let (pod, _) = node.container(
        "web",
        "head -c 300000 /dev/urandom > /written; ln /written /again; echo done; sleep 1000",
    );
    node.wait_for("the file", |n| n.log("web").contains("done"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    rustix::fs::sync();
    let json: serde_json::Value = serde_json::from_str(&node.ok(&["imagefsinfo"])).expect("JSON");
    let json = if json["status"].is_object() { &json["status"] } else { &json };
    let number = |value: &serde_json::Value| {
        let value = &value["value"];
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).expect("number")
    };
    let root = node.temp.root();
    let du = |flag: &str, paths: &[&str], without: &str| {
        let paths: Vec<PathBuf> = paths.iter().map(|path| root.join(path)).collect();
        let out = Command::new("du").args(["-s", "-c", flag, without]).args(paths).output().expect("du");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines()
            .last()
            .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .expect("total")
    };
    let (image, container) = (&json["imageFilesystems"][0], &json["containerFilesystems"][0]);
    let images = ["content", "meta.redb", "snapshots/overlayfs"];
    let without = format!("--exclude={}", root.join("snapshots/overlayfs/containers").display());
    let containers = ["snapshots/overlayfs/containers"];
    for (found, paths, without) in
        [(image, &images[..], without.as_str()), (container, &containers[..], "-x")]
    {
        assert_eq!(number(&found["usedBytes"]), du("--block-size=1", paths, without), "{paths:?}: {json}");
        assert_eq!(number(&found["inodesUsed"]), du("--inodes", paths, without), "{paths:?}: {json}");
        assert_eq!(found["fsId"]["mountpoint"], root.to_string_lossy().as_ref());
    }
    node.ok(&["rmp", "-f", &pod]);
    node.ok(&["rmi", &node.busybox()]);
    node.assert_nothing_left();
}
