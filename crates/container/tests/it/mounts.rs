//! What mounts look like once they are made.

use super::{bind, filesystem, mount, with_place};
use container::plan::{IdMap, Idmap, Mount, MountSource};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use sys::mount::{attr, propagation};

fn set(mount: Mount, set: u64) -> Mount {
    Mount { set, ..mount }
}

#[test]
fn a_bind_keeps_the_nodes_flags_and_takes_those_asked_for() {
    with_place("flags", |place| {
        fs::create_dir_all(place.node("source/below")).unwrap();
        let source = place.node("source");
        place.make(vec![set(bind("/first", &source, true), attr::NOSUID | attr::NOEXEC)]).unwrap();
        let first = place.path("first");
        let second =
            Mount { clear: attr::NOEXEC, ..set(bind("/second", &first, true), attr::RDONLY | attr::NODEV) };
        place.make(vec![second]).unwrap();
        let (options, _, _) = place.mounted("second").unwrap();
        assert_eq!(options, "ro,nosuid,nodev,relatime");
        fs::write(place.path("second/file"), "x").unwrap_err();
        fs::write(source.join("file"), "x").unwrap();
    });
}

#[test]
fn recursive_flags_reach_every_mount_and_plain_ones_the_top() {
    with_place("recursive flags", |place| {
        let source = place.node("source");
        fs::create_dir_all(source.join("below")).unwrap();
        let below = source.join("below");
        rustix::mount::mount("tmpfs", &below, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let all = Mount { set_recursive: attr::RDONLY | attr::NOATIME, ..bind("/all", &source, true) };
        let top = set(bind("/top", &source, true), attr::RDONLY | attr::NOSYMFOLLOW);
        place.make(vec![all, top]).unwrap();
        assert_eq!(place.mounted("all").unwrap().0, "ro,noatime");
        assert_eq!(place.mounted("all/below").unwrap().0, "ro,noatime");
        assert_eq!(place.mounted("top").unwrap().0, "ro,relatime,nosymfollow");
        assert_eq!(place.mounted("top/below").unwrap().0, "rw,relatime");
        let plain = bind("/plain", &source, false);
        place.make(vec![plain]).unwrap();
        assert!(place.mounted("plain/below").is_none());
    });
}

#[test]
fn propagation_of_every_kind_is_set_on_every_kind_of_mount() {
    with_place("propagation", |place| {
        fs::create_dir(place.node("source")).unwrap();
        let source = place.node("source");
        let kinds = [
            (vec![propagation::PRIVATE], ""),
            (vec![propagation::UNBINDABLE], "unbindable"),
            (vec![propagation::SHARED], "shared:"),
            (vec![propagation::SHARED | propagation::RECURSIVE], "shared:"),
            (vec![propagation::SLAVE, propagation::SHARED], "shared:"),
        ];
        for (kind, shown) in kinds {
            let kind: Vec<u32> = kind.iter().map(|bits| *bits as u32).collect();
            for (name, one) in
                [("bound", bind("/bound", &source, true)), ("made", filesystem("/made", "tmpfs", &[]))]
            {
                place.make(vec![Mount { propagation: kind.clone(), ..one }]).unwrap();
                let (_, fields, _) = place.mounted(name).unwrap();
                assert!(
                    if shown.is_empty() { fields.is_empty() } else { fields.contains(shown) },
                    "{kind:?}: {fields}"
                );
                rustix::mount::unmount(place.path(name), rustix::mount::UnmountFlags::DETACH).unwrap();
            }
        }
    });
}

#[test]
fn a_file_is_bound_to_a_file_that_is_made_for_it() {
    with_place("files", |place| {
        fs::write(place.node("source"), "text").unwrap();
        let source = place.node("source");
        place.make(vec![bind("/made/on/the/way/file", &source, true)]).unwrap();
        assert_eq!(fs::read_to_string(place.path("made/on/the/way/file")).unwrap(), "text");
        let missing = place.make(vec![bind("/x", &place.node("nothing"), true)]).unwrap_err();
        assert!(missing.message.contains("does not exist on the node"), "{missing}");
        assert!(!place.node("nothing").exists());
    });
}

#[test]
fn a_tmpfs_has_its_options_and_the_mode_of_what_it_covers() {
    with_place("tmpfs", |place| {
        fs::create_dir(place.path("there")).unwrap();
        fs::set_permissions(place.path("there"), fs::Permissions::from_mode(0o1750)).unwrap();
        let options = ["mode=0700", "uid=5", "gid=6", "size=64k", "nr_inodes=100"];
        place
            .make(vec![
                filesystem("/there", "tmpfs", &[]),
                set(filesystem("/asked", "tmpfs", &options), attr::NOSUID | attr::NODEV | attr::NOEXEC),
                filesystem("/new", "tmpfs", &["sync"]),
            ])
            .unwrap();
        let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("there"), mode("asked"), mode("new")), (0o1750, 0o700, 0o1777));
        let asked = fs::metadata(place.path("asked")).unwrap();
        assert_eq!((asked.uid(), asked.gid()), (5, 6));
        let (flags, _, system) = place.mounted("asked").unwrap();
        assert_eq!(flags, "rw,nosuid,nodev,noexec,relatime");
        assert!(system.contains("size=64k") && system.contains("nr_inodes=100"), "{system}");
        assert!(place.mounted("new").unwrap().2.contains("sync"));
        let wrong = place.make(vec![filesystem("/wrong", "tmpfs", &["nosuchoption"])]).unwrap_err();
        assert!(wrong.message.contains("nosuchoption"), "{wrong}");
    });
}

