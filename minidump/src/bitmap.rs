//! A set of pages with rank and select: which page is where in the dump.

use std::ops::Range;

/// Bits per rank block. One `u32` per block is 1/64 of the bitmap's own size.
const BLOCK: u64 = 2048;
const BLOCK_WORDS: usize = (BLOCK / 64) as usize;

/// `vm_page_dump` as a set of bit numbers, with the counts that turn a bit into a place in the
/// data section and back.
///
/// Bit `b` is bit `b % 64` of word `b / 64`, whatever the word size and byte order of the dump
/// were: decoding is done before. Memory is one bit per page plus 1/64 of that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    bits: u64,
    /// Set bits before each block of [`BLOCK`] bits.
    ranks: Vec<u32>,
    total: u64,
}

/// A bitmap counts more than 2^32 pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("page bitmap has {0} set bits, the limit is 4294967295")]
pub struct TooManyPages(pub u64);

impl Bitmap {
    /// A set over `bits` bits from its words. Bits at and beyond `bits` are dropped.
    ///
    /// # Errors
    ///
    /// [`TooManyPages`] if 2^32 bits or more are set.
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

    /// How many bits the set ranges over.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// How many bits are set.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Bytes of memory that the set and its counts take.
    pub fn heap_bytes(&self) -> usize {
        self.words.len() * size_of::<u64>() + self.ranks.len() * size_of::<u32>()
    }

    /// The words, bit 0 the lowest of the first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether `bit` is set; `false` beyond the end.
    pub fn contains(&self, bit: u64) -> bool {
        bit < self.bits && self.words[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    /// How many set bits come before `bit`, if `bit` itself is set.
    pub fn rank(&self, bit: u64) -> Option<u64> {
        self.contains(bit).then(|| self.rank_below(bit))
    }

    /// How many set bits come before `bit`, set or not; all of them beyond the end.
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

    /// The bit that has exactly `rank` set bits before it.
    pub fn select(&self, rank: u64) -> Option<u64> {
        if rank >= self.total {
            return None;
        }
        // The last block whose count is not above `rank`; there is one, since the first is 0.
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

    /// Every set bit from `from` on, ascending.
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

    /// Every set bit, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter_from(0)
    }

    /// The run of set bits that begins at `bit`, at most `limit` long; empty if `bit` is clear.
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

    /// Also where three quarters of the machine's memory are not in the dump.
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
