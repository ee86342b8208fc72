//! What is bound over masked paths and over `/dev/console` (CVE-2025-31133, CVE-2025-52565).

use crate::{living, loses_at_times, quietly};
use oci_suite::attack::{Exchange, Witness};
use oci_suite::{Case, Console, Kind, Process, differs};
use rustix::fs::{CWD, FileType, Mode, makedev};
use serde_json::json;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

fn null_device(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3))
        .unwrap();
}

/// The image's `/dev` is a volume, and its devices are the attacker's.
fn dev_is_a_volume(case: &Case) -> std::path::PathBuf {
    let volume = case.bundle.aside().join("dev");
    for folder in ["pts", "shm", "mqueue", "realpts"] {
        std::fs::create_dir_all(volume.join(folder)).unwrap();
    }
    let bind = json!({ "destination": "/dev", "type": "bind", "source": volume, "options": ["rbind"] });
    case.edit(|config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev" {
                *mount = bind.clone();
            }
        }
    });
    volume
}

fn assert_hidden(process: Process, paths: &[&str], what: &str) {
    // Not every kernel has them all.
    for path in paths.iter().filter(|path| Path::new(path).exists()) {
        let seen = std::fs::metadata(process.path("root").join(path.trim_start_matches('/'))).unwrap();
        let is_null = seen.file_type().is_char_device() && seen.rdev() == makedev(1, 3);
        assert!(is_null, "{what}: {path} is not hidden: mode {:o}", seen.mode());
    }
}

/// A masked file is covered by the null device; runc (until 1.2.8) took whatever lay at the container's `/dev/null`: with a
/// link there to a file of proc, that file lay, writable, over the masked path; with nothing there, nothing was masked.
/// First as an image has it, then 1,000 masks while the node changes places with a link.
#[test]
fn cve_2025_31133_a_masked_path_shows_the_null_device_whatever_the_container_has_there() {
    let Some(case) = Case::new("31133") else { return };
    let volume = dev_is_a_volume(&case);
    let null = volume.join("null");
    std::fs::write(case.bundle.root().join("swapped"), "swapped").unwrap();
    case.sleeps();
    differs(&[Kind::Runc], "maskedPaths: the container can not read them", || {
        for target in
            ["/proc/sys/kernel/domainname", "/proc/uptime", "/swapped", "/proc/self/exe", "", "zero"]
        {
            let _ = std::fs::remove_file(&null);
            match target {
                "" => {}
                "zero" => std::fs::write(&null, "a plain file").unwrap(),
                target => symlink(target, &null).unwrap(),
            }
            let said = case.call(&["create", &case.id]);
            if said.code == 0 {
                let what = format!("/dev/null is {target:?}");
                assert_hidden(case.process(), &["/proc/kcore", "/proc/keys", "/proc/timer_list"], &what);
                case.delete_force();
            }
        }
    });
    case.delete_force();
    races_for_masks(&case, &volume);
    case.assert_nothing_left();
}

/// 50 starts with 20 masks each.
fn races_for_masks(case: &Case, volume: &Path) {
    let _ = std::fs::remove_file(volume.join("null"));
    null_device(&volume.join("null"));
    let _ = std::fs::remove_file(volume.join("link"));
    symlink("/swapped", volume.join("link")).unwrap();
    let masked: Vec<String> = (0..20).map(|number| format!("/masked-{number}")).collect();
    for path in &masked {
        std::fs::write(case.bundle.root().join(path.trim_start_matches('/')), "secret").unwrap();
    }
    case.edit(|config| config["linux"]["maskedPaths"] = json!(masked));
    case.script("cat /masked-* >/tmp/seen 2>&1");
    let seen = case.bundle.root().join("tmp/seen");
    let exchange = Exchange::start(volume.join("null"), volume.join("link"));
    let mut up = 0;
    loses_at_times(&[Kind::Runc], "maskedPaths: the container can not read them", || {
        for round in 0..50 {
            let _ = std::fs::remove_file(&seen);
            up += usize::from(quietly(&mut case.command(&["run", &case.id])));
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            assert!(!text.contains("s"), "round {round}: a masked file shows {text:?}");
        }
    });
    println!(
        "1,000 masks in 50 starts, {up} came up; the null device was exchanged {} times",
        exchange.count()
    );
    assert!(up > 0 || case.runtime.kind != Kind::Corten, "no start came up");
}

/// What is mounted at `/dev/console`, if anything is, is a terminal of devpts.
fn assert_console_is_a_terminal(process: Process, what: &str) {
    let wrong: Vec<_> = process
        .mounts()
        .into_iter()
        .filter(|mount| mount.target == "/dev/console" && mount.kind != "devpts")
        .map(|mount| format!("{} {}", mount.kind, mount.root))
        .collect();
    assert!(wrong.is_empty(), "{what}: at /dev/console is {wrong:?}");
}

