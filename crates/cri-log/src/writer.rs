//! The writing side: raw output of a container in, records of the CRI format out.
//!
//! It never blocks a container for the log's sake: what the file does not take is dropped and counted, and
//! the next chunk is tried again. It never changes the text: a carriage return stays where it is.

use crate::MAX_TEXT;
use crate::error::Error;
use crate::file::LogFile;
use crate::record::{HEADER_LEN, Stream, header};
use rustix::io::{Errno, writev};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How many pieces go into one `writev`; 4 KiB of stack, 128 lines. Linux takes 1024 (`IOV_MAX`), but the
/// supervisor's stack is part of its memory budget, and beyond this the system call no longer counts.
const PIECES: usize = 256;

/// An unfinished line's buffer up to this size is kept for the next one; a larger one is given back.
const KEEP: usize = 1024;

/// What did not reach the file since it was opened first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Writes that failed.
    pub writes: u64,
    /// Bytes of records that were dropped.
    pub bytes: u64,
}

/// Writes a container's output to its log.
///
/// Both streams share it. A chunk is what one `read` gave; its records carry the time of that read and go
/// out in one `writev` per 128 lines, so that records of two streams never mix.
#[derive(Debug)]
pub struct Writer {
    file: LogFile,
    /// The unfinished line of each stream, [`MAX_TEXT`] bytes at most.
    unfinished: [Vec<u8>; 2],
    /// The file ends within a record, because a write broke off there.
    torn: bool,
    lost: Lost,
}

impl Writer {
    /// Opens the log `path`, which is relative to `directory`; see [`LogFile::open`].
    pub fn open(directory: &Path, path: &Path) -> Result<Self, Error> {
        LogFile::open(directory, path).map(Self::new)
    }

    /// The same with a directory that is open already.
    pub fn open_at(directory: OwnedFd, path: &Path) -> Result<Self, Error> {
        LogFile::open_at(directory, path).map(Self::new)
    }

    /// Writes to a file that is open already.
    pub fn new(file: LogFile) -> Self {
        Self { file, unfinished: [Vec::new(), Vec::new()], torn: false, lost: Lost::default() }
    }

    /// Takes one chunk of a stream as it was read, with the time of the read in nanoseconds since 1970.
    ///
    /// Every finished line is written; an unfinished one is kept until it ends, grows past [`MAX_TEXT`] (then
    /// its first [`MAX_TEXT`] bytes go out with the tag `P`), or the stream does ([`Writer::finish`]).
    /// An error tells that records of this chunk were dropped; the caller goes on as if it were not there.
    pub fn append(&mut self, stream: Stream, chunk: &[u8], nanos: i64) -> Result<(), Error> {
        if chunk.is_empty() {
            return Ok(());
        }
        let mut kept = std::mem::take(&mut self.unfinished[stream.index()]);
        let full = header(nanos, stream, true);
        let part = header(nanos, stream, false);
        let mut batch = Batch::new(self);
        let mut carry: &[u8] = &kept;
        let mut rest = chunk;
        loop {
            // `carry` holds MAX_TEXT bytes at most, so this does not wrap.
            let room = MAX_TEXT - carry.len();
            let window = &rest[..rest.len().min(room + 1)];
            if let Some(end) = window.iter().position(|b| *b == b'\n') {
                batch.record(&full, carry, &rest[..=end], b"");
                rest = &rest[end + 1..];
            } else if rest.len() > room {
                batch.record(&part, carry, &rest[..room], b"\n");
                rest = &rest[room..];
            } else {
                break;
            }
            carry = b"";
        }
        let result = batch.finish();
        if carry.is_empty() {
            kept.clear();
            if kept.capacity() > KEEP && rest.len() <= KEEP {
                kept = Vec::new();
            }
        }
        kept.extend_from_slice(rest);
        self.unfinished[stream.index()] = kept;
        result
    }

    /// The stream is at its end: an unfinished line is written with the tag `P`, as containerd does
    /// (`internal/cri/io/logger.go`, `redirectLogs`), so that a reader gives it back without a newline.
    pub fn finish(&mut self, stream: Stream, nanos: i64) -> Result<(), Error> {
        let kept = std::mem::take(&mut self.unfinished[stream.index()]);
        if kept.is_empty() {
            return Ok(());
        }
        let part = header(nanos, stream, false);
        let mut batch = Batch::new(self);
        batch.record(&part, &kept, b"", b"\n");
        batch.finish()
    }

