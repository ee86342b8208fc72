//! The content of a directory: blocks that each hold entries, sorted by name, and then their names. Pure.

use crate::format::{BLOCK, DIRENT};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub nid: u64,
    pub kind: u8,
}

/// The size of the content; `lengths` are those of the sorted names, `.` and `..` among them.
pub fn size(lengths: impl IntoIterator<Item = usize>) -> u64 {
    let (mut full, mut used) = (0, 0);
    for length in lengths {
        if used + DIRENT + length > BLOCK as usize {
            full += 1;
            used = 0;
        }
        used += DIRENT + length;
    }
    full * BLOCK + used as u64
}

/// The content. All blocks but the last are filled up with zeros.
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fit = rest.iter().take_while(|entry| {
            used += DIRENT + entry.name.len();
            used <= BLOCK as usize
        });
        // A name has 255 bytes at most, so one always fits.
        let (block, after) = rest.split_at(fit.count().max(1));
        let mut name_at = block.len() * DIRENT;
        for entry in block {
            bytes.extend(entry.nid.to_le_bytes());
            bytes.extend((name_at as u16).to_le_bytes());
            bytes.extend([entry.kind, 0]);
            name_at += entry.name.len();
        }
        for entry in block {
            bytes.extend(&entry.name);
        }
        if !after.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        }
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_known_before_the_content() {
        for count in [1, 2, 40, 300, 341, 342, 1000] {
            for length in [1, 8, 100, 255] {
                let entries: Vec<Entry> =
                    (0..count).map(|nid| Entry { name: vec![b'x'; length], nid, kind: 1 }).collect();
                let bytes = encode(&entries);
                assert_eq!(bytes.len() as u64, size(entries.iter().map(|e| e.name.len())));
            }
        }
    }
}
