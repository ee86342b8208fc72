//! Images by other ways than a pull: archives, packed folders, pushes, and images as volumes of a real pod.

use crate::node::Node;
use std::path::Path;
use std::process::Command;
use test_support::image::{Image, Layer};

/// An image of files, under a tag of the node's registry; answers its reference.
fn files(node: &Node, name: &str) -> String {
    let below = Layer::new()
        .dir("data", 0o755)
        .file("data/a", 0o644, "from the image\n")
        .file("data/run", 0o755, "#!/bin/sh\necho ran\n")
        .dir("data/deep", 0o755)
        .file("data/deep/b", 0o644, "deep\n")
        .symlink("out", "/etc")
        .symlink("up", "../../../../etc")
        .symlink("in", "/data/deep");
    let above = Layer::new().file("data/c", 0o644, "from above\n");
    let image = Image::builder().layer(below).layer(above).build().expect("image");
    node.registry.push(name, "1", &image).expect("pushed")
}

/// A pod whose container mounts images; answers (pod id, what `create` said).
fn pod_with(node: &Node, name: &str, mounts: &str, script: &str) -> (String, Result<String, String>) {
    let logs = node.temp.path().join("logs");
    let pod = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"test","uid":"uid-{name}"}},"log_directory":{logs:?},"linux":{{}}}}"#
    );
    let pod = node.file(&format!("{name}-pod.json"), &pod);
    let image = node.busybox();
    let container = format!(
        r#"{{"metadata":{{"name":"{name}"}},"image":{{"image":"{image}"}},"command":["sh","-c",{script:?}],"log_path":"{name}.log","mounts":{mounts},"linux":{{"security_context":{{"namespace_options":{{"pid":1}}}}}}}}"#
    );
    let container = node.file(&format!("{name}.json"), &container);
    let id = node.ok(&["runp", &pod]);
    let created = node.verb(&["create", &id, &container, &pod]);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let created =
        if created.status.success() { Ok(said(&created.stdout)) } else { Err(said(&created.stderr)) };
    (id, created)
}

#[test]
fn an_image_is_a_volume_read_only_and_held_while_its_container_lives() {
    let Some(mut node) = Node::serving() else { return };
    let (busybox, volume) = (node.busybox(), files(&node, "files"));
    node.ok(&["pull", &busybox]);
    node.ok(&["pull", &volume]);
    let mount = |path: &str, folder: &str| {
        format!(
            r#"{{"container_path":"{path}","image":{{"image":"{volume}"}},"image_sub_path":"{folder}","readonly":true}}"#
        )
    };
    let mounts = format!("[{},{},{}]", mount("/vol", ""), mount("/deep", "data/deep"), mount("/in", "in"));
    let script = "cat /vol/data/a /vol/data/c /deep/b /in/b; \
        touch /vol/data/new 2>/dev/null && echo writable; /vol/data/run 2>/dev/null && echo executable; \
        grep -E ' /(vol|deep|in) ' /proc/self/mountinfo | cut -d' ' -f5,6; echo end; sleep 1000";
    let (_, created) = pod_with(&node, "vol", &mounts, script);
    let id = created.expect("created");
    node.ok(&["start", &id]);
    node.wait_for("the log", |n| n.log("vol").contains("end"));
    let log = node.log("vol");
    for line in ["from the image", "from above", "deep"] {
        assert!(log.contains(line), "{log}");
    }
    assert!(!log.contains("writable") && !log.contains("executable"), "{log}");
    assert_eq!(log.matches("ro,nosuid,nodev,noexec").count(), 3, "{log}");
    assert_eq!(log.matches("stdout F deep").count(), 2, "links of the image lead within it: {log}");
    let own = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!own.contains(&node.temp.root().display().to_string()), "the node's mount table shows nothing");
    let mounted = node.status(&id, "mounts");
    assert_eq!(mounted[0]["image"]["image"], volume.as_str(), "{mounted}");
    // Its layers stay while the container lives, also over a new daemon.
    node.ok(&["rmi", &volume]);
    node.end_daemon(rustix::process::Signal::KILL);
    node.start();
    assert_eq!(node.ok(&["exec", "-s", &id, "cat", "/vol/data/c"]), "from above");
    node.ok(&["stop", "-t", "0", &id]);
    let layers =
        || std::fs::read_dir(node.temp.root().join("snapshots/overlayfs/layers")).expect("list").count();
    let before = layers();
    node.ok(&["rmp", "-f", "-a"]);
    node.wait_for("the volume's layers to go", |_| layers() < before);
    node.assert_nothing_left();
}

