//! Maps of sparse files: GNU tar's old format and its PAX formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing
//! Sparse Files"; Go's `archive/tar` reads the same four).
//!
//! It only judges maps: parts in order, none over another, none behind the file's end, and together exactly the data
//! that the archive has. Anything else is refused.

/// Parts that one file may have; a map of as many is still small.
const MOST_PARTS: usize = 100_000;

/// A part of a file that has data; around it are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// The `GNU.sparse.*` records of an extended header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// `major` and `minor`.
    pub version: (Option<u64>, Option<u64>),
    /// `name`: the file's own, where `path` is one made up for readers that know no sparse files.
    pub name: Option<Vec<u8>>,
    /// `size` or `realsize`: the file's length with its holes.
    pub size: Option<u64>,
    /// `map`, or `offset` and `numbytes` by turns: offset, length, offset, length.
    pub numbers: Vec<u64>,
    /// `numblocks`.
    pub parts: Option<u64>,
}

/// Where the map of an entry is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// The entry is no sparse file.
    Nowhere,
    /// Here; and the file's length.
    Here(Vec<Segment>, u64),
    /// At the beginning of the entry's data, in lines; and the file's length.
    InData(u64),
}

impl Records {
    /// Takes one record; `key` is without `GNU.sparse.`.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match key {
            b"major" => once(&mut self.version.0, number(value)?),
            b"minor" => once(&mut self.version.1, number(value)?),
            b"numblocks" => once(&mut self.parts, number(value)?),
            b"size" | b"realsize" => once(&mut self.size, number(value)?),
            b"name" if value.contains(&0) || value.is_empty() => Err(refused("has no usable name")),
            b"name" => once(&mut self.name, value.to_vec()),
            b"map" if self.numbers.is_empty() => {
                for part in value.split(|&b| b == b',') {
                    self.push(number(part)?)?;
                }
                Ok(())
            }
            b"map" => Err(refused("has two maps")),
            b"offset" if self.numbers.len().is_multiple_of(2) => self.push(number(value)?),
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => self.push(number(value)?),
            b"offset" | b"numbytes" => Err(refused("has a map with two offsets or two lengths in a row")),
            _ => Err(refused("is of an unknown format")),
        }
    }

    fn push(&mut self, number: u64) -> Result<(), String> {
        if self.numbers.len() >= 2 * MOST_PARTS {
            return Err(too_many());
        }
        self.numbers.push(number);
        Ok(())
    }

    /// Where the map is.
    pub fn place(self) -> Result<Place, String> {
        if self == Self::default() {
            return Ok(Place::Nowhere);
        }
        let Some(size) = self.size else { return Err(refused("does not say how long it is")) };
        match self.version {
            (Some(1), Some(0)) if self.numbers.is_empty() => Ok(Place::InData(size)),
            (Some(1), Some(0)) => Err(refused("has two maps")),
            (None, None) | (Some(0), Some(0 | 1)) => {
                let map = pairs(&self.numbers)?;
                if self.parts.is_some_and(|parts| parts != map.len() as u64) {
                    return Err(refused("has a map of another length than announced"));
                }
                Ok(Place::Here(map, size))
            }
            _ => Err(refused("is of an unknown format")),
        }
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, String> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(refused("has a map that breaks off"));
    }
    Ok(pairs.iter().map(|&[offset, length]| Segment { offset, length }).collect())
}

/// The map of PAX 1.0: how many parts, then offset and length of each, all as decimal lines.
#[derive(Default)]
pub struct Lines {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Lines {
    /// Takes the next record of the data. True when the map is whole; what is left of the record is padding.
    pub fn take(&mut self, record: &[u8]) -> Result<bool, String> {
        for &byte in record {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > 20 {
                    return Err(refused("has a map with a number that is too long"));
                }
                continue;
            }
            self.numbers.push(number(&self.line)?);
            self.line.clear();
            let count = self.numbers[0];
            if count > MOST_PARTS as u64 {
                return Err(too_many());
            }
            if (self.numbers.len() - 1) as u64 == 2 * count {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The map, once it is whole.
    pub fn map(self) -> Result<Vec<Segment>, String> {
        pairs(self.numbers.get(1..).unwrap_or_default())
    }
}

/// Adds the parts of one table of the old format; a first zero byte ends it, as in GNU's and Go's readers.
pub fn table(
    fields: &[u8],
    parse: impl Fn(&[u8]) -> Result<u64, String>,
    map: &mut Vec<Segment>,
) -> Result<(), String> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        if map.len() >= MOST_PARTS {
            return Err(too_many());
        }
        map.push(Segment { offset: parse(&pair[..12])?, length: parse(&pair[12..])? });
    }
    Ok(())
}

/// A map that fits a file of `size` bytes of which `stored` are in the archive. Empty parts, which only mark the
/// end, fall away.
pub fn check(map: Vec<Segment>, size: u64, stored: u64) -> Result<Vec<Segment>, String> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for part in &map {
        let behind = part.offset.checked_add(part.length).filter(|&behind| behind <= size);
        match behind {
            Some(behind) if part.offset >= end => end = behind,
            _ => return Err(refused("has a map whose parts overlap or lie behind its end")),
        }
        // Not more than the size: the parts do not overlap.
        sum += part.length;
    }
    if sum != stored {
        return Err(refused("has a map that fits another amount of data"));
    }
    Ok(map.into_iter().filter(|part| part.length > 0).collect())
}

fn once<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), String> {
    if slot.as_ref().is_some_and(|before| *before != value) {
        return Err(refused("says two different things of itself"));
    }
    *slot = Some(value);
    Ok(())
}

fn number(value: &[u8]) -> Result<u64, String> {
    let digits = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|v| v.parse().ok()).ok_or_else(|| refused("has a map with what is no number"))
}

fn refused(why: &str) -> String {
    format!("a sparse file {why}; pack the layer again without --sparse")
}

fn too_many() -> String {
    refused(&format!("has a map of more than {MOST_PARTS} parts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn maps_must_fit_their_file() {
        assert_eq!(check(vec![part(0, 2), part(5, 3), part(9, 0)], 9, 5), Ok(vec![part(0, 2), part(5, 3)]));
        for (map, size, stored) in [
            (vec![part(5, 3), part(0, 2)], 9, 5),
            (vec![part(0, 3), part(2, 2)], 9, 5),
            (vec![part(0, 10)], 9, 10),
            (vec![part(u64::MAX, 2)], u64::MAX, 2),
            (vec![part(0, 2)], 9, 3),
            (vec![], 9, 1),
        ] {
            assert!(check(map.clone(), size, stored).is_err(), "{map:?} {size} {stored}");
        }
    }

    #[test]
    fn lines_are_taken_over_the_borders_of_records() {
        let text = b"2\n1\n22\n1000\n3\n";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let first = lines.take(&text[..cut]).expect("a part");
            assert!(!first && lines.take(&text[cut..]).expect("the rest"));
            assert_eq!(lines.map(), Ok(vec![part(1, 22), part(1000, 3)]));
        }
        for bad in [&b"x\n"[..], b"\n", b"-1\n", b"100001\n", b"111111111111111111111111", b"1\n\0\n"] {
            assert!(Lines::default().take(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
