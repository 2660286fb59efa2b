//! A set of pages with rank and select.

use std::ops::Range;

/// The number of bits per rank block. One `u32` per block is 1/64 of the size of the bitmap.
const BLOCK: u64 = 2048;
const BLOCK_WORDS: usize = (BLOCK / 64) as usize;

/// `vm_page_dump` as a set of bit numbers, with counts to convert between a bit and the index of its
/// page in the dump.
///
/// Bit `b` is bit `b % 64` of word `b / 64`, independent of the word size and byte order of the dump.
/// It uses one bit of memory per page, and 1/64 of that for the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    bits: u64,
    /// The number of set bits before each block of [`BLOCK`] bits.
    ranks: Vec<u32>,
    total: u64,
}

/// A bitmap has 2^32 or more set bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("page bitmap has {0} set bits, the limit is 4294967295")]
pub struct TooManyPages(pub u64);

impl Bitmap {
    /// Creates a set of `bits` bits from words. Bits from `bits` on are ignored.
    ///
    /// # Errors
    ///
    /// Returns [`TooManyPages`] if 2^32 bits or more are set.
    pub fn from_words(mut words: Vec<u64>, bits: u64) -> Result<Self, TooManyPages> {
        let needed = usize::try_from(bits.div_ceil(64)).unwrap_or(usize::MAX);
        words.truncate(needed);
        let bits = bits.min(words.len() as u64 * 64);
        if let Some(last) = words.last_mut()
            && !bits.is_multiple_of(64)
        {
            *last &= (1 << (bits % 64)) - 1;
        }
        let mut ranks = Vec::with_capacity(words.len().div_ceil(BLOCK_WORDS));
        let mut total = 0_u64;
        for block in words.chunks(BLOCK_WORDS) {
            ranks.push(u32::try_from(total).map_err(|_| TooManyPages(total))?);
            total += block.iter().map(|w| u64::from(w.count_ones())).sum::<u64>();
        }
        if total > u64::from(u32::MAX) {
            return Err(TooManyPages(total));
        }
        Ok(Self {
            words,
            bits,
            ranks,
            total,
        })
    }