#[test]
fn a_folder_that_leads_out_of_the_image_or_is_not_there_is_refused() {
    let Some(node) = Node::serving() else { return };
    let (busybox, volume) = (node.busybox(), files(&node, "files"));
    node.ok(&["pull", &busybox]);
    node.ok(&["pull", &volume]);
    let mount = |image: &str, folder: &str| {
        format!(
            r#"[{{"container_path":"/vol","image":{{"image":"{image}"}},"image_sub_path":"{folder}","readonly":true}}]"#
        )
    };
    // These links lead to /etc, which in the image is not there.
    for (name, folder) in [("out", "out"), ("up", "up"), ("missing", "data/nothing"), ("file", "data/a")] {
        let (_, created) = pod_with(&node, name, &mount(&volume, folder), "sleep 1000");
        let said = node.fails(&["start", &created.expect("created")]);
        assert!(said.contains("has no folder") && said.contains(folder), "{folder}: {said}");
    }
    let (_, created) = pod_with(&node, "dots", &mount(&volume, "../etc"), "true");
    assert!(created.expect_err("refused").contains("image_sub_path"));
    let missing = node.registry.reference("nothing", "1");
    let (_, created) = pod_with(&node, "none", &mount(&missing, ""), "true");
    let said = created.expect_err("refused");
    assert!(said.contains("pull it first") && said.contains("nothing"), "{said}");
    let writable = mount(&volume, "").replace(r#""readonly":true"#, r#""readonly":false"#);
    let (_, created) = pod_with(&node, "writable", &writable, "true");
    assert!(created.expect_err("refused").contains("read-only"));
    node.ok(&["rmp", "-f", "-a"]);
    node.assert_nothing_left();
}

#[test]
fn an_image_goes_out_as_an_archive_and_comes_back_by_file_by_folder_and_by_pipe() {
    let Some(node) = Node::serving() else { return };
    let image = files(&node, "files");
    node.ok(&["pull", &image]);
    let id = node.ok(&["images", "-q", &image]);
    let path = |name: &str| node.temp.path().join(name).display().to_string();
    for (form, name) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let archive = path(name);
        node.ok(&["images", "export", "--format", form, "-f", &archive, &image]);
        node.ok(&["rmi", &image]);
        let said = node.ok(&["images", "import", &archive]);
        assert_eq!(said, format!("{image} {id}"), "{form}");
        let renamed = node.ok(&["images", "import", "-q", "-t", "renamed:1", &archive]);
        assert_eq!(renamed, id);
        assert!(node.ok(&["images", "renamed"]).contains("docker.io/library/renamed"));
    }
    let folder = path("layout");
    std::fs::create_dir(&folder).expect("folder");
    let tar = Command::new("tar").args(["-xf", &path("oci.tar"), "-C", &folder]).status().expect("tar");
    assert!(tar.success());
    node.ok(&["rmi", "-a"]);
    assert_eq!(node.ok(&["images", "import", &folder]), format!("{image} {id}"));
    node.ok(&["rmi", "-a"]);
    let piped = node
        .command(&["images", "import", "-"])
        .stdin(std::fs::File::open(path("docker.tar")).expect("archive"))
        .output()
        .expect("import");
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    let other = path("no-layout");
    std::fs::create_dir(&other).expect("folder");
    assert!(node.fails(&["images", "import", &other]).contains("corten pack"));
    assert!(node.fails(&["images", "export", "-f", &path("x.tar"), "nothing:1"]).contains("nothing:1"));
    assert!(!Path::new(&path("x.tar")).exists(), "half an archive has no name");
    let strange = node.file("strange.tar", "no archive at all");
    assert!(node.fails(&["images", "import", &strange]).contains("cannot read the archive"));
    let facts: serde_json::Value = serde_json::from_str(&node.ok(&["inspecti", &id])).expect("JSON");
    let facts = &facts["info"];
    assert_eq!(facts["imageSpec"]["rootfs"]["type"], "layers", "{facts}");
    assert_eq!(facts["layers"].as_array().map(Vec::len), Some(2), "{facts}");
    assert_eq!(facts["layers"][1]["kept"], true, "{facts}");
    assert!(facts["layers"][0]["unpackedSize"].as_u64().is_some_and(|bytes| bytes > 0), "{facts}");
    assert_eq!(facts["chainID"], facts["layers"][1]["chainID"], "{facts}");
    node.assert_nothing_left();
}

