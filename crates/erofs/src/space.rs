//! Where in the image things go. It writes nothing.

use crate::format::{BLOCK, SLOT};

/// Blocks with room that are kept in mind. More would fill the gaps better and take longer to look through.
const OPEN: usize = 16;

/// Where the next block is, and which of those before have room for more inodes.
#[derive(Debug)]
pub struct Space {
    next: u64,
    /// Of the last inode.
    end: u64,
    /// Place of the first free byte, always within a block; those that were opened last are at the end.
    open: Vec<u64>,
    /// Blocks for inodes that follow each other, so that reading one brings others along.
    spare: std::ops::Range<u64>,
}

/// Inodes lie in runs of up to so many blocks, once the image is 64 times as large.
const RUN: u64 = 32;

impl Space {
    /// Everything before `used` bytes is taken.
    pub fn new(used: u64) -> Self {
        let mut space = Self { next: used.div_ceil(BLOCK), end: used, open: Vec::new(), spare: 0..0 };
        space.reopen(used);
        space
    }

    fn reopen(&mut self, end: u64) {
        let end = end.next_multiple_of(SLOT);
        self.end = self.end.max(end);
        if !end.is_multiple_of(BLOCK) {
            self.open.push(end);
            if self.open.len() > OPEN {
                // The fullest is the least use.
                let fullest = (0..self.open.len()).max_by_key(|at| self.open[*at] % BLOCK).unwrap_or(0);
                self.open.remove(fullest);
            }
        }
    }

    /// So many blocks of data, the number of the first.
    pub fn blocks(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        first
    }

    /// So many bytes for an inode or attributes, aligned to a slot: within one block where they fit into one, else
    /// from the start of a block on.
    pub fn bytes(&mut self, size: u64) -> u64 {
        if size > BLOCK {
            let start = self.blocks(size.div_ceil(BLOCK)) * BLOCK;
            self.reopen(start + size);
            return start;
        }
        let fits = |place: &u64| BLOCK - place % BLOCK >= size;
        let start = match self.open.iter().position(fits) {
            Some(at) => self.open.remove(at),
            None => self.inode_block() * BLOCK,
        };
        self.reopen(start + size);
        start
    }

    fn inode_block(&mut self) -> u64 {
        if self.spare.is_empty() {
            let run = (1 + self.next / 64).min(RUN);
            let first = self.blocks(run);
            self.spare = first..first + run;
        }
        let block = self.spare.start;
        self.spare.start += 1;
        block
    }

    /// How many blocks there are. After the last inode there is room for the header of attributes: fsck.erofs 1.5 reads
    /// one even where the inode has none.
    pub fn total(&self) -> u64 {
        self.next.max((self.end + SLOT).div_ceil(BLOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_small_things_stay_within_a_block() {
        let mut space = Space::new(1300);
        let mut taken = Vec::from([(0, 1300)]);
        let mut seed = 7_u64;
        for _ in 0..3000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let size = 32 + (seed >> 33) % 5000;
            let start = if seed.is_multiple_of(5) {
                space.blocks(size / BLOCK + 1) * BLOCK
            } else {
                space.bytes(size)
            };
            assert_eq!(start % SLOT, 0);
            if size <= BLOCK {
                assert_eq!(start / BLOCK, (start + size - 1) / BLOCK, "{start} {size}");
            }
            assert!(start + size <= space.total() * BLOCK);
            taken.push((start, start + size));
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|two| two[0].1 <= two[1].0));
    }
}
