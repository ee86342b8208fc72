//! Views under attack: somebody with all rights in a mount namespace that is their own, as in a privileged container, does
//! to the mount what can be done to mounts. Whatever the kernel allows of it, no layer changes.

use crate::builder::Builder;
use crate::case::{Case, View};
use container::plan::{RootIds, RootSource};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, IFlags, Mode, OFlags, XattrFlags};
use rustix::mount::{
    FsPickFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick,
    mount_remount, move_mount, open_tree,
};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use sys::mount::{Attributes, attr, set_attributes};

every_snapshotter!(nobody_can_write_through_a_view,);

fn nobody_can_write_through_a_view(case: Case) {
    let chain = case.stack([
        Builder::default().dir("d", 0o755).file("d/f", b"low").file("gone", b"low"),
        Builder::default().file("top", b"image"),
    ]);
    let stamps = || -> Vec<_> {
        chain.iter().flat_map(|layer| crate::mapped::stamps(&case.layer_content(layer))).collect()
    };
    let before = stamps();
    let source = case.snapshotter.view(&chain).expect("view");
    let place = tempfile::tempdir_in("/var/tmp").expect("a place");
    std::thread::scope(|scope| scope.spawn(|| attack(&source, place.path())).join()).expect("no write");
    assert_eq!(stamps(), before, "a layer was touched");
    let view = View::new(&case.snapshotter.view(&chain).expect("view"));
    assert_eq!((view.read("top"), view.read("d/f"), view.names("")), whole());
    let container = case.view("c", &chain);
    assert_eq!((container.read("top"), container.read("d/f"), container.names("")), whole());
    // The measure of all this: what is a container's own can be written to.
    assert!(!written(&container.path(".")).is_empty());
}

fn whole() -> (String, String, Vec<String>) {
    ("image".into(), "low".into(), ["d", "gone", "top"].map(String::from).to_vec())
}

/// As `container` mounts an image: read-only, at a place in a mount namespace that goes with this thread.
fn attack(source: &RootSource, place: &Path) {
    sys::process::unshare(sys::process::namespace::MOUNT).expect("a mount namespace");
    container::root::detach_from_node().expect("cut off");
    let mount = container::root::detached(source, &RootIds::default(), container::root::Attach::Here);
    let mount = mount.expect("the view");
    let set = attr::RDONLY | attr::NOEXEC | attr::NOSUID | attr::NODEV;
    set_attributes(mount.as_fd(), c"", Attributes { set, ..Attributes::default() }).expect("read-only");
    move_mount(&mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).expect("attached");
    drop(mount);
    let refused = |after: &str, place: &Path| {
        assert_eq!(written(place), Vec::<&str>::new(), "{source:?}: {after}");
    };
    refused("as it is mounted", place);
    // What these answer is the kernel's affair; they are in an order that gives the most to the later ones.
    let _ = mount_remount(place, MountFlags::BIND, "");
    refused("mount -o remount,bind,rw", place);
    let _ = set_attributes(
        open(place).as_fd(),
        c"",
        Attributes { clear: attr::RDONLY | attr::NODEV, ..Attributes::default() },
    );
    refused("mount_setattr(2) without MOUNT_ATTR_RDONLY", place);
    let _ = mount_remount(place, MountFlags::empty(), "");
    refused("mount -o remount,rw", place);
    let picked = fspick(CWD, place, FsPickFlags::FSPICK_CLOEXEC).and_then(|context| {
        fsconfig_set_flag(&context, "rw")?;
        fsconfig_reconfigure(&context)
    });
    refused(&format!("fsconfig(2) to rw, which says {picked:?}"), place);
    let _ = sys::btrfs::set_read_only(open(place).as_fd(), false);
    refused("a subvolume without its mark", place);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, place, flags).expect("a copy of the mount");
    let _ = set_attributes(copy.as_fd(), c"", Attributes { clear: attr::RDONLY, ..Attributes::default() });
    refused("a copy of the mount", &PathBuf::from(format!("/proc/self/fd/{}/.", copy.as_raw_fd())));
    // What is mounted here, and all that it was made of, as far as it has a name.
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    let own = table.lines().filter(|line| line.contains(&*place.to_string_lossy())).count();
    assert_eq!(own, 1, "{table}");
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open")
}

/// Tries to change everything that can be changed of a tree; what of it was possible.
fn written(place: &Path) -> Vec<&'static str> {
    let (file, dir) = (place.join("top"), place.join("d"));
    let handle = |path: &Path| std::fs::File::options().read(true).open(path).expect("open for reading");
    let tried = [
        ("write to a file", std::fs::File::options().append(true).open(&file).map(drop)),
        ("cut a file", std::fs::File::options().write(true).truncate(true).open(&file).map(drop)),
        ("make a file", std::fs::write(place.join("new"), "new")),
        ("make a directory", std::fs::create_dir(dir.join("new"))),
        ("remove a file", std::fs::remove_file(dir.join("f"))),
        ("rename a file", std::fs::rename(place.join("gone"), place.join("moved"))),
        ("link a file", std::fs::hard_link(&file, place.join("link"))),
        ("set a mode", std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))),
        ("set an owner", chown(&file, Some(7), Some(7))),
        ("set a time", handle(&file).set_modified(std::time::UNIX_EPOCH)),
        (
            "set an attribute",
            rustix::fs::setxattr(&file, "user.k", b"v", XattrFlags::empty()).map_err(Into::into),
        ),
        ("set a flag", rustix::fs::ioctl_setflags(handle(&file), IFlags::NODUMP).map_err(Into::into)),
    ];
    tried.into_iter().filter(|(_, done)| done.is_ok()).map(|(what, _)| what).collect()
}
