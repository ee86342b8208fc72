//! One record of a log file, as it is written and as it is read. Never allocates.

use crate::timestamp;

/// Which stream of the container a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output; a terminal's output, too.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As the format writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// 0 or 1, for tables of two.
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// What stands before the text: time, stream and tag, each with its space.
/// `2016-10-06T00:17:09.669794202Z stdout F ` has 40 bytes, and both streams' names have six letters.
pub(crate) const HEADER_LEN: usize = timestamp::STAMP_LEN + 10;

pub(crate) fn header(nanos: i64, stream: Stream, full: bool) -> [u8; HEADER_LEN] {
    let mut out = [b' '; HEADER_LEN];
    out[..timestamp::STAMP_LEN].copy_from_slice(&timestamp::stamp(nanos));
    out[timestamp::STAMP_LEN + 1..timestamp::STAMP_LEN + 7].copy_from_slice(stream.as_str().as_bytes());
    out[HEADER_LEN - 2] = if full { b'F' } else { b'P' };
    out
}

/// One record of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970.
    pub nanos: i64,
    /// Which stream.
    pub stream: Stream,
    /// Tag `F`: the container's line ends here. With `P` it goes on in the stream's next record.
    pub full: bool,
    /// The text, without the newline that ends the record.
    pub text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record without its newline. `None` where the line is not of the format: a line that was torn
    /// by a full disk, or that something else wrote.
    ///
    /// The tag may be followed by more tags after `:`, which are skipped, as the kubelet does
    /// (kubernetes `staging/src/k8s.io/cri-client/pkg/logs/logs.go`, `parseCRILog`).
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (time, rest) = cut(line)?;
        let nanos = timestamp::parse_rfc3339(time)?;
        let (stream, rest) = cut(rest)?;
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let (tags, text) = cut(rest)?;
        let full = match tags.split(|b| *b == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Self { nanos, stream, full, text })
    }
}

fn cut(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == b' ')?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_formats() {
        let bytes = header(1_475_712_429_669_794_202, Stream::Stderr, false);
        assert_eq!(std::str::from_utf8(&bytes), Ok("2016-10-06T00:07:09.669794202Z stderr P "));
    }

    #[test]
    fn records_of_other_writers_are_read_and_torn_ones_are_not() {
        let parse = |line: &'static str| Record::parse(line.as_bytes());
        let record = parse("2016-10-06T00:17:09.669794202Z stdout F log content 1").expect("containerd's");
        assert_eq!((record.stream, record.full, record.text), (Stream::Stdout, true, &b"log content 1"[..]));
        assert_eq!(
            parse("2016-10-06T00:17:09Z stderr P:x ").map(|r| (r.full, r.text)),
            Some((false, &b""[..]))
        );
        for torn in [
            "",
            "x",
            "2016-10-06T00:17:09Z",
            "2016-10-06T00:17:09Z stdout F",
            "2016-10-06T00:17:09Z stdin F x",
        ] {
            assert_eq!(parse(torn), None, "{torn}");
        }
    }
}
