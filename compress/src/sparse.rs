//! Bytes in memory without most of their zeros.
//!
//! A page of a kernel's memory is often zero, and a kernel stack is zero but for its end. A cache of
//! decoded frames that does not store zeros has more frames.

use crate::is_zero;

/// The unit in which zeros are omitted, in bytes.
const BLOCK: usize = 512;
/// Blocks for each word of the bitmap.
const BITS: usize = u64::BITS as usize;

/// Bytes of which blocks of zeros are not stored.
///
/// ```
/// use livecore_compress::Sparse;
///
/// let mut bytes = vec![0; 1 << 20];
/// bytes[5000] = 7;
/// let sparse = Sparse::new(&bytes).expect("most of them are zero");
/// assert!(sparse.size() < 2000);
/// let mut part = [1; 3];
/// assert_eq!(sparse.copy(4999, &mut part), 3);
/// assert_eq!(part, [0, 7, 0]);
/// ```
#[derive(Debug)]
pub struct Sparse {
    len: usize,
    groups: Vec<Group>,
    /// The stored blocks. The last block of the bytes may be short.
    stored: Vec<u8>,
}

/// The blocks of one word of the bitmap.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// The stored blocks.
    bits: u64,
    /// Number of stored blocks in earlier groups.
    before: u32,
}

impl Sparse {
    /// The same bytes without their zeros. `None` if at most half of them can be omitted, or if there
    /// is no memory.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let blocks = bytes.len().div_ceil(BLOCK);
        let most = blocks / 2;
        let mut groups = Vec::new();
        groups.try_reserve_exact(blocks.div_ceil(BITS)).ok()?;
        let mut count = 0;
        for group in bytes.chunks(BITS * BLOCK) {
            let mut bits = 0;
            for (index, block) in group.chunks(BLOCK).enumerate() {
                bits |= u64::from(!is_zero(block)) << index;
            }
            groups.push(Group {
                bits,
                before: u32::try_from(count).ok()?,
            });
            count += bits.count_ones() as usize;
            if count > most {
                return None;
            }
        }
        let mut stored = Vec::new();
        stored.try_reserve_exact(count * BLOCK).ok()?;
        for (group, Group { bits, .. }) in bytes.chunks(BITS * BLOCK).zip(&groups) {
            let mut left = *bits;
            while left != 0 {
                // Consecutive blocks are copied at once.
                let from = left.trailing_zeros() as usize;
                let to = from + (left >> from).trailing_ones() as usize;
                stored.extend_from_slice(&group[from * BLOCK..group.len().min(to * BLOCK)]);
                left = if to < BITS { left >> to << to } else { 0 };
            }
        }
        let len = bytes.len();
        Some(Self {
            len,
            groups,
            stored,
        })
    }

    /// Number of bytes, with zeros.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory used, in bytes.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Group>() + self.stored.capacity()
    }

    /// Copies bytes from `offset` on to the beginning of `buf`. Returns their number, which is less than
    /// the length of `buf` only at the end.
    pub fn copy(&self, offset: usize, buf: &mut [u8]) -> usize {
        let len = buf.len().min(self.len.saturating_sub(offset));
        let (mut at, mut rest) = (offset, &mut buf[..len]);
        while !rest.is_empty() {
            let (block, inside) = (at / BLOCK, at % BLOCK);
            let (now, later) = rest.split_at_mut(rest.len().min(BLOCK - inside));
            match self.stored_at(block) {
                Some(from) => now.copy_from_slice(&self.stored[from + inside..][..now.len()]),
                None => now.fill(0),
            }
            at += now.len();
            rest = later;
        }
        len
    }

    /// Offset in `stored` of block number `block`, unless it is zero.
    fn stored_at(&self, block: usize) -> Option<usize> {
        let group = self.groups.get(block / BITS)?;
        let bit = 1 << (block % BITS);
        let before = (group.bits & (bit - 1)).count_ones() + group.before;
        (group.bits & bit != 0).then_some(before as usize * BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use livecore_tests::random::Random;

    use super::*;

    #[test]
    fn all_parts_are_those_of_the_bytes() {
        let seed = 77;
        let mut numbers = Random::new(seed);
        let mut made = 0;
        for _ in 0..200 {
            let len = numbers.below(100_000) as usize;
            let mut bytes = vec![0; len];
            for _ in 0..numbers.below(1 + len as u64 / 1024) {
                let at = numbers.below(len as u64) as usize;
                let end = len.min(at + numbers.below(2000) as usize);
                bytes[at..end].fill(1 + numbers.below(255) as u8);
            }
            let Some(sparse) = Sparse::new(&bytes) else {
                continue;
            };
            made += 1;
            assert_eq!((sparse.len(), sparse.is_empty()), (len, len == 0));
            assert!(sparse.stored.len() <= len / 2 + BLOCK, "seed {seed}");
            for _ in 0..50 {
                let at = numbers.below(len as u64 + 10) as usize;
                let mut part = vec![9; numbers.below(3000) as usize];
                let copied = sparse.copy(at, &mut part);
                let expected = bytes.get(at..).unwrap_or_default();
                assert_eq!(copied, part.len().min(expected.len()), "seed {seed}");
                assert_eq!(part[..copied], expected[..copied], "seed {seed}");
                assert!(part[copied..].iter().all(|byte| *byte == 9));
            }
        }
        assert!(made > 50, "{made}");
    }

    #[test]
    fn bytes_that_are_mostly_not_zero_stay_as_they_are() {
        let mut bytes = vec![0; 8 * BLOCK];
        for block in 0..4 {
            bytes[block * 2 * BLOCK] = 1;
        }
        let sparse = Sparse::new(&bytes).unwrap();
        assert_eq!(sparse.stored.len(), 4 * BLOCK);
        bytes[BLOCK] = 1;
        assert!(Sparse::new(&bytes).is_none());
        assert!(Sparse::new(&[]).unwrap().is_empty());
        assert!(Sparse::new(&[1]).is_none());
    }
}
