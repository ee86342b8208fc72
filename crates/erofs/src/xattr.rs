//! Extended attributes: after their inode, or once for all inodes that have the same.

use crate::error::{Error, Result};
use std::collections::HashMap;

/// The names' beginnings that have numbers (`EROFS_XATTR_INDEX_*`). Those of access lists are whole names.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// `struct erofs_xattr_ibody_header`.
const HEADER: usize = 12;

/// The most attributes of one inode that may lie elsewhere: their count has 8 bits.
const SHARED_MOST: usize = 255;

/// Attributes that are looked out for, at most so many and of so many bytes: each is kept in memory.
const KNOWN_MOST: usize = 4096;
const VALUE_MOST: usize = 1024;

/// One attribute as it lies in the image, a multiple of 4 bytes.
pub fn entry(path: &[u8], name: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    let shown = || name.escape_ascii().to_string();
    let found = PREFIXES.iter().find(|(prefix, index)| match index {
        2 | 3 => name == *prefix,
        _ => name.starts_with(prefix) && name.len() > prefix.len(),
    });
    let Some((prefix, index)) = found else {
        return Err(Error::unsupported(
            path,
            format!("its attribute {} is of no kind that it knows", shown()),
        ));
    };
    let rest = &name[prefix.len()..];
    // A name has 255 bytes at most (xattr(7)).
    let (Ok(length), Ok(size)) = (u8::try_from(rest.len()), u16::try_from(value.len())) else {
        return Err(Error::unsupported(
            path,
            format!("its attribute {} has {} bytes, and 65535 are the most", shown(), value.len()),
        ));
    };
    let mut bytes = vec![length, *index];
    bytes.extend(size.to_le_bytes());
    bytes.extend(rest);
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// Attributes that were met, by their bytes in the image.
#[derive(Debug, Default)]
pub struct Known {
    places: HashMap<Vec<u8>, Option<u32>>,
}

impl Known {
    /// The block of attributes of one inode, to be put after it. What was met before is written by `place` once, which
    /// answers where; it has to be a multiple of 4.
    pub fn block(
        &mut self,
        path: &[u8],
        entries: Vec<Vec<u8>>,
        mut place: impl FnMut(&[u8]) -> Result<u64>,
    ) -> Result<Vec<u8>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (mut shared, mut inline) = (Vec::new(), Vec::new());
        for entry in entries {
            match self.find(&entry, shared.len(), &mut place)? {
                Some(id) => shared.push(id),
                None => inline.extend(entry),
            }
        }
        let mut bytes = vec![0; HEADER];
        // No more than 255 were shared.
        bytes[4] = shared.len() as u8;
        bytes.extend(shared.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(inline);
        if count(&bytes).is_none() {
            return Err(Error::unsupported(path, "its attributes are more than 256 KiB"));
        }
        Ok(bytes)
    }

    fn find(
        &mut self,
        entry: &[u8],
        shared: usize,
        place: &mut impl FnMut(&[u8]) -> Result<u64>,
    ) -> Result<Option<u32>> {
        // A reference takes 4 bytes itself.
        if entry.len() <= 8 || entry.len() > VALUE_MOST || shared == SHARED_MOST {
            return Ok(None);
        }
        match self.places.get(entry) {
            Some(Some(id)) => Ok(Some(*id)),
            Some(None) => {
                // References count 4 bytes each, in 32 bits.
                let id = u32::try_from(place(entry)? / 4).ok();
                if let Some(known) = self.places.get_mut(entry) {
                    *known = id;
                }
                Ok(id)
            }
            None => {
                if self.places.len() < KNOWN_MOST {
                    self.places.insert(entry.to_vec(), None);
                }
                Ok(None)
            }
        }
    }
}

/// What the inode says of its attributes' size.
pub fn count(block: &[u8]) -> Option<u16> {
    if block.is_empty() { Some(0) } else { u16::try_from(1 + (block.len() - HEADER) / 4).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_inode_with_an_attribute_refers_to_it() {
        let mut known = Known::default();
        let entry = entry(b"", b"security.selinux", b"system_u:object_r:bin_t").expect("entry");
        let mut placed = 0;
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let block = known.block(b"", vec![entry.clone()], |_| {
                placed += 1;
                Ok(4096)
            });
            sizes.push(block.expect("block").len());
        }
        assert_eq!((placed, sizes), (1, vec![12 + entry.len(), 16, 16]));
    }

    #[test]
    fn what_has_no_place_is_refused() {
        assert!(entry(b"f", b"user.big", &[0; 65536]).is_err());
        assert!(entry(b"f", b"user.big", &[0; 65535]).is_ok());
        for name in [&b"btrfs.compression"[..], b"system.nfs4_acl", b"user.", b""] {
            assert!(entry(b"f", name, b"").is_err());
        }
    }
}
