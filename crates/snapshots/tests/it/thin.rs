//! What only the snapshotter on thin devices promises.

use crate::builder::Builder;
use crate::case::{Case, Top, View, fresh};
use crate::killed::{done, has_strace, kill_at, of_child};
use crate::pool::{BASE, ThinPool, config};
use snapshots::{ChainId, DevmapperConfig, Writable};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use sys::dm::{Control, Text};
use types::ErrorKind;

fn device(name: &str) -> String {
    let target = std::fs::read_link(Path::new("/dev/mapper").join(name)).expect("a link");
    target.file_name().expect("a name").to_string_lossy().into_owned()
}

/// The name and the number of a layer's device.
fn device_of(case: &Case, chain: &ChainId) -> (String, u64) {
    let record = case.path("layers").join(chain.hex()).join("device.json");
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).expect("device.json")).expect("json");
    (json["name"].as_str().expect("a name").to_owned(), json["id"].as_u64().expect("a number"))
}

/// Takes a device away once nobody uses it any more.
fn take_away(control: &Control, name: &str) {
    let gone = (0..500).any(|_| {
        let removed = control.remove(name).is_ok();
        if !removed {
            std::thread::sleep(Duration::from_millis(10));
        }
        removed
    });
    assert!(gone, "{name} is in use");
}

/// It has its name, and no table that counts.
fn is_unfinished(control: &Control, name: &str) -> bool {
    control.device(name).expect("status").is_some()
        && control.target(name, Text::Table).expect("table").is_none()
}

