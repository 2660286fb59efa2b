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

    /// Number of bits.
    pub(crate) fn len(&self) -> u64 {
        self.words.len() as u64 * 64
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

/// Marked bits of a [`Bits`].
#[derive(Debug, Default)]
pub(crate) struct Marks {
    words: Vec<u64>,
}

impl Marks {
    /// Marks the bits from `from` up to `to`, which is at most [`Bits::len`].
    pub(crate) fn set(&mut self, from: u64, to: u64) {
        let Ok(words) = usize::try_from(to.div_ceil(64)) else {
            return;
        };
        if from < to && self.words.len() < words {
            self.words.resize(words, 0);
        }
        let mut bit = from;
        while bit < to {
            let end = (bit / 64 + 1) * 64;
            let ones = u64::MAX << (bit % 64);
            let ones = match end <= to {
                true => ones,
                false => ones & !(u64::MAX << (to % 64)),
            };
            self.words[(bit / 64) as usize] |= ones;
            bit = end;
        }
    }

    /// Marks `bit`. Returns whether it was not marked before.
    pub(crate) fn insert(&mut self, bit: u64) -> bool {
        let word = usize::try_from(bit / 64).ok();
        let old = word.and_then(|i| self.words.get(i).copied()).unwrap_or(0);
        self.set(bit, bit + 1);
        old >> (bit % 64) & 1 == 0
    }

    /// The marked bits that are clear in `bits`, ascending.
    pub(crate) fn absent<'a>(&'a self, bits: &'a Bits) -> impl Iterator<Item = u64> + 'a {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            let mut left = word & !bits.words.get(i).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                let bit = i as u64 * 64 + u64::from(left.trailing_zeros());
                (left != 0).then(|| left &= left - 1)?;
                Some(bit)
            })
        })
    }

    /// Number of set bits of `bits` in `range` that are not marked.
    pub(crate) fn unmarked(&self, bits: &Bits, range: std::ops::Range<u64>) -> u64 {
        let mut marked = 0;
        for (i, word) in self.words.iter().enumerate() {
            let set = bits.words.get(i).copied().unwrap_or(0);
            let first = i as u64 * 64;
            let from = range.start.saturating_sub(first).min(64);
            let to = range.end.saturating_sub(first).min(64);
            let below = |n: u64| u64::MAX.checked_shr(64 - n as u32).unwrap_or(0);
            marked += u64::from((word & set & below(to) & !below(from)).count_ones());
        }
        bits.below(range.end)
            .saturating_sub(bits.below(range.start))
            .saturating_sub(marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmarked_counts_set_bits_outside_of_the_marks() {
        let mut bits = Bits::default();
        for word in [u64::MAX, 0xff, 0, 1 << 63, u64::MAX] {
            bits.push(word);
        }
        let mut marks = Marks::default();
        assert_eq!(marks.unmarked(&bits, 0..320), 64 + 8 + 1 + 64);
        for (from, to) in [(0, 0), (5, 7), (60, 68), (255, 257)] {
            marks.set(from, to);
        }
        for range in [0..320, 0..64, 3..6, 6..62, 64..256, 66..300, 320..320] {
            let is_set = |b: u64| b < 72 || b == 255 || b >= 256;
            let is_marked = |b: u64| matches!(b, 5 | 6 | 60..=67 | 255 | 256);
            let expected = range.clone().filter(|b| is_set(*b) && !is_marked(*b));
            let expected = expected.count() as u64;
            assert_eq!(marks.unmarked(&bits, range.clone()), expected, "{range:?}");
        }
        marks.set(130, 131);
        assert_eq!(marks.absent(&bits).collect::<Vec<_>>(), [130]);
    }

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