    /// Opens the path again, for the file was renamed away by a log rotation. Unfinished lines go to the new
    /// file. Where it fails the old file stays in use.
    pub fn reopen(&mut self) -> Result<(), Error> {
        self.file.reopen()?;
        self.torn = false;
        Ok(())
    }

    /// What was dropped so far.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// The file, for `fsync` or to look at it.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn write(&mut self, mut pieces: &mut [IoSlice<'_>]) -> Result<(), Error> {
        let fail = |writer: &mut Self, pieces: &[IoSlice<'_>], errno: Errno| {
            let bytes = pieces.iter().map(|p| p.len() as u64).sum();
            writer.lost.writes += 1;
            writer.lost.bytes += bytes;
            Err(Error::Write { bytes, source: errno.into() })
        };
        if self.torn {
            // End the record that broke off, so that the next one starts a line of its own.
            match writev(&self.file, &[IoSlice::new(b"\n")]) {
                Ok(1) => self.torn = false,
                Ok(_) => return fail(self, pieces, Errno::NOSPC),
                Err(errno) => return fail(self, pieces, errno),
            }
        }
        while !pieces.is_empty() {
            match writev(&self.file, pieces) {
                Ok(0) => return fail(self, pieces, Errno::NOSPC),
                Ok(count) => {
                    self.torn = last_byte(pieces, count) != Some(b'\n');
                    IoSlice::advance_slices(&mut pieces, count);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return fail(self, pieces, errno),
            }
        }
        Ok(())
    }
}

