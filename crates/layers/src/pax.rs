//! Extended header records, `length key=value\n` (POSIX pax, "pax Extended Header").
//!
//! It splits and checks records. A record that says twice, differently, where an entry lies or how long it is,
//! is refused: readers disagree on which one wins, and that is how one archive shows two contents.

use crate::error::Shown;
use crate::sparse;
use std::collections::BTreeMap;

/// Largest extended header that is read, in bytes. Go's `archive/tar` has the same bound.
pub const MAX: u64 = 1 << 20;

/// What the records of one or more extended headers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// `path`.
    pub path: Option<Vec<u8>>,
    /// `linkpath`.
    pub link: Option<Vec<u8>>,
    /// `size`.
    pub size: Option<u64>,
    /// `uid`.
    pub uid: Option<u64>,
    /// `gid`.
    pub gid: Option<u64>,
    /// `mtime`, seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    /// `SCHILY.xattr.NAME`, by NAME.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.*`.
    pub sparse: sparse::Records,
}

impl Records {
    /// Reads all records of a header's data.
    pub fn parse(mut data: &[u8]) -> Result<Self, String> {
        let mut records = Self::default();
        while !data.is_empty() {
            // Some writers pad with NULs; Go's reader refuses, GNU tar's stops. Stop only if nothing else follows.
            if data.iter().all(|&b| b == 0) {
                break;
            }
            let (key, value, rest) = split(data)?;
            records.take(key, value)?;
            data = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err("an extended attribute without a usable name".to_owned());
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(key, value);
        }
        // POSIX: an empty value takes back what the header or a global record says; the header's value stays then.
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" => once(&mut self.path, text(key, value)?, key),
            b"linkpath" => once(&mut self.link, text(key, value)?, key),
            b"size" => once(&mut self.size, unsigned(key, value)?, key),
            b"uid" => once(&mut self.uid, unsigned(key, value)?, key),
            b"gid" => once(&mut self.gid, unsigned(key, value)?, key),
            b"mtime" => once(&mut self.mtime, time(value)?, key),
            // atime, ctime, uname, gname, comment, hdrcharset, LIBARCHIVE.*, SCHILY.* and vendors' keys say
            // nothing that a layer's tree shows (owners go by number).
            _ => Ok(()),
        }
    }
}

fn once<T: PartialEq>(slot: &mut Option<T>, value: T, key: &[u8]) -> Result<(), String> {
    match slot {
        Some(before) if *before != value => {
            Err(format!("an extended header says two different things of {}", Shown(key)))
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// The key, the value, and what follows the record.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split(data: &[u8]) -> Result<Split<'_>, String> {
    let broken = || "an extended header has a malformed record".to_owned();
    let space = data.iter().take(8).position(|&b| b == b' ').ok_or_else(broken)?;
    let length = usize::try_from(unsigned(b"length", &data[..space])?).map_err(|_| broken())?;
    if length <= space + 1 || length > data.len() {
        return Err(broken());
    }
    let (record, rest) = data.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
    let equals = record.iter().position(|&b| b == b'=').ok_or_else(broken)?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(broken());
    }
    Ok((key, value, rest))
}

fn text(key: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
    if value.contains(&0) {
        return Err(format!("an extended header's {} has a NUL byte", Shown(key)));
    }
    Ok(value.to_vec())
}

fn unsigned(key: &[u8], value: &[u8]) -> Result<u64, String> {
    let digits = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|v| v.parse().ok())
        .ok_or_else(|| format!("an extended header's {} is not a number: {}", Shown(key), Shown(value)))
}

/// Decimal seconds with an optional fraction, may be negative; the fraction is cut to nanoseconds.
fn time(value: &[u8]) -> Result<(i64, u32), String> {
    let broken = || format!("an extended header's mtime is not a time: {}", Shown(value));
    let text = std::str::from_utf8(value).map_err(|_| broken())?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || whole.is_empty() {
        return Err(broken());
    }
    let seconds: i64 = whole.parse().map_err(|_| broken())?;
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0_u32, |sum, b| sum * 10 + u32::from(b - b'0'));
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        // −1.25 is 2 s before 1970 and three quarters.
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        crate::testing::pax_record(key, value)
    }

    #[test]
    fn known_keys_are_read_and_others_passed_over() {
        let mut data = record("path", b"a/b");
        data.extend(record("mtime", b"-1.25"));
        data.extend(record("size", b"12"));
        data.extend(record("comment", b"\0\n=="));
        data.extend(record("SCHILY.xattr.user.x", b"\0bin\n"));
        data.extend(record("LIBARCHIVE.xattr.user.y", b"eA=="));
        let records = Records::parse(&data).expect("well formed");
        assert_eq!(records.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(records.mtime, Some((-2, 750_000_000)));
        assert_eq!(records.size, Some(12));
        assert_eq!(records.xattrs.get(&b"user.x"[..]).map(Vec::as_slice), Some(&b"\0bin\n"[..]));
        assert_eq!(records.xattrs.len(), 1);
    }

    #[test]
    fn what_readers_could_take_differently_is_refused() {
        for bad in [
            [record("size", b"1"), record("size", b"2")].concat(),
            [record("path", b"a"), record("path", b"b")].concat(),
            record("path", b"a\0b"),
            record("size", b"-1"),
            record("size", b"+1"),
            record("size", b"99999999999999999999"),
            record("mtime", b"soon"),
            record("GNU.sparse.map", b"0,x"),
            record("GNU.sparse.major", b"-1"),
            record("GNU.sparse.name", b""),
            record("GNU.sparse.numbytes", b"1"),
            [record("GNU.sparse.size", b"1"), record("GNU.sparse.realsize", b"2")].concat(),
            b"9 a=b".to_vec(),
            b"99 a=b\n".to_vec(),
            b"2 \n".to_vec(),
            b"99999999999999999999999 a=b\n".to_vec(),
            b"6 =ab\n".to_vec(),
            b"no number\n".to_vec(),
        ] {
            assert!(Records::parse(&bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
