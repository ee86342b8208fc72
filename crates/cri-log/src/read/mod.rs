//! The reading side, for `logs`: from a log file back to what the container wrote.
//!
//! A [`Reader`] hands out pieces of bounded size, so that neither a line without end nor a file that something
//! else filled costs more memory than its buffer. It never writes, and follows no symbolic link below the log
//! directory. Records that are not of the format are passed over and counted.
//!
//! ```no_run
//! # use corten_cri_log::read::{Options, Reader};
//! # use std::path::Path;
//! let options = Options { tail: Some(10), ..Options::default() };
//! let mut reader = Reader::open(Path::new("/var/log/pods/a_b_c/web"), Path::new("0.log"), options)?;
//! while let Some(piece) = reader.next_piece()? {
//!     piece.print(&mut std::io::stdout(), false).ok();
//! }
//! # Ok::<(), corten_cri_log::Error>(())
//! ```

mod follow;
mod tail;
mod window;

use crate::error::Error;
use crate::file::open_regular;
use crate::record::Stream;
use crate::timestamp::stamp;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use window::{Found, Window};

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Only the last lines, so many of them.
    pub tail: Option<u64>,
    /// Only lines that begin at or after this time, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// At most so many bytes of text, newlines included.
    pub limit_bytes: Option<u64>,
    /// Only this stream.
    pub stream: Option<Stream>,
}

/// A line of the container, or a part of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// When it was written, in nanoseconds since 1970.
    pub nanos: i64,
    /// Which stream.
    pub stream: Stream,
    /// The text, without newline.
    pub text: &'a [u8],
    /// The line begins here.
    pub starts_line: bool,
    /// The line ends here, with a newline.
    pub ends_line: bool,
}

impl Piece<'_> {
    /// Writes the text as the container wrote it; with `timestamps`, each line after its time and a space.
    pub fn print(&self, out: &mut impl Write, timestamps: bool) -> io::Result<()> {
        if timestamps && self.starts_line {
            out.write_all(&stamp(self.nanos))?;
            out.write_all(b" ")?;
        }
        out.write_all(self.text)?;
        if self.ends_line { out.write_all(b"\n") } else { Ok(()) }
    }
}

/// Reads a log file, and goes on with the next one when it is rotated.
#[derive(Debug)]
pub struct Reader {
    directory: OwnedFd,
    path: PathBuf,
    file: File,
    window: Window,
    options: Options,
    /// Per stream: pieces before this offset of the first file are left out.
    start: [u64; 2],
    /// Per stream: a line has begun and not ended.
    open: [bool; 2],
    /// Per stream: the line that has begun is left out.
    hidden: [bool; 2],
    left: u64,
}

impl Reader {
    /// Opens the log `path`, which is relative to `directory`, and finds where to begin.
    pub fn open(directory: &Path, path: &Path, options: Options) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, directory, flags, Mode::empty())
            .map_err(|source| Error::Directory { path: directory.to_owned(), source: source.into() })?;
        let file = open_read(&opened, path)?;
        let (begin, start) = match options.tail {
            None => (0, [0, 0]),
            Some(lines) => {
                let found =
                    tail::find(&file, lines, options.stream).map_err(|source| Error::Read { source })?;
                (found.begin, found.start)
            }
        };
        let left = options.limit_bytes.unwrap_or(u64::MAX);
        Ok(Self {
            directory: opened,
            path: path.to_owned(),
            file,
            window: Window::at(begin),
            options,
            start,
            open: [false; 2],
            hidden: [false; 2],
            left,
        })
    }

    /// The next piece, or `None` at the end of what is there now; asked again later it may have more.
    pub fn next_piece(&mut self) -> Result<Option<Piece<'_>>, Error> {
        while self.left > 0 {
            let Some(found) = self.window.next(&self.file).map_err(|source| Error::Read { source })? else {
                return Ok(None);
            };
            if let Some((starts_line, ends_line, length)) = self.admit(&found) {
                let text = &self.window.text(&found)[..length];
                return Ok(Some(Piece {
                    nanos: found.nanos,
                    stream: found.stream,
                    text,
                    starts_line,
                    ends_line,
                }));
            }
        }
        Ok(None)
    }

    /// Whether the limit of bytes is reached; then there is nothing more, ever.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Records that were passed over, for they are not of the format.
    pub fn skipped(&self) -> u64 {
        self.window.skipped
    }

    /// Applies the options. `None` leaves the piece out.
    fn admit(&mut self, found: &Found) -> Option<(bool, bool, usize)> {
        let at = found.stream.index();
        let starts_line = !self.open[at];
        self.open[at] = !found.ends_line;
        if starts_line {
            let early = self.options.since.is_some_and(|since| found.nanos < since);
            let other = self.options.stream.is_some_and(|only| only != found.stream);
            self.hidden[at] = early || other || found.offset < self.start[at];
        }
        if self.hidden[at] {
            return None;
        }
        let length = found.text.len();
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX);
        if length >= fits {
            self.left = 0;
            return Some((starts_line, false, length.min(fits)));
        }
        self.left -= length as u64 + u64::from(found.ends_line);
        Some((starts_line, found.ends_line, length))
    }
}

fn open_read(directory: &impl AsFd, path: &Path) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    open_regular(directory.as_fd(), path, flags).map(File::from)
}