/// The byte that a write of `count` bytes ended with.
fn last_byte(pieces: &[IoSlice<'_>], count: usize) -> Option<u8> {
    let mut left = count;
    for piece in pieces {
        if left <= piece.len() {
            return piece.get(left.checked_sub(1)?).copied();
        }
        left -= piece.len();
    }
    None
}

/// Records that wait for one `writev`.
struct Batch<'w, 'd> {
    writer: &'w mut Writer,
    pieces: [IoSlice<'d>; PIECES],
    used: usize,
    result: Result<(), Error>,
}

impl<'w, 'd> Batch<'w, 'd> {
    fn new(writer: &'w mut Writer) -> Self {
        Self { writer, pieces: [IoSlice::new(&[]); PIECES], used: 0, result: Ok(()) }
    }

    fn record(&mut self, header: &'d [u8; HEADER_LEN], carry: &'d [u8], text: &'d [u8], end: &'d [u8]) {
        if self.used + 4 > PIECES {
            self.flush();
        }
        for piece in [&header[..], carry, text, end] {
            if !piece.is_empty() {
                self.pieces[self.used] = IoSlice::new(piece);
                self.used += 1;
            }
        }
    }

    fn flush(&mut self) {
        let result = self.writer.write(&mut self.pieces[..self.used]);
        self.used = 0;
        // The first failure of a chunk is the one that tells why.
        if self.result.is_ok() {
            self.result = result;
        }
    }

    fn finish(mut self) -> Result<(), Error> {
        self.flush();
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::fs;
    use tempfile::TempDir;

    const TIME: &str = "1970-01-01T00:00:00.000000001Z";

    fn log() -> (TempDir, Writer) {
        let dir = tempfile::tempdir().expect("a folder");
        let writer = Writer::open(dir.path(), Path::new("0.log")).expect("a log");
        (dir, writer)
    }

    fn text(dir: &TempDir) -> String {
        fs::read_to_string(dir.path().join("0.log")).expect("the log")
    }

    #[test]
    fn lines_are_written_as_containerd_writes_them() {
        let (dir, mut writer) = log();
        writer.append(Stream::Stdout, b"one\ntw", 1).expect("append");
        writer.append(Stream::Stderr, b"error\r\n\n", 1).expect("append");
        writer.append(Stream::Stdout, b"o\nthree", 1).expect("append");
        writer.finish(Stream::Stdout, 1).expect("finish");
        writer.finish(Stream::Stderr, 1).expect("finish");
        let expected = format!(
            "{TIME} stdout F one\n{TIME} stderr F error\r\n{TIME} stderr F \n{TIME} stdout F two\n{TIME} stdout P three\n"
        );
        assert_eq!(text(&dir), expected);
    }

    #[test]
    fn a_long_line_is_cut_and_its_last_piece_is_full() {
        for (length, pieces) in [(MAX_TEXT, 1), (MAX_TEXT + 1, 2), (2 * MAX_TEXT, 2), (2 * MAX_TEXT + 1, 3)] {
            for chunk in [1000, MAX_TEXT, 3 * MAX_TEXT] {
                let (dir, mut writer) = log();
                let mut line = vec![b'x'; length];
                line.push(b'\n');
                for part in line.chunks(chunk) {
                    writer.append(Stream::Stdout, part, 1).expect("append");
                }
                let text = text(&dir);
                let tags: Vec<&str> = text.lines().map(|l| &l[38..39]).collect();
                assert_eq!(tags.len(), pieces, "{length} in {chunk}");
                assert_eq!(tags.iter().filter(|t| **t == "F").count(), 1);
                assert_eq!(tags.last(), Some(&"F"));
                assert!(text.lines().all(|l| l.len() <= HEADER_LEN + MAX_TEXT));
            }
        }
    }

    #[test]
    fn a_chunk_of_many_lines_needs_no_memory_of_its_own() {
        let (dir, mut writer) = log();
        writer.append(Stream::Stdout, &b"\n".repeat(65_536), 1).expect("append");
        assert_eq!(text(&dir).lines().count(), 65_536);
        assert_eq!(writer.unfinished[0].capacity(), 0);
    }

    #[test]
    fn reopen_goes_on_in_a_new_file_and_keeps_the_unfinished_line() {
        let (dir, mut writer) = log();
        writer.append(Stream::Stdout, b"old\nhal", 1).expect("append");
        fs::rename(dir.path().join("0.log"), dir.path().join("0.log.1")).expect("rotate");
        writer.append(Stream::Stdout, b"f\n", 1).expect("append");
        writer.reopen().expect("reopen");
        writer.append(Stream::Stdout, b"new\n", 1).expect("append");
        assert_eq!(text(&dir), format!("{TIME} stdout F new\n"));
        let old = fs::read_to_string(dir.path().join("0.log.1")).expect("the old log");
        assert_eq!(old, format!("{TIME} stdout F old\n{TIME} stdout F half\n"));
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_the_next_chunk_is_tried_again() {
        let full = openat(CWD, "/dev/full", OFlags::WRONLY, Mode::empty()).expect("/dev/full");
        let (dir, writer) = log();
        let mut writer = Writer { file: writer.file.with_file(full), ..Writer::new(writer.file) };
        let error = writer.append(Stream::Stdout, b"lost\n", 1).expect_err("no space");
        assert!(matches!(error, Error::Write { bytes: 45, .. }), "{error:?}");
        assert_eq!(writer.lost(), Lost { writes: 1, bytes: 45 });
        writer.reopen().expect("reopen");
        writer.append(Stream::Stdout, b"kept\n", 1).expect("append");
        assert_eq!(text(&dir), format!("{TIME} stdout F kept\n"));
    }

    #[test]
    fn a_record_that_broke_off_is_ended_before_the_next_one() {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
        let size = rustix::pipe::fcntl_setpipe_size(&write, 4096).expect("a small pipe");
        let (_dir, writer) = log();
        let mut writer = Writer { file: writer.file.with_file(write), ..Writer::new(writer.file) };
        assert!(
            writer.append(Stream::Stdout, &[b'x'; 10_000], 1).is_ok(),
            "kept, for the line has no end yet"
        );
        assert!(writer.append(Stream::Stdout, b"\n", 1).is_err());
        assert!(writer.torn);
        let mut drain = vec![0; size];
        assert_eq!(rustix::io::read(&read, &mut drain).ok(), Some(size));
        writer.append(Stream::Stdout, b"next\n", 1).expect("room again");
        let count = rustix::io::read(&read, &mut drain).expect("the next record");
        assert_eq!(String::from_utf8_lossy(&drain[..count]), format!("\n{TIME} stdout F next\n"));
        assert_eq!(writer.lost().writes, 1);
    }
}