    /// The size of the set in bits.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// The number of set bits.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The memory used by the set and its counts, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.words.len() * size_of::<u64>() + self.ranks.len() * size_of::<u32>()
    }

    /// The words. Bit 0 is the least significant bit of the first one.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether `bit` is set; `false` beyond the end.
    pub fn contains(&self, bit: u64) -> bool {
        bit < self.bits && self.words[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    /// Returns the number of set bits before `bit`, if `bit` is set.
    pub fn rank(&self, bit: u64) -> Option<u64> {
        self.contains(bit).then(|| self.rank_below(bit))
    }

    /// Returns the number of set bits before `bit`.
    pub fn rank_below(&self, bit: u64) -> u64 {
        if bit >= self.bits {
            return self.total;
        }
        let word = (bit / 64) as usize;
        let block = word / BLOCK_WORDS;
        let whole: u64 = self.words[block * BLOCK_WORDS..word]
            .iter()
            .map(|w| u64::from(w.count_ones()))
            .sum();
        let part = self.words[word] & ((1 << (bit % 64)) - 1);
        u64::from(self.ranks[block]) + whole + u64::from(part.count_ones())
    }

    /// Returns the set bit that has exactly `rank` set bits before it.
    pub fn select(&self, rank: u64) -> Option<u64> {
        if rank >= self.total {
            return None;
        }
        // The last block whose count is at most `rank`. It exists, because the first count is 0.
        let block = self
            .ranks
            .partition_point(|&before| u64::from(before) <= rank)
            - 1;
        let mut left = rank - u64::from(self.ranks[block]);
        for (index, word) in self.words.iter().enumerate().skip(block * BLOCK_WORDS) {
            let ones = u64::from(word.count_ones());
            if left < ones {
                let mut word = *word;
                for _ in 0..left {
                    word &= word - 1;
                }
                return Some(index as u64 * 64 + u64::from(word.trailing_zeros()));
            }
            left -= ones;
        }
        None
    }

    /// Iterates over the set bits from `from`, ascending.
    pub fn iter_from(&self, from: u64) -> impl Iterator<Item = u64> + '_ {
        let first = (from / 64) as usize;
        let words = self.words.get(first..).unwrap_or_default();
        words.iter().enumerate().flat_map(move |(i, &word)| {
            let base = (first + i) as u64 * 64;
            let masked = if i == 0 {
                word & (u64::MAX << (from % 64))
            } else {
                word
            };
            std::iter::successors(Some(masked), |w| Some(w & w.wrapping_sub(1)))
                .take_while(|w| *w != 0)
                .map(move |w| base + u64::from(w.trailing_zeros()))
        })
    }

    /// Iterates over the set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter_from(0)
    }

    /// Returns the run of set bits that starts at `bit`, at most `limit` long. It is empty if `bit` is
    /// clear.
    pub fn run_at(&self, bit: u64, limit: u64) -> Range<u64> {
        let mut end = bit;
        let stop = bit.saturating_add(limit).min(self.bits);
        while end < stop {
            let word = self.words[(end / 64) as usize] >> (end % 64);
            let ones = u64::from(word.trailing_ones()).min(64 - end % 64);
            end += ones;
            if ones == 0 || !end.is_multiple_of(64) {
                break;
            }
        }
        bit..end.min(stop).max(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Bitmap, Vec<u64>) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut words = Vec::new();
        for i in 0..200 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            words.push(match i % 5 {
                0 => 0,
                1 => u64::MAX,
                _ => state,
            });
        }
        let bits = 200 * 64 - 17;
        let list = (0..bits)
            .filter(|b| words[(b / 64) as usize] >> (b % 64) & 1 == 1)
            .collect::<Vec<_>>();
        (Bitmap::from_words(words, bits).unwrap(), list)
    }

    #[test]
    fn rank_and_select_agree_with_a_list() {
        let (bitmap, list) = sample();
        assert_eq!(bitmap.count(), list.len() as u64);
        assert_eq!(bitmap.iter().collect::<Vec<_>>(), list);
        for (rank, &bit) in list.iter().enumerate() {
            assert_eq!(bitmap.rank(bit), Some(rank as u64));
            assert_eq!(bitmap.select(rank as u64), Some(bit));
        }
        assert_eq!(bitmap.select(bitmap.count()), None);
        assert_eq!(bitmap.rank(bitmap.bits()), None);
        assert_eq!(bitmap.rank_below(u64::MAX), bitmap.count());
    }

    /// In the second case, three quarters of memory are not in the dump.
    #[test]
    fn index_of_2_gib_of_pages_is_below_a_thousandth_of_them() {
        let dump = 2_usize << 30;
        for (words, pattern) in [(8192, u64::MAX), (4 * 8192, 0x1111_1111_1111_1111)] {
            let bitmap = Bitmap::from_words(vec![pattern; words], words as u64 * 64).unwrap();
            assert_eq!(bitmap.count() * 4096, dump as u64);
            assert!(
                bitmap.heap_bytes() * 1000 <= dump,
                "{}",
                bitmap.heap_bytes()
            );
        }
    }

    #[test]
    fn runs_are_maximal_and_bounded() {
        let (bitmap, list) = sample();
        for &bit in &list {
            let run = bitmap.run_at(bit, u64::MAX);
            assert!(run.clone().all(|b| bitmap.contains(b)));
            assert!(!bitmap.contains(run.end));
            assert_eq!(bitmap.run_at(bit, 1), bit..bit + 1);
        }
        let clear = (0..).find(|b| !bitmap.contains(*b)).unwrap();
        assert!(bitmap.run_at(clear, 9).is_empty());
    }

    #[test]
    fn bits_beyond_the_end_do_not_exist() {
        let bitmap = Bitmap::from_words(vec![u64::MAX; 2], 70).unwrap();
        assert_eq!(bitmap.count(), 70);
        assert!(!bitmap.contains(70));
        assert_eq!(bitmap.iter_from(68).collect::<Vec<_>>(), [68, 69]);
    }
}
