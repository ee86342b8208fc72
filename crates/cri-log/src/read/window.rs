//! The buffer between the file and the records: finds records, and cuts those that are longer than itself.

use crate::record::{Record, Stream};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// The most that is held of one record; what is longer comes out in pieces.
const SIZE: usize = 64 * 1024;

/// A record, or a part of one, in the window.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) nanos: i64,
    pub(super) stream: Stream,
    /// The container's line ends with it.
    pub(super) ends_line: bool,
    /// Where its text is in the window.
    pub(super) text: Range<usize>,
    /// Where its record begins in the file.
    pub(super) offset: u64,
}

/// What is known of a record whose beginning has left the window.
#[derive(Debug, Clone, Copy)]
enum Long {
    /// Not of the format: everything up to its newline is passed over.
    Skip,
    /// The rest of a record's text.
    Text { nanos: i64, stream: Stream, full: bool, offset: u64 },
}

#[derive(Debug)]
pub(super) struct Window {
    buffer: Vec<u8>,
    /// What was not handed out yet.
    unread: Range<usize>,
    /// Where `unread` ends in the file.
    pub(super) offset: u64,
    long: Option<Long>,
    pub(super) skipped: u64,
}

impl Window {
    pub(super) fn at(offset: u64) -> Self {
        Self { buffer: vec![0; SIZE], unread: 0..0, offset, long: None, skipped: 0 }
    }

    /// Begins another file; a record that the last one left unfinished is gone.
    pub(super) fn restart(&mut self) {
        self.unread = 0..0;
        self.offset = 0;
        self.long = None;
    }

    pub(super) fn text(&self, found: &Found) -> &[u8] {
        &self.buffer[found.text.clone()]
    }

    /// The next record. `None` at the end of the file, or where the last record has no newline yet.
    pub(super) fn next(&mut self, file: &File) -> io::Result<Option<Found>> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(length) = unread.iter().position(|b| *b == b'\n') {
                if let Some(found) = self.take(length, true) {
                    return Ok(Some(found));
                }
            } else if unread.len() == self.buffer.len() {
                if let Some(found) = self.take(unread.len(), false) {
                    return Ok(Some(found));
                }
            } else if !self.fill(file)? {
                return Ok(None);
            }
        }
    }

    /// Takes `length` bytes, and the newline after them where the record is `whole`.
    fn take(&mut self, length: usize, whole: bool) -> Option<Found> {
        let begin = self.unread.start;
        let end = begin + length;
        let offset = self.offset - (self.unread.end - begin) as u64;
        self.unread.start = end + usize::from(whole);
        let long = match self.long.take() {
            Some(long) => long,
            None => match Record::parse(&self.buffer[begin..end]) {
                Some(record) => {
                    let text = end - record.text.len()..end;
                    let (nanos, stream, full) = (record.nanos, record.stream, record.full);
                    if !whole {
                        self.long = Some(Long::Text { nanos, stream, full, offset });
                    }
                    return Some(Found { nanos, stream, ends_line: whole && full, text, offset });
                }
                None => {
                    self.skipped += 1;
                    Long::Skip
                }
            },
        };
        if !whole {
            self.long = Some(long);
        }
        match long {
            Long::Skip => None,
            Long::Text { nanos, stream, full, offset } => {
                Some(Found { nanos, stream, ends_line: whole && full, text: begin..end, offset })
            }
        }
    }

    /// Reads more behind what is unread. `false` at the end of the file.
    fn fill(&mut self, file: &File) -> io::Result<bool> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let count = loop {
            match file.read_at(&mut self.buffer[self.unread.end..], self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.unread.end += count;
        self.offset += count as u64;
        Ok(count > 0)
    }
}