/// With a terminal, runc (1.0-rc3 to 1.2.7) bound the *path* `/dev/pts/N` over `/dev/console`; a link there puts a file of proc at
/// `/dev/console`, before anything is made read-only. The attacker has a volume at `/dev` with such links, and the true
/// multiplexer elsewhere; or links at `/dev/console` itself (crun's CVE-2026-88264), which must lead nowhere on the node.
#[test]
fn cve_2025_52565_the_console_is_the_terminal_and_nothing_else() {
    let Some(case) = Case::new("52565") else { return };
    let volume = dev_is_a_volume(&case);
    let node = case.bundle.aside().join("node");
    std::fs::create_dir(&node).unwrap();
    std::fs::write(node.join("file"), "untouched").unwrap();
    let before = Witness::of(&node);
    case.sleeps().edit(|config| {
        config["process"]["terminal"] = true.into();
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev/pts" {
                mount["destination"] = "/dev/realpts".into();
            }
        }
    });
    symlink("realpts/ptmx", volume.join("ptmx")).unwrap();
    symlink("../realpts/ptmx", volume.join("pts/ptmx")).unwrap();
    std::fs::write(volume.join("console"), "").unwrap();
    null_device(&volume.join("null"));
    let create = |what: &str| {
        // One that was refused may have said so on its connection, so each has a socket of its own.
        let place = tempfile::tempdir_in(case.bundle.aside()).unwrap();
        let console = Console::new(place.path());
        let said = case.call(&["create", "--console-socket", console.path(), &case.id]);
        if said.code == 0 {
            let _ = console.descriptors();
            if let Some(process) = living(&case) {
                assert_console_is_a_terminal(process, what);
            }
            case.delete_force();
        }
        before.assert_untouched(what);
    };
    for target in ["/proc/sys/kernel/domainname", "/proc/uptime", "/etc/passwd"] {
        let _ = std::fs::remove_file(volume.join("pts/0"));
        symlink(target, volume.join("pts/0")).unwrap();
        create(&format!("/dev/pts/0 is a link to {target}"));
    }
    // runc opens the terminal by its name, too, so that it falls only to one who exchanges the link at the right moment.
    symlink("../realpts/0", volume.join("pts/true")).unwrap();
    loses_at_times(
        &[Kind::Runc, Kind::Crun],
        "process.terminal: /dev/console is the pseudo-terminal",
        || {
            let _exchange = Exchange::start(volume.join("pts/0"), volume.join("pts/true"));
            for round in 0..1000 {
                create(&format!("/dev/pts/0 is exchanged, round {round}"));
            }
        },
    );
    case.delete_force();
    // Nothing is mounted at /dev, so that the image's own folder is it.
    case.edit(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev/realpts" {
                mount["destination"] = "/dev/pts".into();
            }
        }
    });
    let place = case.bundle.root().join("dev/console");
    for target in
        [node.join("made"), node.join("file"), "/proc/uptime".into(), "../../../../../../../etc".into()]
    {
        let _ = std::fs::remove_file(&place);
        symlink(&target, &place).unwrap();
        let made = target == node.join("made");
        differs(if made { &[Kind::Crun] } else { &[] }, "mount points are made in the root", || {
            create(&format!("/dev/console is a link to {}", target.display()));
        });
        case.delete_force();
        let _ = std::fs::remove_file(node.join("made"));
    }
    case.assert_nothing_left();
}

/// crun (until 1.29.1, CVE-2026-88265) opened `/dev/null` of the image again for the standard descriptors, through a link, and gave
/// the file behind it to the container's user.
#[test]
fn cve_2026_88265_standard_descriptors_never_come_from_the_images_dev_null() {
    let Some(case) = Case::new("88265") else { return };
    let node = case.bundle.aside().join("node");
    std::fs::create_dir(&node).unwrap();
    std::fs::write(node.join("file"), "untouched").unwrap();
    let before = Witness::of(&node);
    case.edit(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    case.script("stat -L -c %t:%T /proc/self/fd/0; exec sleep 100");
    std::fs::create_dir_all(case.bundle.root().join("dev")).unwrap();
    for target in [node.join("file").to_str().unwrap(), "/etc/passwd", "/bin/busybox"] {
        let place = case.bundle.root().join("dev/null");
        let _ = std::fs::remove_file(&place);
        symlink(target, &place).unwrap();
        let owner = std::fs::metadata(case.bundle.root().join("etc/passwd")).unwrap().uid();
        let said = case.call(&["run", "--detach", &case.id]);
        before.assert_untouched(target);
        differs(
            if target == "/etc/passwd" { &[Kind::Crun] } else { &[] },
            "a file of the image keeps its owner",
            || {
                assert_eq!(
                    std::fs::metadata(case.bundle.root().join("etc/passwd")).unwrap().uid(),
                    owner,
                    "{target}"
                );
            },
        );
        if let Some(process) = (said.code == 0).then(|| living(&case)).flatten() {
            let input = std::fs::metadata(process.path("fd/0")).unwrap();
            assert_eq!(input.rdev(), makedev(1, 3), "{target}: standard input is the null device");
        }
        case.delete_force();
    }
    case.assert_nothing_left();
}