#[test]
fn a_readonly_tmpfs_is_filled_before_it_is_closed() {
    with_place("late", |place| {
        fs::write(place.node("file"), "text").unwrap();
        let file = place.node("file");
        place
            .make(vec![
                set(filesystem("/ro", "tmpfs", &[]), attr::RDONLY),
                bind("/ro/deep/file", &file, true),
            ])
            .unwrap();
        assert_eq!(fs::read_to_string(place.path("ro/deep/file")).unwrap(), "text");
        assert!(place.mounted("ro").unwrap().0.starts_with("ro,"));
        fs::write(place.path("ro/other"), "x").unwrap_err();
    });
}

#[test]
fn tmpcopyup_brings_owners_modes_links_times_and_attributes() {
    with_place("tmpcopyup", |place| {
        let image = place.path("data");
        fs::create_dir_all(image.join("sub")).unwrap();
        fs::write(image.join("sub/file"), "text").unwrap();
        fs::write(place.node("secret"), "secret").unwrap();
        symlink(place.node("secret"), image.join("link")).unwrap();
        symlink("..", image.join("sub/up")).unwrap();
        fs::hard_link(image.join("sub/file"), image.join("twin")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, image.join("fifo"), fifo, 0o640.into(), 0).unwrap();
        std::os::unix::fs::chown(image.join("sub/file"), Some(7), Some(8)).unwrap();
        std::os::unix::fs::chown(&image, Some(9), Some(10)).unwrap();
        fs::set_permissions(image.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(image.join("sub"), fs::Permissions::from_mode(0o1700)).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o2755)).unwrap();
        let time = rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 5 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, image.join("sub"), &times, rustix::fs::AtFlags::empty())
            .unwrap();
        rustix::fs::setxattr(image.join("twin"), "trusted.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
        let before = fs::metadata(image.join("sub/file")).unwrap().ino();
        let copy = Mount { tmpcopyup: true, ..set(filesystem("/data", "tmpfs", &[]), attr::RDONLY) };
        place.make(vec![copy]).unwrap();

        assert!(place.mounted("data").unwrap().0.starts_with("ro,"));
        let file = fs::metadata(image.join("sub/file")).unwrap();
        assert_ne!(file.ino(), before, "it is the image's still");
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.nlink()), (7, 8, 0o4751, 2));
        assert_eq!(fs::metadata(image.join("twin")).unwrap().ino(), file.ino());
        assert_eq!(fs::read_to_string(image.join("twin")).unwrap(), "text");
        let sub = fs::metadata(image.join("sub")).unwrap();
        assert_eq!((sub.mode() & 0o7777, sub.mtime(), sub.mtime_nsec()), (0o1700, 1_000_000, 5));
        let top = fs::metadata(&image).unwrap();
        assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (9, 10, 0o2755));
        assert_eq!(fs::read_link(image.join("link")).unwrap(), place.node("secret"));
        assert_eq!(fs::read_link(image.join("sub/up")).unwrap().to_str(), Some(".."));
        assert_eq!(fs::metadata(image.join("fifo")).unwrap().mode(), 0o10640);
        let mut value = [0; 8];
        assert_eq!(rustix::fs::getxattr(image.join("twin"), "trusted.x", &mut value[..]).unwrap(), 1);
    });
}

#[test]
fn tmpcopyup_ends_where_the_tmpfs_is_full() {
    with_place("full tmpfs", |place| {
        fs::create_dir(place.path("data")).unwrap();
        fs::write(place.path("data/big"), vec![1; 1 << 20]).unwrap();
        let copy = Mount { tmpcopyup: true, ..filesystem("/data", "tmpfs", &["size=64k"]) };
        let full = place.make(vec![copy]).unwrap_err();
        assert!(full.message.contains("big") && full.message.contains("no space"), "{full}");
        assert!(place.mounted("data").is_none());
    });
}

