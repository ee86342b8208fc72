//! What Debian's tools make of our archives, and we of theirs.

use super::{Archive, named};
use crate::image::{Image, layer};
use crate::node::Node;
use corten_images::ArchiveFormat::{Docker, Oci};
use std::path::Path;
use std::process::Command;

/// Whether a program is there; a test without it says that it skips.
pub fn have(program: &str) -> bool {
    let there = Path::new("/usr/bin").join(program).is_file();
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}

/// Runs a program in a folder, with a home of its own.
fn run(dir: &Path, words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(dir)
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env("XDG_RUNTIME_DIR", dir)
        .output()
        .expect(words[0]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {out}{err}");
    out.into_owned()
}

const SKOPEO: [&str; 2] = ["skopeo", "--insecure-policy"];

pub fn skopeo(dir: &Path, words: &[&str]) -> String {
    run(dir, &[&SKOPEO, words].concat())
}

fn app() -> Image {
    Image::new("app", &[layer(&[("etc/a", b"1")]), layer(&[("etc/b", b"2"), ("etc/a", b"3")])])
}

#[tokio::test]
async fn skopeo_reads_both_forms_and_finds_the_same_image() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let node = Node::new();
    let image = app();
    node.import(&Archive::of(&image, "docker.io/library/app:1").bytes()).await.expect("import");
    std::fs::write(dir.path().join("oci.tar"), node.export(&["app:1"], Oci).await.expect("export"))
        .expect("write");
    std::fs::write(dir.path().join("docker.tar"), node.export(&["app:1"], Docker).await.expect("export"))
        .expect("write");
    let raw = skopeo(dir.path(), &["inspect", "--raw", "oci-archive:oci.tar"]);
    assert_eq!(raw.as_bytes(), &image.manifest[..], "byte for byte");
    for source in [
        "oci-archive:oci.tar",
        "oci-archive:oci.tar:1",
        "docker-archive:docker.tar",
        "docker-archive:docker.tar:app:1",
    ] {
        let config = skopeo(dir.path(), &["inspect", "--config", "--raw", source]);
        assert_eq!(config.as_bytes(), &image.config[..], "{source}");
        let target = format!("dir:{}", source.replace([':', '.'], "-"));
        skopeo(dir.path(), &["copy", source, &target]);
    }
}

#[tokio::test]
async fn what_skopeo_writes_is_taken_in_both_forms() {
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let image = app();
    std::fs::write(dir.path().join("in.tar"), Archive::of(&image, "app:1").bytes()).expect("write");
    let name = "registry.example/team/app:2";
    for (target, names) in [
        (format!("oci-archive:out.tar:{name}"), vec![name]),
        (format!("docker-archive:out.tar:{name}"), vec![name]),
        ("oci-archive:out.tar:2".to_owned(), vec![]),
        ("oci-archive:out.tar".to_owned(), vec![]),
    ] {
        skopeo(dir.path(), &["copy", "oci-archive:in.tar", &target]);
        let archive = std::fs::read(dir.path().join("out.tar")).expect("read");
        std::fs::remove_file(dir.path().join("out.tar")).expect("remove");
        let node = Node::new();
        let imported = node.import(&archive).await.expect(&target);
        assert_eq!((imported.len(), imported[0].id.as_str()), (1, image.id().as_str()), "{target}");
        assert_eq!(imported[0].names, names, "{target}");
        let record = node.images.find(&image.id()).expect("found");
        assert_eq!(node.file(&record, "etc/a").as_deref(), Some("3"), "{target}");
    }
}

#[tokio::test]
async fn podman_loads_both_forms_and_what_it_saves_comes_back() {
    if !have("podman") {
        return;
    }
    let dir = tempfile::Builder::new().prefix("transfer-podman-").tempdir_in("/var/tmp").expect("temp dir");
    let node = Node::new();
    let image = app();
    node.import(&Archive::of(&image, "docker.io/library/app:1").bytes()).await.expect("import");
    let storage = ["podman", "--root", "root", "--runroot", "run", "--storage-driver", "vfs"];
    let podman = |words: &[&str]| run(dir.path(), &[&storage, words].concat());
    for (form, ours) in [(Oci, "oci-archive"), (Docker, "docker-archive")] {
        std::fs::write(dir.path().join("in.tar"), node.export(&["app:1"], form).await.expect("export"))
            .expect("write");
        let said = podman(&["load", "-i", "in.tar"]);
        assert!(said.contains("docker.io/library/app:1"), "{ours}: {said}");
        let id = podman(&["image", "inspect", "--format", "{{.Id}}", "docker.io/library/app:1"]);
        assert_eq!(format!("sha256:{}", id.trim()), image.id(), "{ours}");
        podman(&["save", "--format", ours, "-o", "out.tar", "docker.io/library/app:1"]);
        let saved = std::fs::read(dir.path().join("out.tar")).expect("read");
        std::fs::remove_file(dir.path().join("out.tar")).expect("remove");
        let back = Node::new();
        let imported = back.import(&saved).await.expect(ours);
        assert_eq!(imported[0].names, ["docker.io/library/app:1"], "{ours}");
        assert_eq!(imported[0].id.as_str(), image.id(), "{ours}");
        podman(&["rmi", "-f", "docker.io/library/app:1"]);
    }
}

#[tokio::test]
async fn umoci_unpacks_our_layout_and_we_take_what_it_repacked() {
    if !have("umoci") || !have("tar") {
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let node = Node::new();
    node.import(&Archive::of(&app(), "docker.io/library/app:1").bytes()).await.expect("import");
    std::fs::write(dir.path().join("oci.tar"), node.export(&["app:1"], Oci).await.expect("export"))
        .expect("write");
    std::fs::create_dir(dir.path().join("layout")).expect("folder");
    run(dir.path(), &["tar", "-xf", "oci.tar", "-C", "layout"]);
    run(dir.path(), &["umoci", "unpack", "--image", "layout:1", "bundle"]);
    assert_eq!(std::fs::read(dir.path().join("bundle/rootfs/etc/a")).expect("file"), b"3");
    std::fs::write(dir.path().join("bundle/rootfs/etc/c"), "4").expect("write");
    run(dir.path(), &["umoci", "repack", "--image", "layout:2", "bundle"]);
    run(dir.path(), &["tar", "-cf", "new.tar", "-C", "layout", "."]);
    let archive = std::fs::read(dir.path().join("new.tar")).expect("read");
    let options = corten_images::ImportOptions { select: Some("2".into()), ..named("app:2") };
    let other = Node::new();
    other.import_as(&archive, options).await.expect("import");
    let record = other.images.find("app:2").expect("found");
    assert_eq!(other.file(&record, "etc/c").as_deref(), Some("4"));
}
