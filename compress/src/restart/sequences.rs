//! The repeat offsets after a block, from its sequences (RFC 8878 3.1.1.5). Matches are not executed.

use std::sync::{Arc, LazyLock};

use super::fse::{Counts, State};

/// The three codes of a sequence, in the order in which a block describes their tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    LiteralsLength,
    Offset,
    MatchLength,
}

impl Code {
    pub(super) const ALL: [Self; 3] = [Self::LiteralsLength, Self::Offset, Self::MatchLength];

    /// The largest symbol and accuracy log (RFC 8878 3.1.1.3.2.1).
    pub(super) fn limits(self) -> (usize, u32) {
        match self {
            Self::LiteralsLength => (35, 9),
            Self::Offset => (31, 8),
            Self::MatchLength => (52, 9),
        }
    }

    /// The default distribution (RFC 8878 3.1.1.3.2.2).
    pub(super) fn default_counts(self) -> Counts {
        let (log, runs): (u32, &[(usize, i16)]) = match self {
            Self::LiteralsLength => (
                6,
                &[
                    (1, 4),
                    (1, 3),
                    (11, 2),
                    (3, 1),
                    (9, 2),
                    (1, 3),
                    (1, 2),
                    (5, 1),
                    (4, -1),
                ],
            ),
            Self::Offset => (5, &[(6, 1), (3, 2), (15, 1), (5, -1)]),
            Self::MatchLength => (6, &[(1, 1), (1, 4), (1, 3), (6, 2), (37, 1), (7, -1)]),
        };
        let runs = runs
            .iter()
            .map(|(n, count)| std::iter::repeat_n(*count, *n));
        Counts {
            log,
            counts: runs.flatten().collect(),
        }
    }
}

/// The default tables, described.
pub(super) static DEFAULTS: LazyLock<[Arc<[u8]>; 3]> =
    LazyLock::new(|| Code::ALL.map(|code| code.default_counts().write().into()));

/// A table of one of the codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Table {
    /// A description as a block or the RFC has it.
    Described(Arc<[u8]>),
    /// One symbol, which takes no bits. A dictionary cannot have such a table.
    Single(u8),
}

impl Table {
    fn states(&self, code: Code) -> Option<Vec<State>> {
        match self {
            Self::Described(bytes) => {
                let (most, log) = code.limits();
                Counts::read(bytes, most, log)?.0.table()
            }
            Self::Single(symbol) => Some(vec![State {
                symbol: *symbol,
                bits: 0,
                base: 0,
            }]),
        }
    }
}

/// Baselines and extra bits of the codes of lengths, of which the first is `first` (RFC 8878
/// 3.1.1.3.2.1.1): each code continues where the one before it ends.
const fn lengths<const N: usize>(first: u32, bits: [u32; N]) -> [(u32, u32); N] {
    let mut out = [(0, 0); N];
    let (mut base, mut code) = (first, 0);
    while code < N {
        out[code] = (base, bits[code]);
        base += 1 << bits[code];
        code += 1;
    }
    out
}

/// The codes of literals lengths.
const LITERALS: [(u32, u32); 36] = lengths(
    0,
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10,
        11, 12, 13, 14, 15, 16,
    ],
);
/// The codes of match lengths.
const MATCHES: [(u32, u32); 53] = lengths(
    3,
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
    ],
);

/// A repeat offset: known, or one of those before the block minus a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Known(u32),
    Before { index: usize, minus: u32 },
}

/// The repeat offsets at the beginning of a frame.
pub(super) const FIRST: [u32; 3] = [1, 4, 8];

/// The repeat offsets of a block that has not begun.
const UNCHANGED: [Repeat; 3] = [
    Repeat::Before { index: 0, minus: 0 },
    Repeat::Before { index: 1, minus: 0 },
    Repeat::Before { index: 2, minus: 0 },
];

/// Replaces offsets before the block by `before`. `None` if an offset would be 0.
pub(super) fn compose(after: [Repeat; 3], before: [Repeat; 3]) -> Option<[Repeat; 3]> {
    let mut out = after;
    for repeat in &mut out {
        if let Repeat::Before { index, minus } = *repeat {
            *repeat = less(before[index], minus)?;
        }
    }
    Some(out)
}

fn less(repeat: Repeat, by: u32) -> Option<Repeat> {
    Some(match repeat {
        Repeat::Known(offset) => Repeat::Known(offset.checked_sub(by).filter(|left| *left > 0)?),
        Repeat::Before { index, minus } => Repeat::Before {
            index,
            minus: minus.checked_add(by)?,
        },
    })
}

/// The sequences of a block.
#[derive(Debug, Clone)]
pub(super) struct Sequences {
    pub(super) count: u32,
    /// The tables in effect, in the order of [`Code::ALL`].
    pub(super) tables: [Table; 3],
    pub(super) bits: Vec<u8>,
}

/// Reads bits from the end of a bitstream.
struct Backward<'a> {
    bytes: &'a [u8],
    /// Number of bits that are left.
    left: usize,
}

impl<'a> Backward<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        // The highest bit of the last byte marks the end.
        let mark = bytes.last()?.checked_ilog2()?;
        let left = 8 * (bytes.len() - 1) + mark as usize;
        Some(Self { bytes, left })
    }

    /// The next `n` bits, at most 32.
    fn read(&mut self, n: u32) -> Option<u32> {
        self.left = self.left.checked_sub(n as usize)?;
        let rest = &self.bytes[self.left / 8..];
        let word = match rest.first_chunk() {
            Some(word) => u64::from_le_bytes(*word),
            None => {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(word)
            }
        };
        let word = word >> (self.left % 8);
        Some((word & ((1 << n) - 1)) as u32)
    }
}

