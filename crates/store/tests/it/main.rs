//! What the store promises to a reader after its writer was killed: a real child process, a real SIGKILL.

use corten_store::meta::{Meta, Table};
use corten_store::record::Folder;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "STORE_TEST_WRITER";

/// Runs one test of this binary again, as a child that writes below `root` until it is killed.
fn spawn_writer(test: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", test, "--test-threads=1"])
        .env(ROLE, root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawn")
}

fn role() -> Option<PathBuf> {
    std::env::var_os(ROLE).map(PathBuf::from)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_record_writer_leaves_whole_records_and_no_temporary_files() {
    if let Some(root) = role() {
        let folder = Folder::open(&root).expect("open");
        for n in 0u64.. {
            let value: BTreeMap<String, u64> = (0..500).map(|i| (format!("key{i}"), n)).collect();
            folder.write("record", &value).expect("write");
        }
    }
    let dir = tempfile::tempdir().expect("temp dir");
    for round in 0..5u64 {
        let mut writer =
            spawn_writer("a_killed_record_writer_leaves_whole_records_and_no_temporary_files", dir.path());
        wait_until("a record", || dir.path().join("record").exists());
        std::thread::sleep(Duration::from_millis(3 + round * 7));
        writer.kill().expect("kill");
        writer.wait().expect("reaped");
        let folder = Folder::open(dir.path()).expect("open");
        let value: BTreeMap<String, u64> = folder.read("record").expect("whole").expect("there");
        assert_eq!(value.len(), 500);
        assert!(value.values().all(|n| *n == value["key0"]), "two writes were mixed");
        let files = std::fs::read_dir(dir.path()).expect("list").count();
        assert_eq!(files, 1, "temporary files were left");
    }
}

#[test]
fn a_killed_metadata_writer_leaves_whole_transactions() {
    if let Some(root) = role() {
        let meta = Meta::open(&root.join("meta.redb")).expect("open");
        let start = meta.get::<u64>(Table::Images, "n").expect("get").unwrap_or(0);
        for n in start + 1.. {
            meta.batch(|tx| {
                tx.put(Table::Images, "n", &n)?;
                tx.put(Table::Blobs, "n", &n)
            })
            .expect("commit");
            std::fs::write(root.join("acknowledged"), n.to_string()).expect("say so");
        }
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let acknowledged = dir.path().join("acknowledged");
    for round in 0..4u64 {
        let _ = std::fs::remove_file(&acknowledged);
        let mut writer = spawn_writer("a_killed_metadata_writer_leaves_whole_transactions", dir.path());
        wait_until("a commit", || acknowledged.exists());
        std::thread::sleep(Duration::from_millis(3 + round * 11));
        writer.kill().expect("kill");
        writer.wait().expect("reaped");
        let meta = Meta::open(&dir.path().join("meta.redb")).expect("opens after a kill");
        let image = meta.get::<u64>(Table::Images, "n").expect("get").expect("there");
        let blob = meta.get::<u64>(Table::Blobs, "n").expect("get").expect("there");
        assert_eq!(image, blob, "half a transaction");
        let said: u64 = std::fs::read_to_string(&acknowledged).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
        assert!(image >= said, "{said} was acknowledged, {image} is there");
    }
}

#[test]
fn a_lock_ends_with_its_killed_holder() {
    if let Some(root) = role() {
        let _held = corten_store::lock::exclusive(&root.join("lock")).expect("lock");
        std::fs::write(root.join("held"), "").expect("say so");
        std::thread::sleep(Duration::from_secs(60));
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let mut holder = spawn_writer("a_lock_ends_with_its_killed_holder", dir.path());
    wait_until("the lock", || dir.path().join("held").exists());
    let refused = corten_store::lock::exclusive(&dir.path().join("lock")).expect_err("held");
    assert!(refused.message().contains(&format!("process {}", holder.id())), "{refused}");
    holder.kill().expect("kill");
    holder.wait().expect("reaped");
    corten_store::lock::exclusive(&dir.path().join("lock")).expect("free");
}
