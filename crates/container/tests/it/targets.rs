//! Where mounts land when the image has links in their way.

use super::{bind, filesystem, with_place};
use container::plan::Device;
use rustix::fd::AsFd;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_link_at_the_target_is_followed_inside_the_root() {
    with_place("links", |place| {
        fs::create_dir(place.path("var")).unwrap();
        fs::create_dir(place.node("outside")).unwrap();
        symlink("/var", place.path("absolute")).unwrap();
        symlink("../../../../../var", place.path("up")).unwrap();
        fs::write(place.node("file"), "text").unwrap();
        let file = place.node("file");
        place.make(vec![bind("/absolute/one", &file, true), bind("/up/two", &file, true)]).unwrap();
        assert_eq!(fs::read_to_string(place.path("var/one")).unwrap(), "text");
        assert_eq!(fs::read_to_string(place.path("var/two")).unwrap(), "text");
        symlink(place.node("outside"), place.path("out")).unwrap();
        place.make(vec![bind("/out/three", &file, true), filesystem("/out", "tmpfs", &[])]).unwrap();
        let outside = place.node("outside");
        let inside = place.path("").join(outside.strip_prefix("/").unwrap());
        assert!(inside.is_dir(), "what the link means is made inside");
        assert_eq!(fs::read_dir(place.node("outside")).unwrap().count(), 0);
    });
}

/// CVE-2019-19921, CVE-2023-27561: a proc or sysfs mounted elsewhere than at its path.
#[test]
fn a_kernel_file_system_is_not_mounted_on_a_link() {
    with_place("kernel file systems", |place| {
        fs::create_dir_all(place.path("elsewhere/deep")).unwrap();
        symlink("elsewhere", place.path("proc")).unwrap();
        symlink("elsewhere", place.path("parent")).unwrap();
        for target in ["/proc", "/parent/deep", "/parent/new"] {
            for kind in ["proc", "sysfs"] {
                let failure = place.make(vec![filesystem(target, kind, &[])]).unwrap_err();
                assert!(failure.message.contains("link"), "{target}: {failure}");
            }
        }
        place.make(vec![filesystem("/plain", "proc", &[])]).unwrap();
        assert!(place.path("plain/self").exists());
    });
}

/// CVE-2019-16884, CVE-2025-52881: something of the image's in place of a file of `/proc`.
#[test]
fn no_link_leads_a_mount_into_proc() {
    with_place("into proc", |place| {
        place.make(vec![filesystem("/proc", "proc", &[])]).unwrap();
        symlink("/proc/self/attr", place.path("attr")).unwrap();
        symlink("/proc", place.path("all")).unwrap();
        fs::create_dir(place.node("fake")).unwrap();
        fs::write(place.node("file"), "x").unwrap();
        let (fake, file) = (place.node("fake"), place.node("file"));
        for mount in [
            bind("/attr", &fake, true),
            bind("/all/sys/kernel/hostname", &file, true),
            filesystem("/attr", "tmpfs", &[]),
            filesystem("/all", "tmpfs", &[]),
        ] {
            let failure = place.make(vec![mount]).unwrap_err();
            assert!(failure.message.contains("/proc"), "{failure}");
        }
        place.make(vec![bind("/proc/uptime", &file, true)]).unwrap();
        assert_eq!(fs::read_to_string(place.path("proc/uptime")).unwrap(), "x");
    });
}

/// CVE-2021-30465, CVE-2024-45310: the target is exchanged for a link to the node while the mount is made.
#[test]
fn a_target_that_is_exchanged_for_a_link_never_leads_out() {
    with_place("race", |place| {
        let outside = place.node("outside");
        fs::create_dir_all(outside.join("deep")).unwrap();
        fs::create_dir_all(place.path("a/deep")).unwrap();
        symlink(&outside, place.path("b")).unwrap();
        fs::create_dir(place.node("source")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (one, two) = (place.path("a"), place.path("b"));
        let ended = stop.clone();
        // A plain thread of this one's mount namespace: namespaces are inherited.
        let swapper = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &two, flags);
            }
        });
        let source = place.node("source");
        let mut made = 0;
        for round in 0..1000 {
            let target = if round % 2 == 0 { "/a/deep" } else { "/a/new/folder" };
            made += u32::from(place.make(vec![bind(target, &source, true)]).is_ok());
        }
        stop.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["deep"], "made on the node");
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        let leaked = points.filter(|point| std::path::Path::new(point).starts_with(&outside)).count();
        assert_eq!(leaked, 0, "mounted on the node");
        assert!(made > 0, "no mount was ever made");
    });
}

/// CVE-2026-41579, CVE-2026-47766: the image's `/dev` is a link.
#[test]
fn devices_of_a_dev_that_is_a_link_stay_inside() {
    with_place("dev link", |place| {
        fs::create_dir(place.node("outside")).unwrap();
        symlink(place.node("outside"), place.path("dev")).unwrap();
        let null = device("/dev/null", 'c', 1, 3);
        container::devices::make(place.root.as_fd(), std::slice::from_ref(&null)).unwrap();
        container::devices::link(place.root.as_fd(), true).unwrap();
        assert_eq!(fs::read_dir(place.node("outside")).unwrap().count(), 0);
        fs::remove_file(place.path("dev")).unwrap();
        fs::create_dir(place.path("real")).unwrap();
        symlink("/real", place.path("dev")).unwrap();
        container::devices::make(place.root.as_fd(), &[null]).unwrap();
        assert!(fs::metadata(place.path("real/null")).unwrap().file_type().is_char_device());
    });
}

#[test]
fn devices_have_their_mode_whatever_the_mask_and_others_are_not_replaced() {
    with_place("devices", |place| {
        fs::create_dir(place.path("dev")).unwrap();
        let old = rustix::process::umask(0o077.into());
        let list = [device("/dev/null", 'c', 1, 3), device("/dev/sub/fifo", 'p', 0, 0)];
        let made = container::devices::make(place.root.as_fd(), &list);
        rustix::process::umask(old);
        made.unwrap();
        let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!((mode("dev/null"), mode("dev/sub/fifo")), (0o20_666, 0o10_666));
        // The same again stays, another one is refused, as is a link.
        container::devices::make(place.root.as_fd(), &list).unwrap();
        container::devices::make(place.root.as_fd(), &[device("/dev/null", 'c', 1, 5)]).unwrap_err();
        symlink("/dev/null", place.path("dev/zero")).unwrap();
        container::devices::make(place.root.as_fd(), &[device("/dev/zero", 'c', 1, 5)]).unwrap_err();
        // The multiplexer is devpts' own.
        container::devices::make(place.root.as_fd(), &[device("/dev/ptmx", 'c', 5, 2)]).unwrap();
        assert!(!place.path("dev/ptmx").exists());
    });
}

fn device(path: &str, kind: char, major: u32, minor: u32) -> Device {
    Device { path: path.into(), kind, major, minor, mode: 0o666, uid: 0, gid: 0 }
}
