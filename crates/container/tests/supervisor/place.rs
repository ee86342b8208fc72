//! A node of one test's own: a mount namespace, a look at what changes in it, and folders for layers.

use container::plan::{Filesystem, Layer, RootSource};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use sys::mount::{Attributes, propagation, set_attributes};

/// A mount namespace that nobody else sees, and in which every mount is shared: a copy of it has peers of all.
pub fn leave_the_node() {
    sys::process::unshare(sys::process::namespace::MOUNT).expect("a mount namespace");
    for kind in [propagation::PRIVATE, propagation::SHARED] {
        let all = Attributes { propagation: kind, recursive: true, ..Attributes::default() };
        set_attributes(rustix::fs::CWD, c"/", all).expect("propagation");
    }
    leave_what_others_mounted();
}

/// Copies of what other tests mounted go when these remove the places, at any time; better at once.
fn leave_what_others_mounted() {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let others =
        points.filter(|point| ["/var/tmp/", "/tmp/", "/run/netns/"].iter().any(|top| point.starts_with(top)));
    for point in others.collect::<Vec<_>>().into_iter().rev() {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Sees each change of this process's mount table, however short (proc_pid_mountinfo(5): a change wakes poll(2) with
/// `POLLPRI`).
pub struct Watch(fs::File);

impl Watch {
    pub fn new() -> Watch {
        let mut file = fs::File::open("/proc/self/mountinfo").expect("mountinfo");
        file.read_to_string(&mut String::new()).expect("read");
        let watch = Watch(file);
        watch.changed();
        watch
    }

    /// Whether anything was mounted or unmounted since this was asked last.
    pub fn changed(&self) -> bool {
        let mut asked = [PollFd::new(&self.0, PollFlags::PRI)];
        poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
        asked[0].revents().intersects(PollFlags::PRI | PollFlags::ERR)
    }
}

/// A folder on a disk that can be an overlay's upper.
pub struct Place {
    dir: tempfile::TempDir,
    made: Cell<u32>,
}

/// Each kind of root that older kernels make in a way of their own.
pub const KINDS: [&str; 4] = ["directories", "read-only", "disk", "part"];

impl Place {
    pub fn new() -> Place {
        let place = Place {
            dir: tempfile::Builder::new().prefix("supervisor-").tempdir_in("/var/tmp").expect("a folder"),
            made: Cell::new(0),
        };
        for (layer, files) in
            [("low", [("name", "low"), ("both", "low")]), ("high", [("both", "high"), ("d/deep", "deep")])]
        {
            for (file, content) in files {
                let path = place.path(layer).join(file);
                fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
                fs::write(path, content).expect("write");
            }
        }
        place
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn text(&self, below: &str) -> String {
        self.path(below).to_str().expect("UTF-8").to_owned()
    }

    /// Both layers, topmost first.
    pub fn layers(&self) -> Vec<Layer> {
        ["high", "low"].map(|layer| Layer::Directory(self.text(layer))).to_vec()
    }

    fn fresh(&self, what: &str) -> String {
        self.made.set(self.made.get() + 1);
        let name = format!("{what}-{}", self.made.get());
        fs::create_dir(self.path(&name)).expect("mkdir");
        self.text(&name)
    }

    /// With a writable layer that no overlay had yet: a volatile one cannot be mounted twice.
    pub fn overlay(&self) -> RootSource {
        let (upper, work) = (self.fresh("upper"), self.fresh("work"));
        RootSource::Overlay { lower: self.layers(), upper, work, disk: None, options: Vec::new() }
    }

    /// The same without one.
    pub fn view(&self) -> RootSource {
        let (upper, work) = (String::new(), String::new());
        RootSource::Overlay { lower: self.layers(), upper, work, disk: None, options: Vec::new() }
    }

    /// An ext4 in a file with the folders `fs` and `work`; none where it cannot be had, which is said.
    pub fn disk(&self) -> Option<Filesystem> {
        let tree = self.fresh("tree");
        for folder in ["fs", "work"] {
            fs::create_dir(Path::new(&tree).join(folder)).expect("mkdir");
        }
        fs::write(Path::new(&tree).join("fs/made"), "made").expect("write");
        let image = format!("{}/disk", self.fresh("disk"));
        fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("a file");
        let made =
            Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^has_journal", "-d", &tree, &image]).output();
        let Ok(made) = made else {
            println!("SKIPPED: there is no mkfs.ext4 here");
            return None;
        };
        assert!(made.status.success(), "{made:?}");
        Some(Filesystem {
            kind: "ext4".into(),
            source: image,
            by_loop: true,
            place: self.fresh("place"),
            ..Filesystem::default()
        })
    }

    /// A root of one of [`KINDS`].
    pub fn root(&self, kind: &str) -> Option<RootSource> {
        Some(match kind {
            "directories" => self.overlay(),
            "read-only" => self.view(),
            "disk" => {
                let (upper, work) = ("fs".into(), "work".into());
                let disk = Some(self.disk()?);
                RootSource::Overlay { lower: self.layers(), upper, work, disk, options: Vec::new() }
            }
            "part" => RootSource::Filesystem(Filesystem { directory: "fs".into(), ..self.disk()? }),
            other => panic!("{other}"),
        })
    }
}

/// Lines of the mount table that speak of a folder.
pub fn mounts_of(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let name = folder.to_str().expect("UTF-8");
    table.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
}
