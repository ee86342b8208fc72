//! config.md, "Mounts": bind mounts.

use oci_suite::{Case, Kind, differs};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use std::path::PathBuf;

/// A folder of the host that is a mount, with one more mount below it at `sub`.
fn tree(case: &Case) -> PathBuf {
    let top = case.bundle.aside().join("tree");
    std::fs::create_dir(&top).unwrap();
    mount_bind(&top, &top).unwrap();
    mount_change(&top, MountPropagationFlags::PRIVATE).unwrap();
    std::fs::create_dir(top.join("sub")).unwrap();
    mount("tmpfs", top.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(top.join("file"), "above").unwrap();
    std::fs::write(top.join("sub/file"), "below").unwrap();
    top
}

#[test]
fn bind_shows_the_folder_and_not_what_is_mounted_below() {
    let Some(case) = Case::new("bind") else { return };
    let top = tree(&case);
    case.mount("/mnt", "bind", top.to_str().unwrap(), &["bind"]);
    assert_eq!(case.shell("cat /mnt/file; ls /mnt/sub").good().out, "above");
    case.mount("/two", "none", top.to_str().unwrap(), &["bind"]);
    assert_eq!(case.shell("cat /two/file; ls /mnt/sub").good().out, "above");
}

#[test]
fn rbind_shows_what_is_mounted_below() {
    let Some(case) = Case::new("rbind") else { return };
    let top = tree(&case);
    case.mount("/mnt", "bind", top.to_str().unwrap(), &["rbind"]);
    assert_eq!(case.shell("cat /mnt/file /mnt/sub/file").good().out, "abovebelow");
}

#[test]
fn a_bind_mount_is_writable_unless_it_is_read_only() {
    let Some(case) = Case::new("bind-ro") else { return };
    let top = tree(&case);
    case.mount("/rw", "bind", top.to_str().unwrap(), &["bind"]);
    case.mount("/ro", "bind", top.to_str().unwrap(), &["bind", "ro"]);
    let said = case.shell("touch /rw/made && echo made; touch /ro/not 2>/dev/null || echo refused").good();
    assert_eq!(said.out, "made\nrefused\n");
    assert!(top.join("made").exists() && !top.join("not").exists());
}

#[test]
fn ro_is_for_the_mount_itself_and_rro_for_those_below_too() {
    let Some(case) = Case::new("bind-rro") else { return };
    let top = tree(&case);
    case.mount("/ro", "bind", top.to_str().unwrap(), &["rbind", "ro"]);
    case.mount("/rro", "bind", top.to_str().unwrap(), &["rbind", "rro"]);
    let script = "for f in /ro/x /ro/sub/x /rro/x /rro/sub/x; do touch $f 2>/dev/null && echo $f; done; true";
    assert_eq!(case.shell(script).good().out, "/ro/sub/x\n");
}

#[test]
fn a_file_is_bound_over_a_file() {
    let Some(case) = Case::new("bind-file") else { return };
    let file = case.bundle.aside().join("file");
    std::fs::write(&file, "the hosts\n").unwrap();
    case.mount("/etc/passwd", "bind", file.to_str().unwrap(), &["bind", "ro"]);
    case.mount("/etc/new/file", "bind", file.to_str().unwrap(), &["bind"]);
    assert_eq!(
        case.shell("cat /etc/passwd /etc/new/file; echo more >> /etc/new/file").good().out,
        "the hosts\nthe hosts\n"
    );
    assert_eq!(std::fs::read_to_string(file).unwrap(), "the hosts\nmore\n");
}

#[test]
fn a_relative_source_is_below_the_bundle() {
    let Some(case) = Case::new("bind-relative") else { return };
    std::fs::write(case.bundle.aside().join("file"), "beside").unwrap();
    case.mount("/mnt", "bind", "aside", &["bind"]);
    let words = "config.md, Mounts, source: \"Path values for bind mounts are either absolute or relative to the bundle.\"";
    differs(&[], words, || assert_eq!(case.shell("cat /mnt/file").good().out, "beside"));
    let mut elsewhere = case.command(&["run", "--bundle", case.bundle.path().to_str().unwrap(), &case.id]);
    differs(&[], words, || assert_eq!(case.finish(elsewhere.current_dir("/")).good().out, "beside"));
}

#[test]
fn a_source_that_is_not_there_is_an_error_that_names_it() {
    let Some(case) = Case::new("bind-missing") else { return };
    case.mount("/mnt", "bind", "/no/such/source", &["bind"]);
    let said = case.run().bad();
    assert!(said.contains("/no/such/source"), "{said}");
    assert!(!std::path::Path::new("/no").exists());
    case.assert_nothing_left();
}

#[test]
fn flags_of_a_bind_mount_are_added_to_those_it_has() {
    let Some(case) = Case::new("bind-flags") else { return };
    let top = case.bundle.aside().join("locked");
    std::fs::create_dir(&top).unwrap();
    mount("tmpfs", &top, "tmpfs", MountFlags::NODEV | MountFlags::NOEXEC, None).unwrap();
    case.mount("/plain", "bind", top.to_str().unwrap(), &["bind"]);
    case.mount("/more", "bind", top.to_str().unwrap(), &["bind", "nosuid", "ro"]);
    let process = case.sleeps().run_detached();
    let words = "config.md, Mounts, options: none was given that clears a flag of the mount that is bound";
    differs(&[Kind::Crun], words, || assert!(process.mount_at("/plain").has(&["rw", "nodev", "noexec"])));
    let more = process.mount_at("/more");
    assert!(more.has(&["ro", "nosuid"]), "{more:?}");
    let words = "not of the specification: a flag of the host's mount that nobody cleared (by dev or exec) should stay";
    differs(&[Kind::Runc, Kind::Crun], words, || assert!(more.has(&["nodev", "noexec"]), "{more:?}"));
}

#[test]
fn a_bind_mount_that_clears_a_flag_has_it_no_more() {
    let Some(case) = Case::new("bind-clear") else { return };
    let top = case.bundle.aside().join("locked");
    std::fs::create_dir(&top).unwrap();
    mount("tmpfs", &top, "tmpfs", MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY, None).unwrap();
    case.mount("/clear", "bind", top.to_str().unwrap(), &["bind", "dev", "exec", "rw", "nosuid"]);
    let process = case.sleeps().run_detached();
    let clear = process.mount_at("/clear");
    assert!(clear.has(&["rw", "nosuid"]) && !clear.has(&["nodev"]) && !clear.has(&["noexec"]), "{clear:?}");
}