/// One sequence.
pub(super) struct Sequence {
    /// Number of literals before the match.
    pub(super) literals: u32,
    /// The offset, as it is coded: at least 1.
    value: u64,
    /// Length of the match.
    pub(super) matched: u32,
}

impl Sequence {
    /// The number of the repeat offset of the match; 3 is the first minus 1. `None` if it has a new one.
    fn repeated(&self) -> Option<u64> {
        (self.value <= 3).then(|| self.value - 1 + u64::from(self.literals == 0))
    }

    /// A new offset.
    fn new_offset(&self) -> Option<u32> {
        // At most 1 << 32.
        u32::try_from(self.value - 3).ok()
    }

    /// The offset of the match. Updates the repeat offsets. `None` if it is 0.
    pub(super) fn offset(&self, repeats: &mut [u32; 3]) -> Option<u32> {
        let [first, second, third] = *repeats;
        *repeats = match self.repeated() {
            None => [self.new_offset()?, first, second],
            Some(0) => *repeats,
            Some(1) => [second, first, third],
            Some(2) => [third, first, second],
            Some(_) => [first.checked_sub(1)?, first, second],
        };
        Some(repeats[0]).filter(|offset| *offset > 0)
    }
}

impl Sequences {
    /// The repeat offsets after the block. `None` if the sequences are damaged.
    pub(super) fn repeats(&self) -> Option<[Repeat; 3]> {
        let mut repeats = UNCHANGED;
        self.each(|sequence| {
            let [first, second, third] = repeats;
            repeats = match sequence.repeated() {
                None => [Repeat::Known(sequence.new_offset()?), first, second],
                Some(0) => repeats,
                Some(1) => [second, first, third],
                Some(2) => [third, first, second],
                Some(_) => [less(first, 1)?, first, second],
            };
            Some(())
        })?;
        Some(repeats)
    }

    /// Passes all sequences to `with`. `None` if they are damaged, or `with` returned it.
    pub(super) fn each(&self, mut with: impl FnMut(Sequence) -> Option<()>) -> Option<()> {
        let mut tables = Vec::with_capacity(3);
        for (code, table) in Code::ALL.iter().zip(&self.tables) {
            tables.push(table.states(*code)?);
        }
        let [literals, offsets, matches] = &tables[..] else {
            return None;
        };
        let mut bits = Backward::new(&self.bits)?;
        // Sizes are powers of two.
        let mut literals_state = bits.read(literals.len().ilog2())?;
        let mut offset_state = bits.read(offsets.len().ilog2())?;
        let mut match_state = bits.read(matches.len().ilog2())?;
        for number in 0..self.count {
            let literal = literals.get(literals_state as usize)?;
            let offset = offsets.get(offset_state as usize)?;
            let matched = matches.get(match_state as usize)?;
            if offset.symbol > 31 {
                return None;
            }
            let value = (1_u64 << offset.symbol) + u64::from(bits.read(offset.symbol.into())?);
            let (match_base, match_bits) = *MATCHES.get(usize::from(matched.symbol))?;
            let match_len = match_base + bits.read(match_bits)?;
            let (literals_base, literals_bits) = *LITERALS.get(usize::from(literal.symbol))?;
            let literals_len = literals_base + bits.read(literals_bits)?;
            with(Sequence {
                literals: literals_len,
                value,
                matched: match_len,
            })?;
            if number + 1 < self.count {
                literals_state = literal.base + bits.read(literal.bits)?;
                match_state = matched.base + bits.read(matched.bits)?;
                offset_state = offset.base + bits.read(offset.bits)?;
            }
        }
        (bits.left == 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_tables_are_those_of_the_standard() {
        for code in Code::ALL {
            let counts = code.default_counts();
            let (most, log) = code.limits();
            let sum: i32 = counts.counts.iter().map(|c| i32::from(*c).abs()).sum();
            assert_eq!(sum, 1 << counts.log);
            let described = counts.write();
            assert_eq!(
                Counts::read(&described, most, log),
                Some((counts, described.len()))
            );
        }
        // RFC 8878 3.1.1.3.2.1.1.
        assert_eq!(
            [LITERALS[15], LITERALS[24], LITERALS[25]],
            [(15, 0), (48, 4), (64, 6)]
        );
        assert_eq!(LITERALS[35], (65536, 16));
        assert_eq!(
            [MATCHES[31], MATCHES[42], MATCHES[43]],
            [(34, 0), (99, 5), (131, 7)]
        );
        assert_eq!(MATCHES[52], (65539, 16));
        // RFC 8878, appendix A.3: states 0, 1 and 31 of the default offset table.
        let table = Code::Offset.default_counts().table().unwrap();
        let state = |n: usize| (table[n].symbol, table[n].bits, table[n].base);
        assert_eq!(
            [state(0), state(1), state(31)],
            [(0, 5, 0), (6, 4, 0), (24, 5, 0)]
        );
    }

    #[test]
    fn offsets_before_the_block_are_replaced() {
        let before = |index, minus| Repeat::Before { index, minus };
        let known = Repeat::Known;
        let after = [before(2, 1), known(9), before(0, 0)];
        let whole = compose(after, [before(1, 2), known(4), before(0, 3)]);
        assert_eq!(whole, Some([before(0, 4), known(9), before(1, 2)]));
        assert_eq!(compose(after, [known(1), known(4), known(1)]), None);
    }
}
