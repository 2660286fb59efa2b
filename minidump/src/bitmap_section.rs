//! Converts between the bitmap's section and words.
//!
//! Bit `b` is bit `b % W`, from the least significant one, of word `b / W`. A word is the kernel's
//! `long`, of `W` bits and in the kernel's byte order (FreeBSD `sys/sys/bitset.h`).

use crate::{Bitmap, ByteOrder, Error};

/// The format of the words of a bitmap's section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordForm {
    /// The byte order of a word.
    pub order: ByteOrder,
    /// The size of a word in bytes: 4 or 8.
    pub long_size: usize,
}

/// The memory for a bitmap of `bits` pages, in bytes.
///
/// # Errors
///
/// [`Error::Options`] if it is more than `limit`.
pub(crate) fn bitmap_size(bits: u64, limit: u64) -> Result<u64, Error> {
    let needed = bits.div_ceil(64) * 8;
    if needed > limit {
        return Err(Error::Options(format!(
            "page bitmap needs {needed:#x} bytes of memory, limit is {limit:#x}"
        )));
    }
    Ok(needed)
}

impl WordForm {
    /// Returns the index of byte `at` of the section in a little-endian bitmap.
    fn little_endian_index(self, at: u64) -> u64 {
        match self.order {
            ByteOrder::Little => at,
            ByteOrder::Big => at ^ (self.long_size as u64 - 1),
        }
    }

    /// The bitmap of `bits` pages from the words of the section at `offset`, and the number of stray
    /// bits: those set after the last page in the kernel's last word.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if more bits are set than a bitmap counts.
    pub(crate) fn bitmap(
        self,
        words: Vec<u64>,
        bits: u64,
        offset: u64,
    ) -> Result<(Bitmap, u64), Error> {
        let spare = bits.next_multiple_of(self.long_size as u64 * 8) - bits;
        let stray = words.last().filter(|_| spare > 0).map_or(0, |last| {
            let from = bits % 64;
            let mask = (u64::MAX << from) & (u64::MAX >> (64 - from - spare));
            u64::from((last & mask).count_ones())
        });
        let bitmap = Bitmap::from_words(words, bits).map_err(|e| {
            Error::broken(
                "page bitmap",
                offset,
                format!("{} set bits", e.0),
                "at most 4294967295",
            )
        })?;
        Ok((bitmap, stray))
    }

    /// Appends the words of `bytes`, a piece of the section that starts at a multiple of 8. Bytes
    /// after the last complete word are ignored.
    pub(crate) fn decode(self, bytes: &[u8], words: &mut Vec<u64>) {
        if self.order == ByteOrder::Little {
            let eights = bytes.as_chunks().0;
            return words.extend(eights.iter().map(|eight| u64::from_le_bytes(*eight)));
        }
        words.extend(bytes.chunks_exact(8).map(|eight| {
            (0..8).fold(0, |word, i| {
                // The result is less than 8, because `i` is.
                let byte = eight[self.little_endian_index(i) as usize];
                word | u64::from(byte) << (8 * i)
            })
        }));
    }

    /// Fills `buf` with the section of `bitmap` from byte `at`. Bytes after its words are zero.
    pub(crate) fn encode(self, bitmap: &Bitmap, mut at: u64, mut buf: &mut [u8]) {
        let words = bitmap.words();
        if self.order == ByteOrder::Little && at.is_multiple_of(8) {
            // Copy complete words. The loop below handles the other bytes.
            let from = usize::try_from(at / 8).unwrap_or(usize::MAX);
            let words = words.get(from..).unwrap_or_default();
            let whole = words.len().min(buf.len() / 8);
            let (front, rest) = buf.split_at_mut(whole * 8);
            for (eight, word) in front.chunks_exact_mut(8).zip(words) {
                eight.copy_from_slice(&word.to_le_bytes());
            }
            at += front.len() as u64;
            buf = rest;
        }
        for (i, byte) in buf.iter_mut().enumerate() {
            let index = self.little_endian_index(at + i as u64);
            let word = usize::try_from(index / 8)
                .ok()
                .and_then(|w| words.get(w))
                .copied()
                .unwrap_or(0);
            *byte = word.to_le_bytes()[(index % 8) as usize];
        }
    }
}

/// Whether bytes `at..at + len` of the section of `bitmap` are zero. This checks complete words, so it
/// can return `false` for a zero byte in a word with a set bit.
pub(crate) fn is_zero(bitmap: &Bitmap, at: u64, len: u64) -> bool {
    let index = |at: u64| usize::try_from(at / 8).unwrap_or(usize::MAX);
    let words = bitmap.words();
    let end = index(at.saturating_add(len).saturating_add(7)).min(words.len());
    words
        .get(index(at)..end)
        .unwrap_or_default()
        .iter()
        .all(|word| *word == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_offset_and_length_are_encoded() {
        let words: Vec<u64> = (1..40_u64)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        let bitmap = Bitmap::from_words(words.clone(), 39 * 64).unwrap();
        let form = WordForm {
            order: ByteOrder::Little,
            long_size: 8,
        };
        let mut whole: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        whole.resize(400, 0);
        for at in 0..330 {
            for len in [0, 1, 7, 8, 9, 64, 70] {
                let mut buf = vec![0xee; len];
                form.encode(&bitmap, at as u64, &mut buf);
                assert_eq!(buf, whole[at..at + len]);
            }
        }
        let mut back = Vec::new();
        form.decode(&whole[..39 * 8], &mut back);
        assert_eq!(back, words);
    }

    #[test]
    fn only_zero_words_are_zero() {
        let bitmap = Bitmap::from_words(vec![0, 0, 1 << 63, 0], 256).unwrap();
        assert!(is_zero(&bitmap, 0, 16) && is_zero(&bitmap, 24, 1000));
        assert!(is_zero(&bitmap, u64::MAX, u64::MAX));
        for (at, len) in [(0, 17), (16, 8), (23, 1), (20, 2)] {
            assert!(!is_zero(&bitmap, at, len), "{len} at {at}");
        }
    }

    /// The position of bit 33 for each word size and byte order, by `sys/sys/bitset.h`.
    #[test]
    fn bit_33_is_at_the_kernels_position() {
        for (order, long_size, byte) in [
            (ByteOrder::Little, 8, 4),
            (ByteOrder::Little, 4, 4),
            (ByteOrder::Big, 8, 3),
            (ByteOrder::Big, 4, 7),
        ] {
            let form = WordForm { order, long_size };
            let mut section = [0_u8; 16];
            section[byte] = 2;
            let mut words = Vec::new();
            form.decode(&section, &mut words);
            assert_eq!(words, [1 << 33, 0], "{form:?}");
            let bitmap = Bitmap::from_words(words, 128).unwrap();
            let mut back = [0xff; 16];
            form.encode(&bitmap, 0, &mut back[..5]);
            form.encode(&bitmap, 5, &mut back[5..]);
            assert_eq!(back, section, "{form:?}");
        }
    }

    #[test]
    fn section_beyond_the_words_is_zero() {
        let bitmap = Bitmap::from_words(vec![u64::MAX], 64).unwrap();
        let form = WordForm {
            order: ByteOrder::Big,
            long_size: 4,
        };
        let mut buf = [9; 8];
        form.encode(&bitmap, 6, &mut buf);
        assert_eq!(buf, [0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        form.encode(&bitmap, u64::MAX - 8, &mut buf);
        assert_eq!(buf, [0; 8]);
    }
}