#[test]
fn an_idmapped_bind_shows_other_owners_and_a_recursive_one_below_too() {
    with_place("idmap", |place| {
        let source = place.node("source");
        fs::create_dir_all(source.join("below")).unwrap();
        let below = source.join("below");
        rustix::mount::mount("tmpfs", &below, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        for name in ["file", "below/file"] {
            fs::write(source.join(name), "x").unwrap();
            std::os::unix::fs::chown(source.join(name), Some(3), Some(4)).unwrap();
        }
        let maps = |outside| vec![IdMap { inside: 0, outside, length: 10 }];
        let mapped = |target: &str, idmap| Mount {
            idmap,
            uid_mappings: maps(1000),
            gid_mappings: maps(2000),
            ..bind(target, &source, true)
        };
        let made = place.make(vec![
            mapped("/single", Idmap::Single),
            mapped("/all", Idmap::Recursive),
            mapped("/again", Idmap::Single),
        ]);
        match made {
            Err(failure) if failure.message.contains("does not support") => {
                eprintln!("SKIPPED idmap: tmpfs takes no idmapped mounts before Linux 6.3");
                return;
            }
            made => made.unwrap(),
        }
        let owner = |path: &str| {
            let found = fs::metadata(place.path(path)).unwrap();
            (found.uid(), found.gid())
        };
        assert_eq!((owner("single/file"), owner("again/file")), ((1003, 2004), (1003, 2004)));
        assert_eq!((owner("all/file"), owner("all/below/file")), ((1003, 2004), (1003, 2004)));
        assert_eq!(owner("single/below/file"), (3, 4));
        let children = fs::read_to_string("/proc/thread-self/children").unwrap();
        assert_eq!(children.trim(), "", "a helper was left");
        let none = Mount { idmap: Idmap::Single, ..bind("/none", &source, true) };
        let failure = place.make(vec![none]).unwrap_err();
        assert!(failure.message.contains("needs mappings"), "{failure}");
    });
}

#[test]
fn a_remount_changes_what_is_there() {
    with_place("remount", |place| {
        let again = |bind, options: &[&str], set, clear| {
            let options = options.iter().map(|o| (*o).to_owned()).collect();
            Mount { set, clear, ..mount("/there", MountSource::Remount { bind, options }) }
        };
        place.make(vec![set(filesystem("/there", "tmpfs", &["size=64k"]), attr::NOSUID)]).unwrap();
        place.make(vec![again(true, &[], attr::NODEV, 0)]).unwrap();
        assert_eq!(place.mounted("there").unwrap().0, "rw,nosuid,nodev,relatime");
        place.make(vec![again(false, &["size=128k"], attr::RDONLY, attr::NOSUID)]).unwrap();
        let (flags, _, system) = place.mounted("there").unwrap();
        assert_eq!(flags, "ro,nodev,relatime");
        assert!(system.contains("size=128k"), "{system}");
        let nothing = mount("/nothing", MountSource::Remount { bind: true, options: Vec::new() });
        place.make(vec![set(nothing, attr::RDONLY)]).unwrap_err();
    });
}

#[test]
fn a_label_without_selinux_is_refused_in_one_sentence() {
    if std::path::Path::new("/sys/fs/selinux/status").exists() {
        eprintln!("SKIPPED label: SELinux is enabled here");
        return;
    }
    with_place("label", |place| {
        let failure = place.make(vec![filesystem("/x", "tmpfs", &["context=a:b:c:s0"])]).unwrap_err();
        assert!(failure.message.contains("needs SELinux"), "{failure}");
    });
}

#[test]
fn masked_and_frozen_paths_cover_files_and_directories() {
    with_place("masks", |place| {
        use rustix::fd::AsFd;
        fs::create_dir_all(place.path("dir/sub")).unwrap();
        fs::create_dir_all(place.path("frozen/sub")).unwrap();
        fs::write(place.path("file"), "text").unwrap();
        symlink("/file", place.path("link")).unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        let paths = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        container::masks::freeze(place.root.as_fd(), &paths(&["/frozen", "/nothing"])).unwrap();
        let hidden = paths(&["/dir", "/dir/sub", "/link", "/nothing", "/frozen/sub"]);
        container::masks::hide(place.root.as_fd(), null.as_fd(), &hidden).unwrap();
        assert_eq!(fs::read_dir(place.path("dir")).unwrap().count(), 0);
        fs::write(place.path("dir/x"), "x").unwrap_err();
        assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "");
        fs::write(place.path("frozen/x"), "x").unwrap_err();
        assert!(place.mounted("frozen/sub").is_some());
    });
}

#[test]
fn options_longer_than_fsconfig_takes_are_taken() {
    with_place("long options", |place| {
        let mut lower = Vec::new();
        for number in 0..6 {
            let dir = place.node(&format!("lower-{number}-{}", "x".repeat(60)));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join(format!("file{number}")), "x").unwrap();
            lower.push(dir.to_str().unwrap().to_owned());
        }
        let option = format!("lowerdir={}", lower.join(":"));
        assert!(option.len() > 256);
        let overlay = set(filesystem("/all", "overlay", &[&option]), attr::RDONLY | attr::NODEV);
        place.make(vec![Mount { propagation: vec![propagation::SHARED as u32], ..overlay }]).unwrap();
        assert_eq!(fs::read_dir(place.path("all")).unwrap().count(), 6);
        let (flags, fields, _) = place.mounted("all").unwrap();
        assert!(flags.starts_with("ro,nodev") && fields.contains("shared:"), "{flags} {fields}");
    });
}
