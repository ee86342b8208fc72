//! What only layers in image files promise.

use crate::builder::Builder;
use crate::case::{Case, View};
use container::plan::{Layer, RootSource};
use std::os::unix::fs::FileExt;

#[test]
fn the_node_never_sees_an_image_mounted_and_no_loop_device_stays() {
    let Some(case) = Case::open("erofs") else { return };
    let chain = case.stack([Builder::default().file("f", b"1"), Builder::default().file("g", b"2")]);
    let source = case.snapshotter.prepare("c", &chain).expect("prepare");
    let view = View::new(&source);
    assert_eq!((view.read("f"), view.read("g")), ("1".into(), "2".into()));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(case.top.path().to_str().expect("utf-8")));
    drop(view);
    let top = case.top.path().to_str().expect("utf-8").to_owned();
    let held = || {
        let devices = std::fs::read_dir("/sys/block").expect("sysfs");
        let mut names = devices.map(|device| device.expect("device").path().join("loop/backing_file"));
        names.any(|name| std::fs::read_to_string(name).is_ok_and(|text| text.contains(&top)))
    };
    assert!((0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        !held()
    }));
}

#[test]
fn images_go_by_loop_devices_where_files_cannot_be_mounted() {
    let Some(case) = Case::open("erofs") else { return };
    let chain = case.stack([Builder::default().file("f", b"1"), Builder::default().file("g", b"2")]);
    let RootSource::Overlay { mut lower, upper, work, disk, options } =
        case.snapshotter.prepare("c", &chain).expect("prepare")
    else {
        panic!("no overlay")
    };
    for layer in &mut lower {
        let Layer::Erofs(image) = layer else { panic!("no image") };
        image.by_loop = true;
    }
    let source = RootSource::Overlay { lower, upper, work, disk, options };
    assert!(source.needs_devices());
    let view = View::new(&source);
    view.write("f", "written");
    assert_eq!((view.read("f"), view.read("g")), ("written".into(), "2".into()));
}

#[test]
fn a_damaged_image_is_found_and_replaced() {
    let Some(case) = Case::open("erofs") else { return };
    let base = case.stack([Builder::default().dir("d", 0o750).file("d/low", b"1")]);
    let layer = || Builder::default().file("f", &[7; 9000]).hardlink("d/link", "d/low").symlink("s", "f");
    let chain = crate::case::fresh();
    let (draft, unpacked) = case.draft(&chain, base.first(), layer());
    case.snapshotter.commit_layer(draft, &chain, &base, &unpacked).expect("commit");
    let verify = || {
        let (draft, unpacked) = case.draft(&chain, base.first(), layer());
        case.snapshotter.verify_layer(&draft, &chain, &base, &unpacked).expect("verify")
    };
    assert_eq!(verify(), None);
    let path = case.layer_content(&chain);
    let image = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("open");
    let bytes = std::fs::read(&path).expect("read");
    // Not in the first block: that has a checksum of its own.
    let at = bytes[4096..].windows(100).position(|part| part == [7; 100]).expect("the file's content");
    image.write_all_at(b"x", at as u64 + 4096 + 50).expect("write");
    image.sync_all().expect("sync");
    let words = verify().expect("damage");
    assert!(words.contains("/f"), "{words}");
    image.write_all_at(&[0; 2048], 1024).expect("write");
    image.sync_all().expect("sync");
    assert!(verify().is_some(), "an image that cannot be mounted is damage, too");
    let (draft, unpacked) = case.draft(&chain, base.first(), layer());
    case.snapshotter.replace_layer(draft, &chain, &base, &unpacked, &Vec::new).expect("replace");
    assert_eq!(verify(), None);
    let all = [chain.clone(), base[0].clone()];
    assert_eq!(case.view("c", &all).read("d/link"), "1");
    assert_eq!((case.count("ingest"), case.count("replaced"), case.count("trash")), (0, 0, 0));
}

#[test]
fn a_container_made_while_its_layer_is_replaced_keeps_the_old_one() {
    let Some(case) = Case::open("overlayfs") else { return };
    let layer = || Builder::default().file("f", b"1");
    let chain = crate::case::fresh();
    let (draft, unpacked) = case.draft(&chain, None, layer());
    case.snapshotter.commit_layer(draft, &chain, &[], &unpacked).expect("commit");
    let replace = |users: &dyn Fn() -> Vec<String>| {
        let (draft, unpacked) = case.draft(&chain, None, layer());
        case.snapshotter.replace_layer(draft, &chain, &[], &unpacked, users).expect("replace");
        case.snapshotter.replaced(&|layer| panic!("{layer}: it was said")).expect("replaced")
    };
    // c1 was there before; c2 comes once the old layer is where it is to be kept, at the latest possible moment.
    let asked = std::cell::Cell::new(0);
    let growing = || {
        asked.set(asked.get() + 1);
        let late = (case.count("replaced") > 1).then(|| "c2".to_owned());
        late.into_iter().chain(["c1".to_owned()]).collect()
    };
    let kept = replace(&growing);
    assert_eq!((kept.len(), asked.get() > 0), (1, true));
    assert!(["c1", "c2"].iter().all(|c| kept[0].1.iter().any(|known| known == c)), "{kept:?}");
    case.snapshotter.remove_replaced(&kept[0].0).expect("remove");
    assert_eq!(replace(&Vec::new), []);
}

#[test]
fn an_image_file_that_is_missing_is_named() {
    let Some(case) = Case::open("erofs") else { return };
    let chain = case.stack([Builder::default().file("f", b"1")]);
    let source = case.snapshotter.prepare("c", &chain).expect("prepare");
    std::fs::remove_file(case.layer_content(&chain[0])).expect("remove");
    let error = case.snapshotter.prepare("d", &chain).expect_err("no image");
    assert_eq!(error.kind(), types::ErrorKind::NotFound);
    let failure = View::try_new(&source, &Default::default()).err().expect("no image");
    assert!(failure.to_string().contains("pull the image again"), "{failure}");
}
