//! What goes in comes out, however it is cut.

use crate::read_all;
use corten_cri_log::read::Options;
use corten_cri_log::{MAX_TEXT, Stream, Writer};
use proptest::prelude::*;
use std::path::Path;

/// Output of a container: short lines, empty ones, and some around the limit.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        2 => Just(b"\n".to_vec()),
        1 => (MAX_TEXT - 2..MAX_TEXT + 3).prop_map(|length| vec![b'x'; length]),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cutting_of_two_streams_reads_back_unchanged(
        stdout in output(),
        stderr in output(),
        cuts in proptest::collection::vec(1usize..40_000, 1..20),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(dir.path(), Path::new("0.log")).expect("a log");
        let mut rest = [&stdout[..], &stderr[..]];
        for (turn, cut) in cuts.iter().cycle().enumerate() {
            if rest.iter().all(|r| r.is_empty()) {
                break;
            }
            let which = turn % 2;
            let (now, later) = rest[which].split_at(rest[which].len().min(*cut));
            let stream = [Stream::Stdout, Stream::Stderr][which];
            writer.append(stream, now, turn as i64).expect("append");
            rest[which] = later;
        }
        writer.finish(Stream::Stdout, 0).expect("finish");
        writer.finish(Stream::Stderr, 0).expect("finish");
        let [out, err] = read_all(dir.path(), Options::default());
        prop_assert_eq!(out, stdout);
        prop_assert_eq!(err, stderr);
    }

    #[test]
    fn the_last_lines_are_those_that_reading_everything_gives(
        lines in proptest::collection::vec((any::<bool>(), 0usize..3 * MAX_TEXT), 1..12),
        cut in 100usize..40_000,
        tail in 0u64..14,
    ) {
        // Both streams at once, a chunk of each in turn, so that the pieces of long lines are mixed.
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(dir.path(), Path::new("0.log")).expect("a log");
        let mut texts = [Vec::new(), Vec::new()];
        for (number, (which, length)) in lines.iter().enumerate() {
            let text = &mut texts[usize::from(*which)];
            text.extend_from_slice(format!("{number:08}").as_bytes());
            text.resize(text.len() + length, b'.');
            text.push(b'\n');
        }
        let mut chunks = texts.each_ref().map(|text| text.chunks(cut));
        loop {
            let now = chunks.each_mut().map(Iterator::next);
            for (which, chunk) in now.iter().enumerate() {
                writer.append([Stream::Stdout, Stream::Stderr][which], chunk.unwrap_or_default(), 7).expect("append");
            }
            if now.iter().all(Option::is_none) {
                break;
            }
        }
        let [out, err] = read_all(dir.path(), Options { tail: Some(tail), ..Options::default() });
        let count = |text: &[u8]| text.iter().filter(|b| **b == b'\n').count() as u64;
        prop_assert_eq!(count(&out) + count(&err), tail.min(lines.len() as u64));
        // Whole lines, and the last ones of each stream.
        prop_assert!(texts[0].ends_with(&out) && texts[1].ends_with(&err));
        for (all, part) in [(&texts[0], &out), (&texts[1], &err)] {
            let before = all.len() - part.len();
            prop_assert!(before == 0 || all[before - 1] == b'\n');
        }
        for (only, which) in [(Stream::Stdout, 0), (Stream::Stderr, 1)] {
            let options = Options { tail: Some(tail), stream: Some(only), ..Options::default() };
            let both = read_all(dir.path(), options);
            prop_assert_eq!(count(&both[which]), tail.min(count(&texts[which])));
            prop_assert!(both[1 - which].is_empty());
        }
    }

    #[test]
    fn no_file_makes_the_reader_fail(content in proptest::collection::vec(any::<u8>(), 0..400), tail in 0u64..5) {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("0.log"), &content).expect("write");
        read_all(dir.path(), Options::default());
        read_all(dir.path(), Options { tail: Some(tail), ..Options::default() });
    }
}
