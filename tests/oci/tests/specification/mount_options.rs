//! config.md, "Linux mount options": each option of the table, as mountinfo shows it.

use oci_suite::{Case, Kind, Process, Runtime, differs, lacks};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use std::path::PathBuf;

/// One container with a tmpfs per option, at `/m/OPTION`.
fn with_tmpfs(name: &str, options: &[&[&str]]) -> Option<(Case, Vec<oci_suite::process::Mount>)> {
    let case = Case::new(name)?;
    for (index, options) in options.iter().enumerate() {
        case.mount(&format!("/m/{index}"), "tmpfs", "tmpfs", options);
    }
    let process = case.sleeps().run_detached();
    let mounts = (0..options.len()).map(|index| process.mount_at(&format!("/m/{index}"))).collect();
    Some((case, mounts))
}

/// The option given, and whether the mount's own options hold the flag.
fn check(name: &str, table: &[(&[&str], &str, bool)]) {
    let options: Vec<_> = table.iter().map(|(options, _, _)| *options).collect();
    let Some((case, mounts)) = with_tmpfs(name, &options) else { return };
    for ((options, flag, there), mount) in table.iter().zip(mounts) {
        assert_eq!(mount.has(&[flag]), *there, "{options:?}: {mount:?}");
    }
    case.delete_force();
    case.assert_nothing_left();
}

#[test]
fn the_flags_of_a_mount_are_set_and_cleared() {
    check(
        "flags",
        &[
            (&["ro"], "ro", true),
            (&["rw"], "rw", true),
            (&["nosuid"], "nosuid", true),
            (&["suid"], "nosuid", false),
            (&["nodev"], "nodev", true),
            (&["dev"], "nodev", false),
            (&["noexec"], "noexec", true),
            (&["exec"], "noexec", false),
            (&["nodiratime"], "nodiratime", true),
            (&["diratime"], "nodiratime", false),
        ],
    );
}

#[test]
fn the_kinds_of_access_times_are_set() {
    check(
        "atime",
        &[
            (&["noatime"], "noatime", true),
            (&["atime"], "noatime", false),
            (&["relatime"], "relatime", true),
            (&["strictatime"], "noatime", false),
            (&["strictatime"], "relatime", false),
            (&["nostrictatime"], "noatime", false),
            (&["norelatime"], "noatime", false),
        ],
    );
}

#[test]
fn links_are_not_followed_with_nosymfollow() {
    if lacks(&[Kind::Runc, Kind::Crun], "nosymfollow") {
        return;
    }
    check(
        "nosymfollow",
        &[(&["nosymfollow"], "nosymfollow", true), (&["nosymfollow", "symfollow"], "nosymfollow", false)],
    );
}

#[test]
fn options_of_the_file_system_are_set() {
    let options: &[&[&str]] =
        &[&["sync"], &["dirsync"], &["lazytime"], &["sync", "async"], &["lazytime", "nolazytime"]];
    if Runtime::under_test().kind == Kind::Crun && lacks(&[Kind::Crun], "lazytime") {
        return;
    }
    let Some((_case, mounts)) = with_tmpfs("sb-flags", options) else { return };
    let has = |index: usize, option: &str| {
        let mount: &oci_suite::process::Mount = &mounts[index];
        mount.super_options.iter().any(|own| own == option)
    };
    assert!(has(0, "sync") && has(1, "dirsync") && !has(3, "sync"), "{mounts:?}");
    assert!(has(2, "lazytime") && !has(4, "lazytime"), "{mounts:?}");
}

#[test]
fn options_without_an_effect_that_is_seen_are_taken() {
    if lacks(&[Kind::Crun], "silent and loud") {
        return;
    }
    let options: &[&[&str]] =
        &[&["silent"], &["loud"], &["iversion"], &["noiversion"], &["mand"], &["nomand"]];
    let Some((case, _)) = with_tmpfs("quiet-flags", options) else { return };
    case.delete_force();
}

#[test]
fn unknown_options_go_to_the_file_system_which_refuses_them() {
    let Some(case) = Case::new("unknown-option") else { return };
    case.mount("/m", "tmpfs", "tmpfs", &["no_such_option"]);
    let _ = case.run().bad();
    case.assert_nothing_left();
}