#[test]
fn a_device_that_never_got_its_table_is_completed_when_it_is_used_and_swept_at_the_next_start() {
    let Some(mut case) = Case::open("devmapper") else { return };
    if Command::new("dmsetup").arg("version").output().is_err() {
        println!("SKIPPED: there is no dmsetup here, which makes a device without a table");
        return;
    }
    let dmsetup = |arguments: &[&str]| {
        let output = Command::new("dmsetup").args(arguments).output().expect("dmsetup");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let control = Control::open().expect("control");
    let chain = case.stack([Builder::default().file("f", b"1")]);
    let (name, id) = device_of(&case, &chain[0]);
    let pool =
        control.device(&case.top.pool.as_ref().expect("a pool").name).expect("status").expect("a pool");
    let table = format!("0 {} thin {}:{} {id}", BASE / 512, pool.major, pool.minor);
    // A device is made, gets its table, and is resumed, each by a call of its own.
    for loaded in [false, true] {
        let forge = || {
            dmsetup(&["create", &name, "--notable", "--noudevsync"]);
            if loaded {
                dmsetup(&["load", &name, "--table", &table]);
            }
            assert!(is_unfinished(&control, &name));
        };
        forge();
        let view = View::new(&case.snapshotter.view(&chain).expect("view"));
        assert_eq!(view.read("f"), "1");
        drop(view);
        take_away(&control, &name);
        forge();
        case = case.reopen();
        assert_eq!(control.device(&name).expect("status"), None);
        assert_eq!(View::new(&case.snapshotter.view(&chain).expect("view")).read("f"), "1");
        take_away(&control, &name);
    }
    case.snapshotter.remove_layer(&chain[0]).expect("remove");
}

/// What the process does that is killed.
#[test]
fn child() {
    let Some(case) = of_child() else { return };
    let chain = case.snapshotter.layers().expect("layers");
    case.snapshotter.view(&chain).expect("view");
    done(&case);
}

#[test]
fn killed_at_any_call_that_makes_a_device_active_the_next_process_has_it() {
    let Some(case) = Case::open("devmapper").filter(|_| has_strace()) else { return };
    let control = Control::open().expect("control");
    let chain = case.stack([Builder::default().file("f", b"1")]);
    let (name, _) = device_of(&case, &chain[0]);
    let (mut unfinished, mut count) = (0, 1);
    while kill_at("thin::child", case.name, case.top.path(), "ioctl", count) {
        unfinished += u32::from(is_unfinished(&control, &name));
        let other = Case::within(case.name, case.top.path());
        assert!(!is_unfinished(&control, &name), "after call {count}");
        assert_eq!(View::new(&other.snapshotter.view(&chain).expect("view")).read("f"), "1");
        take_away(&control, &name);
        count += 1;
    }
    assert_eq!(unfinished, 2, "kills between its making, its table and its being resumed");
}

#[test]
fn without_the_pool_it_does_not_open_and_says_why() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let config = DevmapperConfig { pool: "no-such-pool".into(), ..DevmapperConfig::default() };
    let error = snapshots::open_devmapper(folder.path(), &config).err().expect("no pool");
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{}", error.chain());
    match sys::dm::Control::open() {
        Ok(_) => assert!(error.message().contains("no device no-such-pool"), "{error}"),
        Err(_) => assert!(error.message().contains("needs the device-mapper"), "{error}"),
    }
    let error = snapshots::open("devmapper", folder.path()).err().expect("no configuration");
    assert!(error.message().contains("needs a thin pool"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing was made");
}

#[test]
fn layers_are_only_ever_active_read_only_and_the_node_sees_no_mount() {
    let Some(case) = Case::open("devmapper") else { return };
    let pool = case.top.pool.as_ref().expect("a pool");
    let chain = case.stack([Builder::default().file("f", b"1"), Builder::default().file("g", b"2")]);
    assert!(pool.active().is_empty(), "what is committed is not active");
    let view = View::new(&case.snapshotter.view(&chain).expect("view"));
    assert_eq!(
        (view.read("f"), view.read("g"), view.names("")),
        ("1".into(), "2".into(), vec!["f".into(), "g".into()])
    );
    let active = pool.active();
    assert_eq!(active.len(), 1);
    let dm = device(&active[0]);
    assert_eq!(std::fs::read_to_string(format!("/sys/block/{dm}/ro")).expect("ro").trim(), "1");
    let disk = std::fs::File::options().write(true).open(format!("/dev/{dm}"));
    assert!(disk.and_then(|disk| disk.write_at(b"x", 4096)).is_err(), "it takes no writes");
    let container = case.view("c", &chain);
    container.write("f", "mine");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(
        !mounts.contains("/dev/mapper/corten-") && !mounts.contains(case.top.path().to_str().expect("utf-8"))
    );
    drop((view, container));
    case.snapshotter.remove("c").expect("remove");
    case.snapshotter.remove_layer(&chain[0]).expect("remove");
    case.snapshotter.remove_layer(&chain[1]).expect("remove");
    assert!(pool.active().is_empty() && case.count("trash") == 0);
}

#[test]
fn what_is_removed_gives_its_blocks_back() {
    let Some(case) = Case::open("devmapper") else { return };
    let pool = case.top.pool.as_ref().expect("a pool");
    let before = pool.used();
    let chain = case.stack([Builder::default().file("f", &vec![7; 8 << 20])]);
    let with_layer = pool.used();
    assert!(with_layer >= before + 128, "8 MiB are 128 blocks: {before} {with_layer}");
    for id in ["a", "b", "c"] {
        case.snapshotter.prepare(id, &chain).expect("prepare");
    }
    assert!(pool.used() <= with_layer + 3, "a container takes nothing at first");
    let view = View::new(&case.snapshotter.prepare("a", &chain).expect("prepare"));
    view.write("g", &"x".repeat(4 << 20));
    std::fs::File::open(view.path("g")).expect("open").sync_all().expect("sync");
    assert!(pool.used() >= with_layer + 64);
    drop(view);
    for id in ["a", "b", "c"] {
        case.snapshotter.remove(id).expect("remove");
    }
    case.snapshotter.remove_layer(&chain[0]).expect("remove");
    assert!(pool.used() <= before + 1, "{before} {}", pool.used());
}

#[test]
fn a_pool_that_is_full_is_told_in_words_and_the_layer_is_not_there() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let Some(pool) = ThinPool::new(folder.path(), 48 << 20) else { return };
    let case = Case::within("devmapper", folder.path());
    let id = fresh();
    let draft = case.snapshotter.begin_layer(&id, None).expect("begin");
    let layer = Builder::default().file("large", &vec![7; 64 << 20]).end();
    use std::os::fd::AsFd;
    let unpacked = layers::unpack(
        layer.as_slice(),
        layers::Compression::None,
        draft.dir.as_fd(),
        case.snapshotter.whiteouts(),
        &layers::UnpackLimits::default(),
    );
    let committed = unpacked.and_then(|unpacked| case.snapshotter.commit_layer(draft, &id, &[], &unpacked));
    let error = committed.expect_err("it does not fit");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", error.chain());
    assert!(error.message().contains("is full (768 of 768 data blocks)"), "{error}");
    assert!(!case.snapshotter.has_layer(&id));
    case.snapshotter.sweep().expect("nothing is left");
    assert_eq!(case.count("ingest"), 0);
    drop((case, pool));
}

#[test]
fn two_daemons_on_one_pool_do_not_touch_each_other() {
    let Some(one) = Case::open("devmapper") else { return };
    let folder = tempfile::tempdir_in(one.top.path()).expect("a folder");
    let two = Case::within("devmapper", folder.path());
    let layer = || Builder::default().file("f", b"1");
    let (first, second) = (one.stack([layer(), layer()]), two.stack([layer(), layer()]));
    one.snapshotter.prepare("c", &first).expect("prepare");
    let view = two.view("c", &second);
    view.write("f", "two");
    one.snapshotter.remove("c").expect("remove");
    for chain in &first {
        one.snapshotter.remove_layer(chain).expect("remove");
    }
    let one = one.reopen();
    assert!(one.snapshotter.layers().expect("layers").is_empty());
    assert_eq!((view.read("f"), two.view("d", &second).read("f")), ("two".into(), "1".into()));
    // Before the pool.
    drop(view);
}

#[test]
fn a_pool_that_is_another_one_is_refused() {
    let top = Top::new("devmapper");
    let Some(pool) = &top.pool else { return };
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let open = |pool: &str| {
        let config = DevmapperConfig { pool: pool.to_owned(), bytes: BASE, ..DevmapperConfig::default() };
        snapshots::open_devmapper(folder.path(), &config)
    };
    open(&pool.name).expect("open");
    let other = ThinPool::new(folder.path(), 256 << 20).expect("another pool");
    let error = open(&other.name).err().expect("another pool");
    assert!(
        error.message().contains("configuration names") && error.message().contains(&pool.name),
        "{error}"
    );
    let name = pool.name.clone();
    drop((other, top));
    let _anew = ThinPool::named(&name, folder.path(), 256 << 20).expect("the pool anew");
    let error = open(&name).err().expect("made anew");
    assert!(error.message().contains("it was made anew"), "{error}");
    assert!(open(&name).is_err(), "and again");
}

#[test]
fn a_half_made_base_is_made_again_and_another_size_concerns_new_images_only() {
    let Some(case) = Case::open("devmapper") else { return };
    let chain = case.stack([Builder::default().file("f", b"1")]);
    std::fs::remove_file(case.path("base/ready")).expect("as if it was not ready");
    let case = case.reopen();
    assert_eq!(case.view("a", &case.stack([Builder::default().file("g", b"2")])).read("g"), "2");
    let larger = DevmapperConfig { bytes: 2 * BASE, ..config(case.top.path()) };
    let snapshotter = snapshots::open_devmapper(case.top.path(), &larger).expect("open");
    let total = |view: &View| {
        let stat = rustix::fs::statvfs(view.path("")).expect("statvfs");
        stat.f_blocks * stat.f_frsize
    };
    let old = View::new(&snapshotter.prepare("b", &chain).expect("prepare"));
    let new = View::new(&snapshotter.prepare("c", &[]).expect("prepare"));
    assert_eq!((old.read("f"), new.names("")), ("1".into(), Vec::<String>::new()));
    assert!(total(&old) <= BASE && total(&new) > BASE, "{} {}", total(&old), total(&new));
}

#[test]
fn the_bases_size_bounds_a_container_and_a_smaller_bound_is_refused() {
    let Some(case) = Case::open("devmapper") else { return };
    let bounded = |bytes| Writable { bytes: Some(bytes), ..Writable::default() };
    let error = case.snapshotter.prepare_with("c", &[], &bounded(BASE / 2)).expect_err("less");
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert!(error.message().contains(&BASE.to_string()), "{error}");
    assert_eq!((case.count("ingest"), case.count("containers")), (0, 0));
    case.snapshotter.prepare_with("c", &[], &bounded(BASE)).expect("as large as it is");
}

#[test]
fn a_damaged_layer_is_found_and_replaced() {
    let Some(case) = Case::open("devmapper") else { return };
    let chain = fresh();
    let layer = |byte: u8| Builder::default().dir("d", 0o755).file("d/f", &[byte; 9000]);
    let (draft, unpacked) = case.draft(&chain, None, layer(1));
    case.snapshotter.commit_layer(draft, &chain, &[], &unpacked).expect("commit");
    let (draft, unpacked) = case.draft(&chain, None, layer(1));
    assert_eq!(case.snapshotter.verify_layer(&draft, &chain, &[], &unpacked).expect("verify"), None);
    drop(draft);
    let (draft, unpacked) = case.draft(&chain, None, layer(2));
    let words =
        case.snapshotter.verify_layer(&draft, &chain, &[], &unpacked).expect("verify").expect("differs");
    assert!(words.contains("f"), "{words}");
    case.snapshotter.replace_layer(draft, &chain, &[], &unpacked, &Vec::new).expect("replace");
    assert_eq!(case.view("c", &[chain]).read("d/f"), "\u{2}".repeat(9000));
    assert_eq!((case.count("ingest"), case.count("replaced"), case.count("trash")), (0, 0, 0));
}
