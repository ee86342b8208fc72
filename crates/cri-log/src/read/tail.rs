//! Where the last lines of a log begin, found from its end. Costs what it skips over, never more memory
//! than one block.

use crate::record::{Record, Stream};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much is read at once.
const BLOCK: usize = 64 * 1024;
/// Enough for time, stream and tags of a record.
const HEADER: usize = 128;

/// Where to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The offset of the first record of interest.
    pub(super) begin: u64,
    /// Per stream: lines that begin before this offset are not wanted.
    pub(super) start: [u64; 2],
}

/// Finds the last `lines` lines of the container. A line that has no end yet counts. With `only`, the other
/// stream's lines do not count.
///
/// The pieces of a line may have records of the other stream between them. So the beginning is a place per
/// stream: after the record that ended the line before the first one wanted.
pub(super) fn find(file: &File, lines: u64, only: Option<Stream>) -> io::Result<Beginning> {
    let size = file.metadata()?.len();
    let mut search = Search { left: lines, wanted: [false; 2], seen: [false; 2], start: [None; 2] };
    let mut block = vec![0; BLOCK + HEADER];
    let mut end = size;
    // The first bytes of what was read last, which the last header of this block may reach into.
    let mut overlap = 0;
    let mut record_end = size;
    while end > 0 && !search.is_done() {
        let length = usize::try_from(end).unwrap_or(BLOCK).min(BLOCK);
        block.copy_within(0..overlap, length);
        let at = end - length as u64;
        file.read_exact_at(&mut block[..length], at)?;
        let filled = length + overlap;
        let line_starts = (0..length).rev().filter(|i| block[*i] == b'\n').map(|i| i + 1);
        for start in line_starts.chain((at == 0).then_some(0)) {
            let offset = at + start as u64;
            if offset < record_end {
                let header = &block[start..filled.min(start + HEADER)];
                let header = header.split(|b| *b == b'\n').next().unwrap_or_default();
                if let Some(record) = Record::parse(header)
                    && only.is_none_or(|only| only == record.stream)
                {
                    search.record(record.stream.index(), record.full, record_end);
                }
            }
            record_end = offset;
            if search.is_done() {
                break;
            }
        }
        overlap = filled.min(HEADER);
        end = at;
    }
    // A stream without a beginning by now begins with the file, or has no wanted line at all.
    let start = [0, 1].map(|s| search.start[s].unwrap_or(if search.wanted[s] { 0 } else { size }));
    Ok(Beginning { begin: start[0].min(start[1]), start })
}

struct Search {
    /// Lines that are still wanted.
    left: u64,
    /// Per stream: a wanted line was found.
    wanted: [bool; 2],
    /// Per stream: a record was found.
    seen: [bool; 2],
    /// Per stream: where the first wanted line begins.
    start: [Option<u64>; 2],
}

impl Search {
    /// Takes the next record towards the beginning; `end` is where the one after it begins.
    fn record(&mut self, stream: usize, full: bool, end: u64) {
        let ends_line = full || !self.seen[stream];
        self.seen[stream] = true;
        if !ends_line {
            return;
        }
        if self.left > 0 {
            self.left -= 1;
            self.wanted[stream] = true;
        } else if self.wanted[stream] && self.start[stream].is_none() {
            self.start[stream] = Some(end);
        }
    }

    fn is_done(&self) -> bool {
        self.left == 0 && (0..2).all(|s| !self.wanted[s] || self.start[s].is_some())
    }
}
