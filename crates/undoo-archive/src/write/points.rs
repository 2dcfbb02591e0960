//! The seek index while the dump is written: where blocks begin in the deflated data.
//!
//! Its length is bounded whatever the dump's: of too many points every second one is dropped.

use crc32fast::Hasher;

use super::deflate::BLOCK;
use crate::manifest::ours::SeekIndex;

/// Points of an index; at a mebibyte each, up to a dump of 64 GiB none is dropped.
const MOST_POINTS: usize = 65_536;

/// The points so far.
#[derive(Default)]
pub(super) struct Points {
    /// Blocks from one point to the next.
    stride: u64,
    blocks: u64,
    offsets: Vec<u64>,
    sums: Vec<Hasher>,
}

impl Points {
    /// Notes a block that begins at `offset` of the deflated data.
    pub(super) fn add(&mut self, offset: u64, crc: &Hasher) {
        self.stride = self.stride.max(1);
        if self.blocks.is_multiple_of(self.stride) {
            if self.offsets.len() == MOST_POINTS {
                self.halve();
            }
            self.offsets.push(offset);
            self.sums.push(crc.clone());
        } else if let Some(last) = self.sums.last_mut() {
            last.combine(crc);
        }
        self.blocks += 1;
    }

    fn halve(&mut self) {
        self.stride *= 2;
        self.offsets = self.offsets.iter().copied().step_by(2).collect();
        let pair = |pair: &[Hasher]| {
            let mut sum = pair[0].clone();
            pair.iter().skip(1).for_each(|second| sum.combine(second));
            sum
        };
        self.sums = self.sums.chunks(2).map(pair).collect();
    }

    /// The index, once all blocks are there.
    pub(super) fn index(self) -> SeekIndex {
        SeekIndex {
            every: self.stride.max(1) * BLOCK as u64,
            offsets: self.offsets,
            crcs: self.sums.into_iter().map(Hasher::finalize).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_dump_has_fewer_points_with_the_checksums_of_all_between_them() {
        let mut points = Points::default();
        let count = MOST_POINTS * 5 / 2 + 3;
        let block = |n: usize| n.to_le_bytes();
        for n in 0..count {
            let mut crc = Hasher::new();
            crc.update(&block(n));
            points.add(n as u64 * 10, &crc);
        }
        let index = points.index();
        assert_eq!(index.every, 4 * BLOCK as u64);
        assert_eq!(index.offsets.len(), count.div_ceil(4));
        for (at, (offset, crc)) in index.offsets.iter().zip(&index.crcs).enumerate() {
            assert_eq!(*offset, at as u64 * 40);
            let content: Vec<u8> = (at * 4..count.min(at * 4 + 4)).flat_map(block).collect();
            assert_eq!(*crc, crc32fast::hash(&content));
        }
    }
}
