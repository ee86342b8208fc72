//! Mounts that older kernels want attached for a moment are attached where nobody sees it.

use crate::place::{KINDS, Place, Watch, mounts_of};
use container::plan::{Filesystem, IdMap, Layer, RootIds, RootSource};
use container::root::{Attach, Way, at_most, detached};
use rustix::fd::{AsRawFd, OwnedFd};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The first word of the command line by which this program mounts until it is killed.
pub const FOREVER: &str = "mount-forever";

const WAYS: [Way; 3] = [Way::OneString, Way::OneByOne, Way::Descriptors];

fn read(mount: &OwnedFd, file: &str) -> String {
    let path = format!("/proc/self/fd/{}/{file}", mount.as_raw_fd());
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What the root of each kind holds.
fn assert_right(kind: &str, mount: &OwnedFd) {
    match kind {
        "part" => assert_eq!(read(mount, "made"), "made"),
        _ => {
            let found = ["name", "both", "d/deep"].map(|file| read(mount, file));
            assert_eq!(found, ["low", "high", "deep"], "{kind}");
        }
    }
    let new = format!("/proc/self/fd/{}/new", mount.as_raw_fd());
    assert_eq!(std::fs::write(new, "new").is_ok(), kind != "read-only", "{kind}");
}

/// Runs `work` while this process has another thread, which keeps it from forking.
fn beside_another_thread(work: impl FnOnce()) {
    let (end, ended) = mpsc::channel::<()>();
    let other = std::thread::spawn(move || ended.recv());
    work();
    drop(end);
    let _ = other.join();
}

pub fn nothing_is_attached() {
    let place = Place::new();
    let all = |threads: &str| {
        for way in WAYS {
            at_most(way);
            for kind in KINDS {
                let Some(source) = place.root(kind) else { continue };
                let watch = Watch::new();
                let mount = detached(&source, &RootIds::default(), Attach::Elsewhere)
                    .unwrap_or_else(|failure| panic!("{way:?}, {kind}, {threads}: {failure}"));
                assert!(!watch.changed(), "{way:?}, {kind}, {threads}: the mount table changed");
                assert_right(kind, &mount);
            }
            // Of mapped layers each is a mount by itself.
            let map = vec![IdMap { inside: 0, outside: 100_000, length: 65_536 }];
            let ids = RootIds { uids: map.clone(), gids: map };
            let (source, watch) = (place.view(), Watch::new());
            let mount = detached(&source, &ids, Attach::Elsewhere)
                .unwrap_or_else(|failure| panic!("{way:?}, mapped, {threads}: {failure}"));
            assert!(!watch.changed(), "{way:?}, mapped, {threads}: the mount table changed");
            assert_right("read-only", &mount);
            let path = format!("/proc/self/fd/{}/name", mount.as_raw_fd());
            let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).expect("name"));
            assert_eq!(owner, 100_000);
        }
    };
    all("one thread");
    beside_another_thread(|| all("two threads"));
    // What would be seen otherwise.
    at_most(Way::OneString);
    let watch = Watch::new();
    detached(&place.overlay(), &RootIds::default(), Attach::Here).expect("an overlay");
    assert!(watch.changed(), "a mount that is attached for a moment is seen");
}

pub fn failures_are_told() {
    let place = Place::new();
    let gone = RootSource::overlay(
        vec![place.text("nothing"), place.text("low")],
        place.text("upper"),
        place.text("work"),
    );
    let RootSource::Overlay { upper, work, .. } = place.overlay() else { panic!("no overlay") };
    // Too many for one string, and none at all.
    let many = RootSource::overlay(vec![place.text("low"); 400], upper, work);
    let none = RootSource::overlay(Vec::new(), String::new(), String::new());
    let image = Filesystem {
        kind: "ext4".into(),
        source: place.text("no-disk"),
        by_loop: true,
        ..Filesystem::default()
    };
    let directories = || vec![Layer::Directory(place.text("low"))];
    let disk = RootSource::Overlay {
        lower: directories(),
        upper: "fs".into(),
        work: "work".into(),
        disk: Some(image),
        options: Vec::new(),
    };
    at_most(Way::OneString);
    let check = || {
        let (watch, no_ids) = (Watch::new(), RootIds::default());
        for (source, words) in [
            (&gone, "cannot open the layer"),
            (&many, "too many layers"),
            (&none, "no layers"),
            (&disk, "no-disk"),
        ] {
            let failure = detached(source, &no_ids, Attach::Elsewhere).expect_err(words);
            assert!(failure.message.contains(words), "{words}: {failure}");
        }
        assert!(!watch.changed());
    };
    check();
    beside_another_thread(check);
}

/// Makes overlays in a way of an older kernel until it is killed: FOLDER WHERE THREADS. Tells when it has made one.
pub fn mount_forever(words: &[String]) -> ! {
    let [folder, attach, threads] = words else { panic!("{words:?}") };
    let attach = if attach == "here" { Attach::Here } else { Attach::Elsewhere };
    at_most(Way::OneString);
    if threads == "two" {
        std::thread::spawn(|| std::thread::sleep(Duration::from_secs(600)));
    }
    let layers = ["high", "low"].map(|layer| format!("{folder}/{layer}"));
    let source = RootSource::overlay(layers.to_vec(), String::new(), String::new());
    detached(&source, &RootIds::default(), attach).expect("an overlay");
    println!("ready");
    loop {
        detached(&source, &RootIds::default(), attach).expect("an overlay");
    }
}

/// Starts [`mount_forever`], lets it work for a while, and kills it.
fn start_and_kill(folder: &Path, attach: &str, threads: &str, after: Duration) {
    let own = std::env::current_exe().expect("this program");
    let mut child = Command::new(own)
        .arg(FOREVER)
        .arg(folder)
        .args([attach, threads])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let mut ready = [0; 6];
    child.stdout.take().expect("piped").read_exact(&mut ready).expect("it makes an overlay");
    std::thread::sleep(after);
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

/// Processes whose command line names a folder. A fork has that of the one that forked.
fn processes_of(folder: &Path) -> usize {
    let name = folder.as_os_str().as_encoded_bytes();
    let named = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.windows(name.len()).any(|part| part == name)
    };
    std::fs::read_dir("/proc").expect("/proc").flatten().filter(named).count()
}

pub fn a_kill_leaves_nothing() {
    let place = Place::new();
    let folder = place.path("");
    let folder = folder.as_path();
    let watch = Watch::new();
    for threads in ["one", "two"] {
        for round in 0..12 {
            start_and_kill(folder, "elsewhere", threads, Duration::from_micros(round * 170));
        }
    }
    let end = Instant::now() + Duration::from_secs(30);
    while processes_of(folder) > 0 {
        assert!(Instant::now() < end, "a process outlived the one that it worked for");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!watch.changed(), "the mount table changed");
    assert_eq!(mounts_of(folder), [""; 0]);
    // What would be seen otherwise.
    start_and_kill(folder, "here", "one", Duration::ZERO);
    assert!(watch.changed());
    while rustix::mount::unmount(place.path("high"), rustix::mount::UnmountFlags::DETACH).is_ok() {}
}