#[test]
fn a_folder_and_a_program_become_images_that_run_are_pushed_and_come_back() {
    let Some(node) = Node::serving() else { return };
    let busybox = node.busybox();
    node.ok(&["pull", &busybox]);
    let site = node.temp.path().join("site");
    std::fs::create_dir_all(site.join("sub")).expect("folder");
    std::fs::write(site.join("index.html"), "hello\n").expect("file");
    std::fs::write(site.join("sub/page"), "page\n").expect("file");
    std::os::unix::fs::symlink("../index.html", site.join("sub/link")).expect("link");
    std::fs::hard_link(site.join("index.html"), site.join("again")).expect("link");
    let name = node.registry.reference("site", "1");
    let site = site.display().to_string();
    let words = [
        "pack",
        &site,
        "-t",
        &name,
        "--base",
        &busybox,
        "--at",
        "/www",
        "--cmd",
        "cat",
        "--cmd",
        "/www/sub/link",
    ];
    let first = node.ok(&[&words[..], &["-q"]].concat());
    std::fs::File::options()
        .append(true)
        .open(format!("{site}/index.html"))
        .expect("touch")
        .set_modified(std::time::SystemTime::now())
        .expect("time");
    assert_eq!(node.ok(&[&words[..], &["-q"]].concat()), first, "times do not change the image");
    let zstd = node.ok(&[&words[..], &["-q", "--compression", "zstd"]].concat());
    assert_eq!(zstd, first, "the configuration does not know how layers are compressed");
    let said = node.ok(&["push", &name]);
    assert!(said.contains(&name) && said.contains("sha256:"), "{said}");
    let digest = node.ok(&["push", "-q", &name]);
    node.ok(&["rmi", &name]);
    node.ok(&["pull", &name]);
    let listed = node.ok(&["images", "--digests", "--no-trunc", &name]);
    assert!(listed.contains(&digest) && listed.contains(&first), "{listed}: {digest} {first}");
    let program = node.ok(&[
        "pack",
        "/bin/busybox",
        "-t",
        "tool:1",
        "--cmd",
        "echo",
        "--cmd",
        "it runs",
        "--port",
        "80",
    ]);
    assert!(program.starts_with("docker.io/library/tool:1 sha256:"), "{program}");
    let refused = node.fails(&["pack", "/bin/bash", "-t", "dynamic:1"]);
    assert!(refused.contains("linked dynamically") && refused.contains("libc.so.6"), "{refused}");
    node.ok(&["pack", "/bin/bash", "-t", "dynamic:1", "--base", &busybox]);
    for (image, expected) in [(name.as_str(), "hello"), ("tool:1", "it runs")] {
        let (pod, container) = (
            node.file("pod.json", r#"{"metadata":{"name":"p","namespace":"test","uid":"u"},"linux":{}}"#),
            format!(
                r#"{{"metadata":{{"name":"c"}},"image":{{"image":"{image}"}},"log_path":"c.log","linux":{{"security_context":{{"namespace_options":{{"pid":1}}}}}}}}"#
            ),
        );
        let container = node.file("c.json", &container);
        let logs = node.temp.path().join("logs").display().to_string();
        let pod_text = std::fs::read_to_string(&pod)
            .expect("pod")
            .replace("\"linux\"", &format!("\"log_directory\":{logs:?},\"linux\""));
        std::fs::write(&pod, pod_text).expect("pod");
        let id = node.ok(&["runp", &pod]);
        let c = node.ok(&["create", &id, &container, &pod]);
        node.ok(&["start", &c]);
        node.wait_for("its end", |n| n.status(&c, "state") == "CONTAINER_EXITED");
        assert!(node.ok(&["logs", &c]).contains(expected), "{image}: {}", node.ok(&["logs", &c]));
        node.ok(&["rmp", "-f", &id]);
    }
    node.assert_nothing_left();
}

#[test]
fn corten_run_fetches_and_mounts_the_image_of_a_volume() {
    let Some(node) = Node::serving() else { return };
    let (busybox, volume) = (node.busybox(), files(&node, "files"));
    let pod = node.file(
        "run.yaml",
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: run}}\nspec:\n  restartPolicy: Never\n  volumes:\n  - name: v\n    \
             image: {{reference: {volume:?}}}\n  containers:\n  - name: c\n    image: {busybox}\n    command: [cat, /all/data/c, /part/b]\n    \
             volumeMounts:\n    - {{name: v, mountPath: /all}}\n    - {{name: v, mountPath: /part, subPath: data/deep}}\n"
        ),
    );
    let said = node.ok(&["run", &pod]);
    assert!(said.contains("from above") && said.contains("deep"), "{said}");
    node.assert_nothing_left();
}
