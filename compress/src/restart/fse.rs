//! FSE tables of zstd: descriptions and decoding tables (RFC 8878 4.1).

/// A distribution of symbols: the accuracy log, and the count of each symbol, of which the sum is
/// `1 << log`; -1 is a count of "less than 1", which takes one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) log: u32,
    pub(super) counts: Vec<i16>,
}

/// One state of a decoding table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    pub(super) symbol: u8,
    /// Number of bits to read for the next state.
    pub(super) bits: u32,
    /// The next state without these bits.
    pub(super) base: u32,
}

/// Reads little-endian bits from the beginning of a description.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `n` bits, at most 16, without consuming them. After the end they are zero.
    fn peek(&self, n: u32) -> u32 {
        let mut word = 0;
        for i in 0..4 {
            let byte = self.bytes.get(self.at / 8 + i).copied().unwrap_or(0);
            word |= u32::from(byte) << (8 * i);
        }
        word >> (self.at % 8) & ((1 << n) - 1)
    }

    fn read(&mut self, n: u32) -> u32 {
        let bits = self.peek(n);
        self.at += n as usize;
        bits
    }
}

impl Counts {
    /// Reads the description at the beginning of `bytes`. Returns it and its length in bytes. `None`
    /// if it is invalid, its log exceeds `max_log`, or a symbol exceeds `max_symbol`.
    pub(super) fn read(bytes: &[u8], max_symbol: usize, max_log: u32) -> Option<(Self, usize)> {
        let mut bits = Bits { bytes, at: 0 };
        let log = bits.read(4) + 5;
        if log > max_log {
            return None;
        }
        let mut left = 1_i32 << log;
        let mut counts = Vec::with_capacity(max_symbol + 1);
        while left > 0 {
            if counts.len() > max_symbol || bits.at > 8 * bytes.len() {
                return None;
            }
            // The value is a count plus one: 0 to `left` + 1.
            let most = left as u32 + 1;
            let wide = most.ilog2() + 1;
            let low = (1 << wide) - 1 - most;
            let short = bits.peek(wide - 1);
            let value = if short < low {
                bits.at += wide as usize - 1;
                short
            } else {
                let value = bits.read(wide);
                match value < 1 << (wide - 1) {
                    true => value,
                    false => value - low,
                }
            };
            // At most `left`, which is at most 1 << 9.
            let count = value as i16 - 1;
            counts.push(count);
            left -= i32::from(count).abs();
            if count == 0 {
                loop {
                    let more = bits.read(2);
                    counts.extend(std::iter::repeat_n(0, more as usize));
                    if more < 3 {
                        break;
                    }
                    if counts.len() > max_symbol {
                        return None;
                    }
                }
            }
        }
        let len = bits.at.div_ceil(8);
        let fits = left == 0 && counts.len() <= max_symbol + 1 && len <= bytes.len();
        fits.then_some((Self { log, counts }, len))
    }

    /// Writes the description that [`Self::read`] reads.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        let mut at = 0;
        let mut put = |value: u32, n: u32| {
            for bit in 0..n {
                if at % 8 == 0 {
                    out.push(0);
                }
                if let Some(last) = out.last_mut() {
                    *last |= ((value >> bit & 1) as u8) << (at % 8);
                }
                at += 1;
            }
        };
        put(self.log - 5, 4);
        let mut left = 1_i32 << self.log;
        let mut symbols = self.counts.iter().peekable();
        while let Some(count) = symbols.next().filter(|_| left > 0) {
            let most = left as u32 + 1;
            let wide = most.ilog2() + 1;
            let low = (1 << wide) - 1 - most;
            let value = (count + 1) as u32;
            if value < low {
                put(value, wide - 1);
            } else if value < 1 << (wide - 1) {
                put(value, wide);
            } else {
                put(value + low, wide);
            }
            left -= i32::from(*count).abs();
            if *count == 0 {
                let mut zeros = 0;
                while symbols.next_if(|count| **count == 0).is_some() {
                    zeros += 1;
                }
                while zeros >= 3 {
                    put(3, 2);
                    zeros -= 3;
                }
                put(zeros, 2);
            }
        }
        out
    }

    /// The decoding table. `None` if the counts do not fill it.
    pub(super) fn table(&self) -> Option<Vec<State>> {
        let size = 1_usize << self.log;
        let mut table = vec![State::default(); size];
        let mut high = size;
        for (symbol, count) in self.counts.iter().enumerate() {
            if *count == -1 {
                high = high.checked_sub(1)?;
                table[high].symbol = symbol as u8;
            }
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let (mut at, mut placed) = (0, 0);
        for (symbol, count) in self.counts.iter().enumerate() {
            for _ in 0..(*count).max(0) {
                placed += 1;
                if placed > high {
                    return None;
                }
                table[at].symbol = symbol as u8;
                loop {
                    at = (at + step) & (size - 1);
                    if at < high || placed == high {
                        break;
                    }
                }
            }
        }
        if placed != high {
            return None;
        }
        let mut next: Vec<u32> = self
            .counts
            .iter()
            .map(|c| c.unsigned_abs().into())
            .collect();
        for state in &mut table {
            let next = next.get_mut(usize::from(state.symbol))?;
            // A symbol in the table has a count.
            state.bits = self.log.checked_sub(next.checked_ilog2()?)?;
            state.base = (*next << state.bits).checked_sub(size as u32)?;
            *next += 1;
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_read_as_written() {
        let mut numbers = livecore_tests::random::Random::new(31);
        for _ in 0..2000 {
            let log = 5 + numbers.below(5) as u32;
            let mut left = 1_i32 << log;
            let mut counts = Vec::new();
            while left > 0 && counts.len() < 52 {
                let count = match numbers.below(4) {
                    0 => 0,
                    1 => -1,
                    _ => 1 + numbers.below(left as u64) as i16,
                };
                left -= i32::from(count).abs();
                counts.push(count);
            }
            counts.extend((left > 0).then_some(left as i16));
            let counts = Counts { log, counts };
            let mut bytes = counts.write();
            let len = bytes.len();
            bytes.extend([0xa5; 3]);
            assert_eq!(Counts::read(&bytes, 52, 9), Some((counts.clone(), len)));
            assert_eq!(Counts::read(&bytes[..len - 1], 52, 9), None);
            assert_eq!(counts.table().map(|table| table.len()), Some(1 << log));
        }
    }

    #[test]
    fn other_bytes_are_a_description_or_not_without_a_panic() {
        let mut numbers = livecore_tests::random::Random::new(32);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..numbers.below(40))
                .map(|_| numbers.below(256) as u8)
                .collect();
            if let Some((counts, len)) = Counts::read(&bytes, 35, 9) {
                assert!(len <= bytes.len() && counts.counts.len() <= 36);
                let sum: i32 = counts.counts.iter().map(|c| i32::from(*c).abs()).sum();
                assert_eq!(sum, 1 << counts.log);
                counts.table().unwrap();
            }
        }
    }
}
