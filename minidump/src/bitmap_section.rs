//! The bitmap's section: the kernel's words as bytes, and back.
//!
//! Bit `b` lies in word `b / W` at `b % W` from the least significant bit, where a word is the
//! kernel's `long` of `W` bits in the kernel's byte order (FreeBSD `sys/sys/bitset.h`).

use crate::{Bitmap, ByteOrder};

/// How the words of a bitmap's section lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordForm {
    /// Byte order of a word.
    pub order: ByteOrder,
    /// Bytes of a word: 4 or 8.
    pub long_size: usize,
}

impl WordForm {
    /// Where byte `at` of the section lies in a bitmap that is little endian throughout.
    fn place(self, at: u64) -> u64 {
        match self.order {
            ByteOrder::Little => at,
            ByteOrder::Big => at ^ (self.long_size as u64 - 1),
        }
    }

    /// Appends the words of `bytes`, a piece of the section that begins and ends at a multiple of
    /// 8. What is left behind the last multiple is dropped.
    pub fn decode(self, bytes: &[u8], words: &mut Vec<u64>) {
        words.extend(bytes.chunks_exact(8).map(|eight| {
            (0..8).fold(0, |word, i| {
                // `place` of less than 8 is less than 8.
                let byte = eight[self.place(i) as usize];
                word | u64::from(byte) << (8 * i)
            })
        }));
    }

    /// Fills `buf` with the section of `bitmap` from byte `at` on; zeros behind its words.
    pub fn encode(self, bitmap: &Bitmap, at: u64, buf: &mut [u8]) {
        let words = bitmap.words();
        for (i, byte) in buf.iter_mut().enumerate() {
            let place = self.place(at + i as u64);
            let word = usize::try_from(place / 8)
                .ok()
                .and_then(|w| words.get(w))
                .copied()
                .unwrap_or(0);
            *byte = word.to_le_bytes()[(place % 8) as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where bit 33 is on each kind of machine, by the rule of `sys/sys/bitset.h`.
    #[test]
    fn bit_33_lies_where_each_kernel_puts_it() {
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
