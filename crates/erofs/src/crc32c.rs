//! CRC-32C as the superblock has it: started with all ones, not inverted at the end (`erofs_superblock_csum_verify`
//! in fs/erofs/super.c).

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            // The polynomial of RFC 3720, reflected.
            value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

pub fn of(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ sum >> 8)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_known_answer_comes_out() {
        // RFC 3720, B.4, gives the inverted sum of 32 zeros.
        assert_eq!(!super::of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(!super::of(b"123456789"), 0xe306_9283);
    }
}
