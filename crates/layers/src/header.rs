//! One tar header block: checksum, numbers, the ustar, GNU and star layouts.
//!
//! It only decodes bytes. What a field means together with extended headers is decided in `archive`.
//! Layouts: POSIX pax "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; star(5).

use crate::stream::BLOCK;

/// Why a header is refused.
pub type Refusal = String;

/// A header block with a good checksum.
pub struct Header {
    block: [u8; BLOCK],
}

/// Which of the layouts that differ behind byte 257 a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Old,
    Ustar,
    Star,
    Gnu,
}

impl Header {
    /// Checks the sum over the block. Both the unsigned sum of the standard and the signed one of some old
    /// writers are accepted, as by Go's `archive/tar` and GNU tar.
    pub fn check(block: [u8; BLOCK]) -> Result<Self, Refusal> {
        let header = Self { block };
        let declared = header.number(148, 8, "checksum")?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if declared != unsigned && declared != signed {
            return Err("a header's checksum is wrong; the archive is damaged or not a tar".to_owned());
        }
        Ok(header)
    }

    fn layout(&self) -> Layout {
        match (&self.block[257..263], &self.block[263..265]) {
            (b"ustar ", b" \0") => Layout::Gnu,
            (b"ustar\0", _) if &self.block[508..512] == b"tar\0" => Layout::Star,
            (b"ustar\0", _) => Layout::Ustar,
            _ => Layout::Old,
        }
    }

    fn text(&self, from: usize, length: usize) -> &[u8] {
        let field = &self.block[from..from + length];
        field.split(|&b| b == 0).next().unwrap_or(field)
    }

    /// A number: octal digits in blanks or NULs, or base 256 where the top bit is set (GNU, star).
    fn number(&self, from: usize, length: usize, name: &str) -> Result<i64, Refusal> {
        Self::decode(&self.block[from..from + length], name)
    }

    fn decode(field: &[u8], name: &str) -> Result<i64, Refusal> {
        if field[0] & 0x80 != 0 {
            // Two's complement of 8 * length - 1 bits; the top bit only marks the form.
            let negative = field[0] & 0x40 != 0;
            let mut value: i128 = if negative { -1 } else { 0 };
            for (at, &byte) in field.iter().enumerate() {
                let byte = if at == 0 && !negative { byte & 0x7f } else { byte };
                value = (value << 8) | i128::from(byte);
                if i64::try_from(value).is_err() {
                    return Err(format!("a header's {name} field does not fit 64 bits"));
                }
            }
            return i64::try_from(value).map_err(|_| format!("a header's {name} field does not fit 64 bits"));
        }
        let digits = field.trim_ascii();
        let blank = |b: &u8| matches!(b, b' ' | 0);
        let first = digits.iter().position(|b| !blank(b)).unwrap_or(digits.len());
        let digits = &digits[first..];
        let last = digits.iter().position(blank).unwrap_or(digits.len());
        let (digits, rest) = digits.split_at(last);
        if !digits.iter().all(|b| matches!(b, b'0'..=b'7')) || !rest.iter().all(blank) {
            return Err(format!("a header's {name} field is not a number: \"{}\"", field.escape_ascii()));
        }
        // At most 12 digits of 3 bits: cannot overflow.
        Ok(digits.iter().fold(0_i64, |value, b| (value << 3) | i64::from(b - b'0')))
    }

    fn unsigned(&self, from: usize, length: usize, name: &str) -> Result<u64, Refusal> {
        u64::try_from(self.number(from, length, name)?)
            .map_err(|_| format!("a header's {name} field is negative"))
    }

    /// The type flag.
    pub fn kind(&self) -> u8 {
        self.block[156]
    }

    /// The path, prefix included.
    pub fn path(&self) -> Vec<u8> {
        let prefix = match self.layout() {
            Layout::Ustar => self.text(345, 155),
            Layout::Star => self.text(345, 131),
            Layout::Old | Layout::Gnu => &[],
        };
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(self.text(0, 100));
        path
    }

    /// The target of a link.
    pub fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    /// Permission bits, the set-id bits included; type bits that some writers add are dropped.
    pub fn mode(&self) -> Result<u32, Refusal> {
        Ok((self.unsigned(100, 8, "mode")? & 0o7777) as u32)
    }

    /// Owner.
    pub fn uid(&self) -> Result<u64, Refusal> {
        self.unsigned(108, 8, "uid")
    }

    /// Group.
    pub fn gid(&self) -> Result<u64, Refusal> {
        self.unsigned(116, 8, "gid")
    }

    /// Bytes of data behind the header.
    pub fn size(&self) -> Result<u64, Refusal> {
        self.unsigned(124, 12, "size")
    }

    /// Seconds since 1970, may be negative.
    pub fn mtime(&self) -> Result<i64, Refusal> {
        self.number(136, 12, "mtime")
    }

    /// One number of a sparse file's table, of 12 bytes.
    pub fn sparse_number(field: &[u8]) -> Result<u64, Refusal> {
        u64::try_from(Self::decode(field, "sparse map")?)
            .map_err(|_| "a number of a sparse file's map is negative".to_owned())
    }

    /// Of a sparse file in GNU tar's old format: the first parts of its map, whether more follow in blocks of their
    /// own, and its length.
    pub fn old_sparse(&self) -> Result<(&[u8], bool, u64), Refusal> {
        if self.layout() != Layout::Gnu {
            return Err("a sparse file in a format that has none".to_owned());
        }
        Ok((&self.block[386..482], self.block[482] != 0, self.unsigned(483, 12, "real size")?))
    }

    /// Major and minor number of a device, as large as Linux has them (12 and 20 bits; include/linux/kdev_t.h).
    /// mknod(2) would cut larger ones off: 4096, 0 would become a whiteout.
    pub fn device(&self) -> Result<(u32, u32), Refusal> {
        if self.layout() == Layout::Old {
            return Err("a device entry in a format that has no device numbers".to_owned());
        }
        let part = |from, name, bits| {
            let number = self.unsigned(from, 8, name)?;
            u32::try_from(number)
                .ok()
                .filter(|number| *number < 1_u32 << bits)
                .ok_or_else(|| format!("a device has the {name} number {number}, which Linux does not have"))
        };
        Ok((part(329, "major", 12)?, part(337, "minor", 20)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(from: usize, field: &[u8]) -> Header {
        let mut block = [0; BLOCK];
        block[from..from + field.len()].copy_from_slice(field);
        Header { block }
    }

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        assert_eq!(with(124, b"00000001750\0").size(), Ok(1000));
        assert_eq!(with(124, b"  17 \0\0\0\0\0\0\0").size(), Ok(15));
        assert_eq!(with(124, &[0; 12]).size(), Ok(0));
        assert_eq!(with(124, &[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]).size(), Ok(2 << 32));
        assert_eq!(with(136, &[0xff; 12]).mtime(), Ok(-1));
        assert!(with(124, &[0xff; 12]).size().is_err(), "a negative size");
        let mut huge = [0xff; 12];
        huge[0] = 0xbf;
        assert!(with(124, &huge).size().is_err(), "more than 64 bits");
        for bad in [&b"0000008\0"[..], b"-1\0", b"1 2\0", b"0x10\0"] {
            assert!(with(108, bad).uid().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gnu_headers_have_no_prefix() {
        let mut header = with(0, b"name");
        header.block[345..349].copy_from_slice(b"pre/");
        header.block[257..265].copy_from_slice(b"ustar  \0");
        assert_eq!(header.path(), b"name");
        header.block[257..265].copy_from_slice(b"ustar\x0000");
        assert_eq!(header.path(), b"pre//name");
    }
}
