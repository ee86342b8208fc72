//! config.md, "Mounts", destination: mount points that are missing are made, and only inside the root.

use oci_suite::{Case, Kind, differs, lacks};
use std::os::unix::fs::symlink;

#[test]
fn missing_mount_points_are_made_with_their_parents() {
    let Some(case) = Case::new("points") else { return };
    let file = case.bundle.aside().join("file");
    std::fs::write(&file, "f").unwrap();
    case.mount("/a/b/c", "tmpfs", "tmpfs", &[]);
    case.mount("/d/e/file", "bind", file.to_str().unwrap(), &["bind"]);
    assert_eq!(case.shell("cat /d/e/file; stat -c %F /a/b/c").good().out, "fdirectory\n");
    assert!(case.bundle.root().join("a/b/c").is_dir() && case.bundle.root().join("d/e/file").is_file());
}

#[test]
fn links_in_a_mount_point_stay_inside_the_root() {
    let Some(case) = Case::new("points-links") else { return };
    let root = case.bundle.root();
    let outside = case.bundle.aside().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir_all(root.join("var/tmp")).unwrap();
    std::fs::create_dir_all(root.join(outside.strip_prefix("/").unwrap())).unwrap();
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../../../../../../../../var/tmp", root.join("relative")).unwrap();
    symlink("/tmp/inner", root.join("inner")).unwrap();
    std::fs::create_dir(root.join("tmp/inner")).unwrap();
    let name = format!("corten-suite-none-{}", std::process::id());
    case.mount("/absolute/made", "tmpfs", "tmpfs", &[]);
    case.mount(&format!("/relative/{name}"), "tmpfs", "tmpfs", &[]);
    case.mount("/inner/made", "tmpfs", "tmpfs", &[]);
    let process = case.sleeps().run_detached();
    let targets: Vec<_> = process.mounts().into_iter().map(|mount| mount.target).collect();
    let has = |target: &str| targets.iter().any(|one| one == target);
    assert!(has("/tmp/inner/made"), "{targets:?}");
    assert!(has(&format!("/var/tmp/{name}")), "{targets:?}");
    assert!(has(&format!("{}/made", outside.display())), "{targets:?}");
    assert!(!outside.join("made").exists());
    assert!(!std::path::Path::new("/var/tmp").join(&name).exists());
}

#[test]
fn what_a_dangling_link_in_a_mount_point_means_is_made_inside_the_root() {
    let Some(case) = Case::new("points-dangling") else { return };
    symlink("/not/there", case.bundle.root().join("dangling")).unwrap();
    case.mount("/dangling/made", "tmpfs", "tmpfs", &[]);
    let words =
        "config.md, Mounts: \"If the destination does not exist, the runtime MUST create it\" (as a folder)";
    differs(&[Kind::Crun], words, || {
        assert_eq!(case.sleeps().run_detached().mount_at("/not/there/made").kind, "tmpfs");
    });
    assert!(!std::path::Path::new("/not").exists());
}

#[test]
fn a_relative_destination_is_below_the_root() {
    let Some(case) = Case::new("points-relative") else { return };
    if lacks(&[Kind::Crun], "relative destinations") {
        return;
    }
    // config.md, Mounts, destination: "This value SHOULD be an absolute path. For compatibility with old tools and
    // configurations, it MAY be a relative path, in which case it MUST be interpreted as relative to '/'."
    case.mount("some/place", "tmpfs", "tmpfs", &[]);
    let process = case.sleeps().run_detached();
    assert_eq!(process.mount_at("/some/place").kind, "tmpfs");
}

#[test]
fn a_mount_point_of_the_wrong_kind_is_an_error() {
    let Some(case) = Case::new("points-kind") else { return };
    let file = case.bundle.aside().join("file");
    std::fs::write(&file, "f").unwrap();
    case.mount("/etc", "bind", file.to_str().unwrap(), &["bind"]);
    let _ = case.run().bad();
    case.assert_nothing_left();
}

#[test]
fn mount_points_below_a_read_only_root_are_made_before_it_is_read_only() {
    let Some(case) = Case::new("points-ro") else { return };
    case.edit(|config| config["root"]["readonly"] = true.into());
    case.mount("/made", "tmpfs", "tmpfs", &[]);
    assert_eq!(case.shell("touch /made/x && echo ok").good().out, "ok\n");
}
