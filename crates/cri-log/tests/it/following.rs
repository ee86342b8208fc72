//! Following through rotations while a writer writes.

use corten_cri_log::read::{Options, Reader};
use corten_cri_log::{Stream, Writer};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn no_line_is_lost_or_doubled_by_rotation() {
    const LINES: usize = 3000;
    let dir = tempfile::tempdir().expect("a folder");
    let log = Path::new("0.log");
    let mut writer = Writer::open(dir.path(), log).expect("a log");
    let mut reader = Reader::open(dir.path(), log, Options::default()).expect("a log");
    let running = AtomicBool::new(true);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..LINES {
                writer.append(Stream::Stdout, format!("{number}\n").as_bytes(), 1).expect("append");
                if number % 1000 == 500 {
                    fs::rename(dir.path().join(log), dir.path().join(format!("0.log.{number}")))
                        .expect("rotate");
                    writer.append(Stream::Stdout, b"between\n", 1).expect("append");
                    writer.reopen().expect("reopen");
                    // Longer than the reader's pause: kubelets rotate every ten seconds at most.
                    std::thread::sleep(Duration::from_millis(250));
                }
            }
            running.store(false, Ordering::SeqCst);
        });
        reader
            .follow(
                || running.load(Ordering::SeqCst),
                |piece| {
                    seen.push(String::from_utf8_lossy(piece.text).into_owned());
                    ControlFlow::Continue(())
                },
            )
            .expect("follow");
    });
    let numbers: Vec<String> = seen.iter().filter(|line| *line != "between").cloned().collect();
    assert_eq!(numbers, (0..LINES).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(seen.len(), LINES + 3);
}

#[test]
fn following_ends_when_the_caller_breaks_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut writer = Writer::open(dir.path(), Path::new("0.log")).expect("a log");
    writer.append(Stream::Stdout, b"a\nb\n", 1).expect("append");
    let mut reader = Reader::open(dir.path(), Path::new("0.log"), Options::default()).expect("a log");
    let mut count = 0;
    let each = |_: corten_cri_log::read::Piece<'_>| {
        count += 1;
        ControlFlow::Break(())
    };
    reader.follow(|| true, each).expect("follow");
    assert_eq!(count, 1);
}

#[test]
fn a_log_that_is_cut_short_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("0.log");
    fs::write(&path, "1970-01-01T00:00:00Z stdout F first and rather long\n").expect("write");
    let mut reader = Reader::open(dir.path(), Path::new("0.log"), Options::default()).expect("a log");
    let mut seen = Vec::new();
    let mut turns = 0;
    let running = || {
        turns += 1;
        if turns == 2 {
            fs::write(&path, "1970-01-01T00:00:00Z stdout F second\n").expect("write");
        }
        turns < 3
    };
    let each = |piece: corten_cri_log::read::Piece<'_>| {
        seen.push(piece.text.to_vec());
        ControlFlow::Continue(())
    };
    reader.follow(running, each).expect("follow");
    assert_eq!(seen, [&b"first and rather long"[..], b"second"]);
}