/// A mount of the host with one more below.
fn tree(case: &Case) -> PathBuf {
    let top = case.bundle.aside().join("tree");
    std::fs::create_dir(&top).unwrap();
    mount_bind(&top, &top).unwrap();
    mount_change(&top, MountPropagationFlags::PRIVATE).unwrap();
    std::fs::create_dir(top.join("sub")).unwrap();
    mount("tmpfs", top.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    top
}

/// Binds the tree once per option, and looks at the mount and at the one below.
fn recursive(case: &Case, top: &std::path::Path, table: &[(&[&str], &str, bool)]) {
    for (index, (options, _, _)) in table.iter().enumerate() {
        let options = [&["rbind"], *options].concat();
        case.mount(&format!("/m/{index}"), "bind", top.to_str().unwrap(), &options);
    }
    let process: Process = case.sleeps().run_detached();
    for (index, (options, flag, there)) in table.iter().enumerate() {
        for target in [format!("/m/{index}"), format!("/m/{index}/sub")] {
            let mount = process.mount_at(&target);
            assert_eq!(mount.has(&[flag]), *there, "{options:?} at {target}: {mount:?}");
        }
    }
    case.delete_force();
}

#[test]
fn recursive_flags_are_set_for_the_mounts_below_too() {
    let Some(case) = Case::new("recursive") else { return };
    let top = tree(&case);
    recursive(
        &case,
        &top,
        &[
            (&["rro"], "ro", true),
            (&["rnosuid"], "nosuid", true),
            (&["rnodev"], "nodev", true),
            (&["rnoexec"], "noexec", true),
            (&["rro", "rnosuid", "rnodev", "rnoexec"], "noexec", true),
        ],
    );
}

#[test]
fn recursive_flags_are_cleared_for_the_mounts_below_too() {
    let Some(case) = Case::new("recursive-clear") else { return };
    let top = case.bundle.aside().join("tree");
    std::fs::create_dir(&top).unwrap();
    let flags = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
    mount("tmpfs", &top, "tmpfs", flags, None).unwrap();
    std::fs::create_dir(top.join("sub")).unwrap();
    mount("tmpfs", top.join("sub"), "tmpfs", flags, None).unwrap();
    recursive(
        &case,
        &top,
        &[
            (&["rsuid"], "nosuid", false),
            (&["rdev"], "nodev", false),
            (&["rexec"], "noexec", false),
            (&["rrw"], "rw", true),
        ],
    );
}

#[test]
fn a_recursive_flag_for_directories_is_for_the_mounts_below_too() {
    let Some(case) = Case::new("rnodiratime") else { return };
    let top = tree(&case);
    let words = "config.md, Linux mount options, rnodiratime: \"Recursively\" as nodiratime; crun's mount_setattr is refused";
    differs(&[Kind::Crun], words, || {
        recursive(
            &case,
            &top,
            &[(&["rnodiratime"], "nodiratime", true), (&["rdiratime"], "nodiratime", false)],
        );
    });
}

#[test]
fn recursive_access_times_are_for_the_mounts_below_too() {
    let Some(case) = Case::new("ratime") else { return };
    let top = tree(&case);
    let words = "config.md, Linux mount options, rnoatime: recursive, by mount_setattr; crun does not clear the old kind \
        with MOUNT_ATTR__ATIME, which mount_setattr(2) demands";
    differs(&[Kind::Crun], words, || {
        recursive(
            &case,
            &top,
            &[
                (&["rnoatime"], "noatime", true),
                (&["rrelatime"], "relatime", true),
                (&["rstrictatime"], "relatime", false),
            ],
        );
    });
}

#[test]
fn the_opposites_of_recursive_access_times_are_taken() {
    let Some(case) = Case::new("rnorelatime") else { return };
    let top = tree(&case);
    let words = "config.md, Linux mount options: ratime, rnorelatime and rnostrictatime are in the table";
    differs(&[Kind::Runc, Kind::Crun], words, || {
        recursive(
            &case,
            &top,
            &[
                (&["ratime"], "noatime", false),
                (&["rnorelatime"], "noatime", false),
                (&["rnostrictatime"], "noatime", false),
            ],
        );
    });
}

#[test]
fn links_below_are_not_followed_with_rnosymfollow() {
    let Some(case) = Case::new("rnosymfollow") else { return };
    if lacks(&[Kind::Crun], "rnosymfollow") {
        return;
    }
    let top = tree(&case);
    recursive(
        &case,
        &top,
        &[(&["rnosymfollow"], "nosymfollow", true), (&["rsymfollow"], "nosymfollow", false)],
    );
}

/// The specification does not say it, but mount(8) does: of two opposite options the last one counts.
#[test]
fn of_two_opposite_options_the_last_one_counts() {
    differs(&[Kind::Crun], "not of the specification: as mount(8) reads its options", || {
        check(
            "opposite",
            &[
                (&["ro", "rw"], "rw", true),
                (&["rw", "ro"], "ro", true),
                (&["nosuid", "suid"], "nosuid", false),
                (&["nodev", "dev"], "nodev", false),
                (&["noexec", "exec"], "noexec", false),
                (&["noatime", "atime"], "noatime", false),
            ],
        );
    });
}

#[test]
fn of_two_opposite_recursive_options_the_last_one_counts() {
    let Some(case) = Case::new("opposite-recursive") else { return };
    let top = tree(&case);
    differs(&[Kind::Runc, Kind::Crun], "not of the specification: as mount(8) reads its options", || {
        recursive(
            &case,
            &top,
            &[
                (&["rro", "rrw"], "rw", true),
                (&["rrw", "rro"], "ro", true),
                (&["rnosuid", "rsuid"], "nosuid", false),
                (&["rnoexec", "rexec"], "noexec", false),
            ],
        );
    });
}

#[test]
fn defaults_is_an_option_without_an_effect() {
    let words =
        "config.md, Linux mount options: \"defaults\" is in the table; runc gives it to the file system";
    differs(&[Kind::Runc], words, || check("defaults", &[(&["defaults"], "rw", true)]));
}

#[test]
fn recursive_flags_work_without_rbind() {
    let Some(case) = Case::new("rro-tmpfs") else { return };
    case.mount("/m", "tmpfs", "tmpfs", &["rro"]);
    let promise = || {
        let mount = case.sleeps().run_detached().mount_at("/m");
        assert!(mount.has(&["ro"]), "{mount:?}");
    };
    differs(&[Kind::Runc], "config.md, Linux mount options: nothing binds rro to rbind", promise);
}
