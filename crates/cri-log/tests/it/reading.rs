//! Options of the reader, and files that are not what they should be.

use crate::read_all;
use corten_cri_log::read::{Options, Reader};
use corten_cri_log::{Stream, Writer};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn three_lines() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let mut writer = Writer::open(dir.path(), Path::new("0.log")).expect("a log");
    for (time, line) in [(1, "one\n"), (2, "two\n"), (3, "three\n")] {
        writer.append(Stream::Stdout, line.as_bytes(), time).expect("append");
    }
    dir
}

fn stdout(dir: &TempDir, options: Options) -> String {
    String::from_utf8(read_all(dir.path(), options)[0].clone()).expect("text")
}

#[test]
fn since_tail_and_limit_choose_lines() {
    let dir = three_lines();
    let with = Options::default;
    assert_eq!(stdout(&dir, Options { since: Some(2), ..with() }), "two\nthree\n");
    assert_eq!(stdout(&dir, Options { tail: Some(0), ..with() }), "");
    assert_eq!(stdout(&dir, Options { tail: Some(1), ..with() }), "three\n");
    assert_eq!(stdout(&dir, Options { tail: Some(99), ..with() }), "one\ntwo\nthree\n");
    assert_eq!(stdout(&dir, Options { limit_bytes: Some(6), ..with() }), "one\ntw");
    assert_eq!(stdout(&dir, Options { limit_bytes: Some(7), ..with() }), "one\ntwo");
    assert_eq!(stdout(&dir, Options { limit_bytes: Some(8), ..with() }), "one\ntwo\n");
    assert_eq!(stdout(&dir, Options { stream: Some(Stream::Stderr), ..with() }), "");
}

#[test]
fn timestamps_stand_before_lines_and_not_before_pieces() {
    let dir = tempfile::tempdir().expect("a folder");
    let records = "1970-01-01T00:00:00Z stdout P a\n1970-01-01T00:00:01Z stdout F b\n";
    fs::write(dir.path().join("0.log"), records).expect("write");
    let mut reader = Reader::open(dir.path(), Path::new("0.log"), Options::default()).expect("a log");
    let mut out = Vec::new();
    while let Some(piece) = reader.next_piece().expect("a piece") {
        piece.print(&mut out, true).expect("memory");
    }
    assert_eq!(String::from_utf8_lossy(&out), "1970-01-01T00:00:00.000000000Z ab\n");
}

#[test]
fn a_line_that_began_before_since_is_left_out_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let records =
        "1970-01-01T00:00:00Z stdout P a\n1970-01-01T00:00:09Z stdout F b\n1970-01-01T00:00:09Z stdout F c\n";
    fs::write(dir.path().join("0.log"), records).expect("write");
    assert_eq!(stdout(&dir, Options { since: Some(5_000_000_000), ..Options::default() }), "c\n");
}

#[test]
fn a_record_longer_than_the_buffer_comes_in_pieces() {
    let dir = tempfile::tempdir().expect("a folder");
    let long = "x".repeat(300_000);
    let records = format!("1970-01-01T00:00:00Z stdout F {long}\n1970-01-01T00:00:00Z stdout F end\n");
    fs::write(dir.path().join("0.log"), records).expect("write");
    assert_eq!(stdout(&dir, Options::default()), format!("{long}\nend\n"));
    assert_eq!(stdout(&dir, Options { tail: Some(2), ..Options::default() }), format!("{long}\nend\n"));
}

#[test]
fn garbage_is_passed_over_and_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut records = b"\n\0\0\0\nnot a record\n1970-01-01T00:00:00Z stdout F good\n".to_vec();
    records.extend(vec![b'y'; 200_000]);
    records.extend(b"\n1970-01-01T00:00:00Z stdout F after\n1970-01-01T00:00:00Z stdout F unfini");
    fs::write(dir.path().join("0.log"), records).expect("write");
    assert_eq!(stdout(&dir, Options::default()), "good\nafter\n");
    let mut reader = Reader::open(dir.path(), Path::new("0.log"), Options::default()).expect("a log");
    while reader.next_piece().expect("a piece").is_some() {}
    assert_eq!(reader.skipped(), 4);
}

#[test]
fn a_link_is_not_read() {
    let dir = three_lines();
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).expect("mkdir");
    std::os::unix::fs::symlink(dir.path().join("0.log"), logs.join("0.log")).expect("link");
    assert!(Reader::open(&logs, Path::new("0.log"), Options::default()).is_err());
}
