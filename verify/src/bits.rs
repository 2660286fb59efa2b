//! The page bitmap, and the rank of set bits: the index of a page in the data section.

/// Number of words per count.
const BLOCK: usize = 64;

/// A bitmap with counts, to compute ranks fast.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
    /// Number of set bits before each block of [`BLOCK`] words.
    before: Vec<u64>,
    total: u64,
}

impl Bits {
    /// Adds the next 64 bits.
    pub(crate) fn push(&mut self, word: u64) {
        if self.words.len().is_multiple_of(BLOCK) {
            self.before.push(self.total);
        }
        self.total += u64::from(word.count_ones());
        self.words.push(word);
    }

    /// Memory in bytes for a bitmap of `bits` bits.
    pub(crate) fn memory(bits: u64) -> u64 {
        bits / 8 + bits / 8 / BLOCK as u64
    }

    /// Whether bit `bit` is set.
    pub(crate) fn contains(&self, bit: u64) -> bool {
        let word = usize::try_from(bit / 64)
            .ok()
            .and_then(|i| self.words.get(i));
        word.is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Number of set bits below `bit`.
    pub(crate) fn below(&self, bit: u64) -> u64 {
        let word = usize::try_from(bit / 64).unwrap_or(usize::MAX);
        let Some(last) = self.words.get(word) else {
            return self.total;
        };
        let block = word / BLOCK;
        let whole: u64 = self.words[block * BLOCK..word]
            .iter()
            .map(|w| u64::from(w.count_ones()))
            .sum();
        let part = last & ((1 << (bit % 64)) - 1);
        self.before[block] + whole + u64::from(part.count_ones())
    }

    /// Number of set bits below `bit`; `None` if `bit` is not set.
    pub(crate) fn rank(&self, bit: u64) -> Option<u64> {
        self.contains(bit).then(|| self.below(bit))
    }

    /// The first set bit at or after `bit`.
    pub(crate) fn next(&self, bit: u64) -> Option<u64> {
        let first = usize::try_from(bit / 64).ok()?;
        let masked = self.words.get(first)? & (u64::MAX << (bit % 64));
        let rest = self.words.get(first + 1..).unwrap_or_default();
        std::iter::once(&masked)
            .chain(rest)
            .position(|word| *word != 0)
            .map(|i| {
                let word = if i == 0 { masked } else { rest[i - 1] };
                (first + i) as u64 * 64 + u64::from(word.trailing_zeros())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_is_the_index_in_the_list_of_set_bits() {
        let mut bits = Bits::default();
        let mut list = Vec::new();
        let mut state = 88_172_645_463_325_252_u64;
        for i in 0..300_u64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = if i % 9 == 0 { 0 } else { state };
            bits.push(word);
            list.extend((0..64).filter(|b| word >> b & 1 == 1).map(|b| i * 64 + b));
        }
        for (rank, bit) in list.iter().enumerate() {
            assert_eq!(bits.rank(*bit), Some(rank as u64));
        }
        assert_eq!(bits.below(300 * 64), list.len() as u64);
        assert_eq!(bits.rank(300 * 64), None);
        for from in [0, 1, 575, 576, 640, 19_199] {
            let next = list.iter().copied().find(|b| *b >= from);
            assert_eq!(bits.next(from), next);
        }
        assert_eq!(bits.next(300 * 64), None);
    }
}
